"""Where a recurrence starts over: each document of a packed row has a state of its own, padding has none."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def continues(segments: Int[Array, "batch length"] | None) -> Bool[Array, "batch length"] | None:
    """Returns whether each token belongs to the document of the one before it; None: all are of one document.

    A row's first token starts over, and so does each token of padding, which belongs to no document.
    """
    if segments is None:
        return None
    before = jnp.pad(segments[:, :-1], ((0, 0), (1, 0)))
    return (segments > 0) & (segments == before)


def numbered(continues: Bool[Array, "batch length"] | None) -> Int[Array, "batch length"] | None:
    """Returns each token's document, counted from 1 in every row; 0 belongs to what was read before the row."""
    return None if continues is None else jnp.cumsum(~continues, axis=1)


def shifted(
    x: Int[Array, "batch length ..."], count: int, before: jax.Array | None = None
) -> Int[Array, "batch length ..."]:
    """Returns what stood `count` tokens earlier; in front of the row `before`, whose last columns are taken, or 0."""
    if count == 0:
        return x
    if before is None:
        before = jnp.zeros((x.shape[0], count, *x.shape[2:]), x.dtype)
    return jnp.concatenate([before[:, before.shape[1] - count :], x], axis=1)[:, : x.shape[1]]
