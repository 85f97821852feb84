"""One update, and one evaluation, as jitted functions of the state and a global batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from triarch.objectives.losses import LossSums, loss_fn
from triarch.training.config import RunConfig
from triarch.training.state import Network, TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
EvalStep = Callable[[Any, Batch], LossSums]


def make_train_step(
    network: Network,
    transformation: optax.GradientTransformation,
    config: RunConfig,
    target: TrainState,
    batch_sharding: NamedSharding,
    num_scored: int | None = None,
) -> TrainStep:
    """Returns the jitted update; it donates the state it is given.

    The gradient is that of the summed loss over the whole global batch, divided by its summed weights: neither
    microbatches nor devices have a mean of their own.

    Args:
      network: the network.
      transformation: the optimizer.
      config: of the run.
      target: abstract state with shardings.
      batch_sharding: of the batch's leading axis.
      num_scored: at most this many targets of a row have weight (see `loss_fn`).

    Returns:
      A function (state, batch) -> (new state, metrics): float32 scalars `loss` and `z_loss` (nats a weighted token),
      `accuracy`, `grad_norm` (before clipping), `learning_rate`.
    """

    def loss(params: Any, batch: Batch) -> tuple[jax.Array, LossSums]:
        return loss_fn(
            network.merge(params),
            batch,
            z_loss=config.z_loss,
            chunk=config.loss_chunk,
            num_scored=num_scored,
        )

    def gradients(params: Any, batch: Batch) -> tuple[Any, LossSums]:
        return jax.grad(loss, has_aux=True)(params, batch)

    def update(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        grads, sums = _accumulated(gradients, state.params, batch, config.microbatches, batch_sharding)
        weight = _nonzero(sums.weight_sum)
        grads = jax.tree.map(lambda grad: grad / weight, grads)
        updates, opt_state = transformation.update(grads, state.opt_state, state.params)
        metrics = _means(sums) | {
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": config.optimizer.learning_rate(state.step, config.steps),
        }
        return TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state), metrics

    replicated = NamedSharding(batch_sharding.mesh, PartitionSpec())
    shardings = jax.tree.map(lambda leaf: leaf.sharding, target)
    return jax.jit(update, donate_argnums=0, out_shardings=(shardings, replicated))


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

    return jax.jit(evaluate)


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
