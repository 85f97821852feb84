"""Dropout: what a training step leaves out, the same of an example however the batch is split."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from triarch.errors import UserError

# Where a network leaves numbers out: the rate of each place, and what tells its keys from those of the others.
_PLACES = {
    "embedding": ("embedding", 0),
    "self_attention": ("attention", 1),
    "cross_attention": ("attention", 2),
    "feed_forward": ("feed_forward", 3),
    "final": ("final", 4),
}
Place = Literal["embedding", "self_attention", "cross_attention", "feed_forward", "final"]


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Shares of numbers that a training step sets to 0 (JMLR 15:1929); the others grow, so that means stay.

    Evaluations leave nothing out. T5 (arXiv 1910.10683) has 0.1 at all four places, RedLLM's tuning (arXiv 2510.26622)
    0.05 on what layers add, Ettin (arXiv 2507.11412) 0.1 on what attention adds.

    Attributes:
      embedding: of a stack's first input, positions and norm included.
      attention: of what self- and cross-attention add to the residual stream.
      feed_forward: of what feed-forward layers add to it.
      final: of a stack's output.
    """

    embedding: float = 0.0
    attention: float = 0.0
    feed_forward: float = 0.0
    final: float = 0.0

    def validate(self) -> None:
        """Raises UserError, naming the field, for a rate that is no share."""
        for field in dataclasses.fields(self):
            rate = getattr(self, field.name)
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
                raise UserError(f"Dropout.{field.name} = {rate!r}: expected a share from 0 on and below 1")

    def __bool__(self) -> bool:
        """Whether anything is left out."""
        return any(getattr(self, field.name) for field in dataclasses.fields(self))


NO_DROPOUT = Dropout()


@dataclasses.dataclass(frozen=True)
class DropoutKeys:
    """Rates, and what decides for each example of a batch which numbers are left out.

    Attributes:
      rates: by place.
      keys: one for each example.
    """

    rates: Dropout
    keys: Key[Array, " batch"]

    def within(self, number: int | Int[Array, ""]) -> DropoutKeys:
        """Returns the keys of one of several parts, as of a side or a layer."""
        return dataclasses.replace(self, keys=_folded(self.keys, number))

    def apply(self, x: Float[Array, "batch ..."], place: Place) -> Float[Array, "batch ..."]:
        """Returns `x` with some of its numbers 0 and the others divided by the share of those that are kept."""
        name, number = _PLACES[place]
        rate = getattr(self.rates, name)
        if not rate:
            return x
        keys = _folded(self.keys, number)
        kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
        return jnp.where(kept, x / (1 - rate), 0)


def dropped(x: Float[Array, "batch ..."], keys: DropoutKeys | None, place: Place) -> Float[Array, "batch ..."]:
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
