"""One update, and one evaluation, as jitted functions of the state and a global batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from triarch.objectives.losses import LossSums, loss_fn, scored_features
from triarch.training import optimizers
from triarch.training.config import RunConfig
from triarch.training.state import Network, TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
EvalStep = Callable[[Any, Batch], LossSums]


class TrainStep:
    """The jitted update, (state, batch) -> (new state, metrics); it donates the state it is given.

    The learning rate enters as an argument, so that runs which differ in their length or schedule alone share one
    compiled program.
    """

    def __init__(self, update: Any, schedule: Callable[[jax.Array], jax.Array], replicated: NamedSharding):
        """`update`, jitted, takes (state, batch, rate); `schedule` gives the rate from the updates made."""
        self._update = update
        self._rate = jax.jit(schedule, out_shardings=replicated)
        self._replicated = replicated

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """Returns the new state, and float32 scalars `loss` and `z_loss` (nats a weighted token), `accuracy`,
        `grad_norm` (before clipping) and `learning_rate`."""
        return self._update(state, batch, self._rate(state.step))

    def lower(self, state: TrainState, batch: Mapping[str, Any]) -> jax.stages.Lowered:
        """Returns the update lowered for the given (abstract) state and batch, to be compiled ahead of time."""
        return self._update.lower(state, batch, jax.ShapeDtypeStruct((), jnp.float32, sharding=self._replicated))


def make_train_step(
    network: Network,
    config: RunConfig,
    target: TrainState,
    batch_sharding: NamedSharding,
    num_scored: int | None = None,
) -> TrainStep:
    """Returns the update.

    The gradient is that of the summed loss over the whole global batch, divided by its summed weights: neither
    microbatches nor devices have a mean of their own.

    Args:
      network: the network.
      config: of the run.
      target: abstract state with shardings.
      batch_sharding: of the batch's leading axis.
      num_scored: at most this many targets of a row have weight (see `loss_fn`).
    """

    def loss(params: Any, batch: Batch, weight: jax.Array) -> tuple[jax.Array, LossSums]:
        total, sums = loss_fn(
            network.merge(params),
            batch,
            z_loss=config.z_loss,
            chunk=config.loss_chunk,
            num_scored=num_scored,
        )
        return total / weight, sums

    def update(state: TrainState, batch: Batch, rate: jax.Array) -> tuple[TrainState, Metrics]:
        transformation = optimizers.at_rate(config.optimizer, lambda count: rate)
        # Divided by before the backward pass: afterwards it would be a pass of its own over all gradients.
        weight = _nonzero(scored_features(batch)[1].sum())
        gradients = functools.partial(jax.grad(loss, has_aux=True), weight=weight)
        grads, sums = _accumulated(gradients, state.params, batch, config.microbatches, batch_sharding)
        updates, opt_state = transformation.update(grads, state.opt_state, state.params)
        metrics = _means(sums) | {"grad_norm": optax.tree.norm(grads), "learning_rate": rate}
        return TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state), metrics

    replicated = NamedSharding(batch_sharding.mesh, PartitionSpec())
    shardings = jax.tree.map(lambda leaf: leaf.sharding, target)
    jitted = jax.jit(update, donate_argnums=0, out_shardings=(shardings, replicated))
    return TrainStep(jitted, lambda step: config.optimizer.learning_rate(step, config.steps), replicated)


def make_eval_step(
    network: Network, config: RunConfig, batch_sharding: NamedSharding, num_scored: int | None = None
) -> EvalStep:
    """Returns the jitted function (params, batch) -> LossSums of the global batch, without gradients."""

    def loss(params: Any, batch: Batch) -> LossSums:
        model = network.merge(params)
        chunk = config.loss_chunk
        return loss_fn(model, batch, z_loss=config.z_loss, chunk=chunk, num_scored=num_scored)[1]

    def evaluate(params: Any, batch: Batch) -> LossSums:
        return _accumulated(loss, params, batch, config.microbatches, batch_sharding)

    # Whole on every device, so that every host can read them.
    return jax.jit(evaluate, out_shardings=NamedSharding(batch_sharding.mesh, PartitionSpec()))


@jax.jit
def all_finite(params: Any) -> jax.Array:
    """Returns whether no parameter is infinite or not a number."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]).all()


def _accumulated(
    function: Callable[[Any, Batch], Any], params: Any, batch: Batch, microbatches: int, batch_sharding: NamedSharding
) -> Any:
    """Returns the sum of `function` over the parts of the batch, one after another."""
    if microbatches == 1:
        return function(params, batch)

    def split(x: jax.Array) -> jax.Array:
        # Every microbatch takes its rows from all devices alike, so that none travels.
        x = x.reshape(x.shape[0] // microbatches, microbatches, *x.shape[1:]).swapaxes(0, 1)
        spec = PartitionSpec(None, *batch_sharding.spec)
        return jax.lax.with_sharding_constraint(x, NamedSharding(batch_sharding.mesh, spec))

    def add(total: Any, part: Batch) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(params, part)), None

    parts = jax.tree.map(split, batch)
    first = jax.eval_shape(function, params, jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), first)
    return jax.lax.scan(add, zeros, parts)[0]


def _means(sums: LossSums) -> Metrics:
    weight = _nonzero(sums.weight_sum)
    return {
        "loss": sums.loss_sum / weight,
        "z_loss": sums.z_loss_sum / weight,
        "accuracy": sums.correct_sum / weight,
    }


def _nonzero(weight: jax.Array) -> jax.Array:
    return jnp.where(weight > 0, weight, 1.0)
