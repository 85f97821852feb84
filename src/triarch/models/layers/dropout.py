"""Dropout: what a training step leaves out, the same of an example however the batch is split."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from triarch.models.layers.dropout_rates import Dropout

# Where a network leaves numbers out: the rate of each place, and what tells its keys from those of the others.
_PLACES = {
    "embedding": ("embedding", 0),
    "self_attention": ("attention", 1),
    "cross_attention": ("attention", 2),
    "feed_forward": ("feed_forward", 3),
    "final": ("final", 4),
    "adapter": ("adapter", 5),
    "self_attention_weights": ("attention_weights", 6),
    "cross_attention_weights": ("attention_weights", 7),
    "inner": ("inner", 8),
}
DropoutPlace = Literal[
    "embedding", "self_attention", "cross_attention", "feed_forward", "final", "adapter",
    "self_attention_weights", "cross_attention_weights", "inner",
]  # fmt: skip


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DropoutKeys:
    """Rates, and what decides for each example of a batch which numbers are left out.

    Attributes:
      rates: by place.
      keys: one for each example.
    """

    rates: Dropout = dataclasses.field(metadata={"static": True})
    keys: Key[Array, " batch"]

    def within(self, number: int | Int[Array, ""]) -> DropoutKeys:
        """Returns the keys of one of several parts, as of a side or a layer."""
        return dataclasses.replace(self, keys=_folded(self.keys, number))

    def apply(self, x: Float[Array, "batch ..."], place: DropoutPlace) -> Float[Array, "batch ..."]:
        """Returns `x` with some of its numbers 0 and the others divided by the share of those that are kept."""
        name, number = _PLACES[place]
        rate = getattr(self.rates, name)
        if not rate:
            return x
        keys = _folded(self.keys, number)
        kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
        return jnp.where(kept, x / (1 - rate), 0)


def dropped(x: Float[Array, "batch ..."], keys: DropoutKeys | None, place: DropoutPlace) -> Float[Array, "batch ..."]:
    """Returns `x` after the dropout of a place; without keys as it is."""
    return x if keys is None else keys.apply(x, place)


def example_keys(key: Key[Array, ""], step: Int[Array, ""], rows: Int[Array, " batch"]) -> Key[Array, " batch"]:
    """Returns a key for each example of a step's batch.

    Args:
      key: of the run.
      step: updates made before.
      rows: the examples' places in the global batch.
    """
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, step), rows)


def _folded(keys: Key[Array, " batch"], number: int | Int[Array, ""]) -> Key[Array, " batch"]:
    return jax.vmap(jax.random.fold_in, (0, None))(keys, number)
