"""How far a network's activations move in its first updates, by width: the coordinate check of a parametrization.

Under "mup" (arXiv 2203.03466, appendix D.1) they move as far at any width; under "standard" those behind hidden
matrices, and logits, move further the wider the network is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from triarch.errors import UserError
from triarch.models import Execution, ModelConfig, Network
from triarch.training.config import RunConfig, validate
from triarch.training.inputs import open_inputs
from triarch.training.optimizers.schedules import Constant
from triarch.training.run import assemble

Parametrization = Literal["standard", "mup", "complete_p"]
LOGITS = "logits"


@dataclasses.dataclass(frozen=True)
class Coordinate:
    """The size of one layer's activations at one width.

    Attributes:
      parametrization: of the network.
      width: its `d_model`.
      place: "encoder 0" for the residual stream after the encoder's first layer, and so on; "logits".
      initial: mean magnitude of its numbers before the first update.
      moved: mean magnitude of how far they are from there after the last one.
    """

    parametrization: str
    width: int
    place: str
    initial: float
    moved: float


@dataclasses.dataclass(frozen=True, eq=False)
class _Observing(Execution):
    """An execution that shows the residual stream after each layer; layers are unrolled, so that each shows its own."""

    observe: Callable[[jax.Array], None] = lambda x: None

    def rematerialise(self, function: Callable) -> Callable:
        def run(*args: Any) -> Any:
            x, rest = function(*args)
            self.observe(x)
            return x, rest

        return run


def widened(model: ModelConfig, factor: int, parametrization: Parametrization) -> ModelConfig:
    """Returns the network `factor` times as wide, by more heads, whose base is `model`."""
    sizes: dict[str, Any] = {name: factor * getattr(model, name) for name in ("d_model", "d_ff", "num_heads")}
    if model.num_kv_heads is not None:
        sizes["num_kv_heads"] = factor * model.num_kv_heads
    base: dict[str, Any] = {"base_d_model": None, "base_head_dim": None, "base_layers": None}
    if parametrization != "standard":
        base["base_d_model"] = model.d_model
    if parametrization == "complete_p":
        base["base_layers"] = max(model.num_encoder_layers, model.num_decoder_layers)
    return dataclasses.replace(model, **sizes, **base, parametrization=parametrization)


def check(
    config: RunConfig,
    factors: Sequence[int],
    steps: int,
    parametrizations: Sequence[Parametrization] = ("standard", "mup"),
) -> Iterator[Coordinate]:
    """Yields how far activations move at each width, a network after the other.

    Every network begins with the same seed, and makes `steps` updates at the peak of the config's schedule on the run's
    first batches; activations are those of the first batch.

    Args:
      config: of the base.
      factors: widths, as multiples of the base's.
      steps: updates.
      parametrizations: to be checked.

    Raises:
      UserError: a network cannot be, or the store is not in order.
    """
    rate = Constant(config.optimizer.learning_rate.peak_rate)
    optimizer: Any = dataclasses.replace(config.optimizer, learning_rate=rate)  # type: ignore[type-var]
    config = dataclasses.replace(config, optimizer=optimizer, steps=max(steps, 1))
    if config.phases or config.adapter is not None:
        raise UserError("RunConfig: a coordinate check is of a run without phases and adapters")
    for kind in parametrizations:
        for factor in factors:
            model = widened(config.model, factor, kind)
            own = dataclasses.replace(config, model=model)
            validate(own)
            yield from _moved(own, steps, kind)


def slopes(found: Sequence[Coordinate]) -> dict[tuple[str, str], float]:
    """Returns, by (parametrization, place), the power of width by which activations move further; 0 is right."""
    result = {}
    for key in dict.fromkeys((one.parametrization, one.place) for one in found):
        own = [one for one in found if (one.parametrization, one.place) == key]
        widths, moved = (np.log([getattr(one, field) for one in own]) for field in ("width", "moved"))
        result[key] = float(np.polyfit(widths, moved, 1)[0])
    return result


def _moved(config: RunConfig, steps: int, kind: str) -> list[Coordinate]:
    run = assemble(config, open_inputs(config), jax.devices()[:1])
    state, batches = run.initial_state(), run.batches(0)
    first = batch = next(batches)
    activations = jax.jit(_activations(run.network, config))
    before = activations(state.params, first)
    for _ in range(steps):
        state, _ = run.train_step(state, batch)
        batch = next(batches)
    batches.close()
    after = activations(state.params, first)
    return [
        Coordinate(kind, config.model.d_model, place, float(jnp.abs(old).mean()), float(jnp.abs(new - old).mean()))
        for place, old, new in zip(_places(config.model), before, after, strict=True)
    ]


def _activations(network: Network, config: RunConfig) -> Callable[[Any, Any], list[jax.Array]]:
    """Returns a function from parameters and a batch to what `_places` lists."""

    def run(params: Any, batch: Any) -> list[jax.Array]:
        found: list[jax.Array] = []
        execution = _Observing(
            compute_dtype=config.execution.compute_dtype, scan_layers=False, attention="dense", observe=found.append
        )
        logits = Network(config.model, execution, make_head=network.make_head).merge(params)(batch)
        return [*found, logits]

    return run


def _places(config: ModelConfig) -> list[str]:
    sides = (("encoder", config.num_encoder_layers), ("decoder", config.num_decoder_layers))
    return [f"{side} {layer}" for side, count in sides for layer in range(count)] + [LOGITS]
