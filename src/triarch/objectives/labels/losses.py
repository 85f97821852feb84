"""Losses of labels, summed and weighted."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num

from triarch.objectives.sums import Sums, WeightedSum

# "labl": far from the numbers of sides and layers.
_DROPOUT_STREAM = 0x6C61626C


def label_weights(labels: Num[Array, "*batch"], class_weights: Sequence[float]) -> Float[Array, "*batch"]:
    """Returns what each label counts, float32: its class's weight, 0 where there is no label (a negative one)."""
    if jnp.issubdtype(labels.dtype, jnp.floating):
        return jnp.ones(labels.shape, jnp.float32)
    there = labels >= 0
    if not class_weights:
        return there.astype(jnp.float32)
    return jnp.where(there, jnp.asarray(class_weights, jnp.float32)[jnp.maximum(labels, 0)], 0.0)


def cross_entropy(
    logits: Float[Array, "*batch labels"],
    labels: Num[Array, "*batch"],
    weights: Float[Array, "*batch"],
    added: Mapping[str, jax.Array],
) -> tuple[Float[Array, ""], Sums]:
    """Returns the summed cross-entropy of labels, and the sums; `added` are means that count as often as labels do."""
    chosen = jnp.maximum(labels, 0)
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), chosen[..., None], axis=-1)[..., 0]
    there = (labels >= 0).astype(jnp.float32)
    right = WeightedSum(jnp.sum(there * (logits.argmax(-1) == labels)), there.sum())
    return _summed(jnp.sum(losses * weights), weights, {"accuracy": right}, added)


def squared_error(
    values: Float[Array, "*batch"],
    labels: Num[Array, "*batch"],
    weights: Float[Array, "*batch"],
    added: Mapping[str, jax.Array],
) -> tuple[Float[Array, ""], Sums]:
    """Returns the summed squared error of numbers, and the sums; `added` as of `cross_entropy`."""
    return _summed(jnp.sum(weights * (values - labels) ** 2), weights, {}, added)


def dropped(x: Float[Array, "batch length d_model"], rate: float, key: Key[Array, " batch"] | None) -> jax.Array:
    """Returns `x` with some of its numbers 0 and the others larger; without a key, or at rate 0, as it is."""
    if key is None or not rate:
        return x
    keys = jax.vmap(lambda one: jax.random.fold_in(one, _DROPOUT_STREAM))(key)
    kept = jax.vmap(lambda one: jax.random.bernoulli(one, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(kept, x / (1 - rate), 0)


def _summed(
    total: jax.Array, weights: jax.Array, measures: Mapping[str, WeightedSum], added: Mapping[str, jax.Array]
) -> tuple[jax.Array, Sums]:
    by_weight = functools.partial(WeightedSum, weight=weights.sum())
    scaled = {name: value * weights.sum() for name, value in added.items()}
    sums = Sums({"loss": by_weight(total), **measures}, {name: by_weight(value) for name, value in scaled.items()})
    return total + sum(scaled.values()), sums
