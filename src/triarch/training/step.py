"""One update, and one evaluation, as jitted functions of the state and a global batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from triarch.models import Network
from triarch.models.assemblies import Batch
from triarch.models.layers.dropout import example_keys
from triarch.objectives.base import BoundObjective
from triarch.objectives.sums import Sums
from triarch.training.config import RunConfig
from triarch.training.optimizers import optimizer as optimizers
from triarch.training.state import TrainState

Metrics = dict[str, jax.Array]
# "drop": far from the numbers of the parameters, which count up.
_DROPOUT_STREAM = 0x64726F70
EvalStep = Callable[[Any, Batch], Sums]


class TrainStep:
    """The jitted update, (state, batch) -> (new state, metrics); it donates the state it is given.

    The learning rate enters as an argument, so that runs which differ in their length or schedule alone share one
    compiled program.
    """

    def __init__(
        self,
        update: Any,
        schedule: Callable[[jax.Array], jax.Array],
        replicated: NamedSharding,
        seed: int | None,
    ):
        """Takes the parts.

        Args:
          update: jitted, takes (state, batch, rate, key).
          schedule: gives the rate from the updates made.
          replicated: sharding of both.
          seed: of the key; None: there is none.
        """
        self._update = update
        self._rate = jax.jit(schedule, out_shardings=replicated)
        self._replicated = replicated
        self._seed = seed

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """Returns the new state, and float32 scalars: the mean of each of the objective's sums by its name, as `loss`,
        `grad_norm` (before clipping) and `learning_rate`."""
        return self._update(state, batch, self._rate(state.step), self._key)

    def lower(self, state: TrainState, batch: Mapping[str, Any]) -> jax.stages.Lowered:
        """Returns the update lowered for the given (abstract) state and batch, to be compiled ahead of time."""
        rate = jax.ShapeDtypeStruct((), jnp.float32, sharding=self._replicated)
        key = None
        if self._seed is not None:
            key = jax.ShapeDtypeStruct((), jax.eval_shape(self._make_key).dtype, sharding=self._replicated)
        return self._update.lower(state, batch, rate, key)

    @functools.cached_property
    def _key(self) -> jax.Array | None:
        return None if self._seed is None else jax.jit(self._make_key, out_shardings=self._replicated)()

    def _make_key(self) -> jax.Array:
        assert self._seed is not None
        # Of a stream of its own: from the seed itself come the parameters.
        return jax.random.fold_in(jax.random.key(self._seed), _DROPOUT_STREAM)


def make_train_step(
    network: Network,
    config: RunConfig,
    objective: BoundObjective,
    target: TrainState,
    batch_sharding: NamedSharding,
) -> TrainStep:
    """Returns the update.

    The gradient is that of the summed loss over the whole global batch, divided by its summed weights: neither
    microbatches nor devices have a mean of their own.

    Args:
      network: the network.
      config: of the run.
      objective: what the loss is.
      target: abstract state with shardings.
      batch_sharding: of the batch's leading axis.
    """

    def loss(trained: Any, params: Any, examples: tuple[Batch, Any], weight: jax.Array) -> tuple[jax.Array, Sums]:
        batch, keys = examples
        total, sums = objective.loss(network.merge(network.completed(trained, params)), batch, keys)
        return total / weight, sums

    def update(state: TrainState, batch: Batch, rate: jax.Array, key: Any) -> tuple[TrainState, Metrics]:
        transformation = optimizers.at_rate(config.optimizer, lambda count: rate, network.trained_specs)
        # Divided by before the backward pass: afterwards it would be a pass of its own over all gradients.
        weight = _nonzero(objective.weight(batch))
        trained = network.trained(state.params)
        gradients = functools.partial(jax.grad(loss, has_aux=True), trained, weight=weight)
        keys = None
        if key is not None:
            rows = jax.lax.with_sharding_constraint(jnp.arange(_num_rows(batch)), batch_sharding)
            keys = example_keys(key, state.step, rows)
        grads, sums = _accumulated(gradients, state.params, (batch, keys), config.microbatches, batch_sharding)
        updates, opt_state = transformation.update(grads, state.opt_state, trained)
        metrics = _means(sums) | {"grad_norm": optax.tree.norm(grads), "learning_rate": rate}
        step = state.step + 1
        params = network.completed(optax.apply_updates(trained, updates), state.params)
        return TrainState(step, params, opt_state), metrics

    replicated = NamedSharding(batch_sharding.mesh, PartitionSpec())
    shardings = jax.tree.map(lambda leaf: leaf.sharding, target)
    jitted = jax.jit(update, donate_argnums=0, out_shardings=(shardings, replicated))
    drops = bool(config.dropout) or bool(getattr(config.objective, "dropout", False))
    seed = config.seed if drops else None
    return TrainStep(jitted, lambda step: config.optimizer.learning_rate(step, config.steps), replicated, seed)


def make_eval_step(
    network: Network, config: RunConfig, objective: BoundObjective, batch_sharding: NamedSharding
) -> EvalStep:
    """Returns the jitted function (params, batch) -> Sums of the global batch, without gradients."""

    def loss(params: Any, batch: Batch) -> Sums:
        return objective.loss(network.merge(params), batch)[1]

    def evaluate(params: Any, batch: Batch) -> Sums:
        return _accumulated(loss, params, batch, config.microbatches, batch_sharding)

    # Whole on every device, so that every host can read them.
    return jax.jit(evaluate, out_shardings=NamedSharding(batch_sharding.mesh, PartitionSpec()))


@jax.jit
def all_finite(params: Any) -> jax.Array:
    """Returns whether no parameter is infinite or not a number."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]).all()


def _num_rows(batch: Batch) -> int:
    return next(iter(batch.values())).shape[0]


def _accumulated(
    function: Callable[[Any, Any], Any], params: Any, batch: Any, microbatches: int, batch_sharding: NamedSharding
) -> Any:
    """Returns the sum of `function` over the parts of the batch, one after another."""
    if microbatches == 1:
        return function(params, batch)

    def split(x: jax.Array) -> jax.Array:
        # Every microbatch takes its rows from all devices alike, so that none travels.
        x = x.reshape(x.shape[0] // microbatches, microbatches, *x.shape[1:]).swapaxes(0, 1)
        spec = PartitionSpec(None, *batch_sharding.spec)
        return jax.lax.with_sharding_constraint(x, NamedSharding(batch_sharding.mesh, spec))

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(params, part)), None

    parts = jax.tree.map(split, batch)
    first = jax.eval_shape(function, params, jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), first)
    return jax.lax.scan(add, zeros, parts)[0]


def _means(sums: Sums) -> Metrics:
    return {name: one.total / _nonzero(one.weight) for name, one in sums.named.items()}


def _nonzero(weight: jax.Array) -> jax.Array:
    return jnp.where(weight > 0, weight, 1.0)
