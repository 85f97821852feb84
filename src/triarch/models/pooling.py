"""From the states of a text's tokens to one vector for the text."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from triarch.errors import UserError, nearest

Pooling = Literal["mean", "cls", "last"]
POOLINGS = ("mean", "cls", "last")
# A vector of zeros stays one.
_SMALLEST_NORM = 1e-12


def check_pooling(pooling: str, where: str) -> None:
    """Raises UserError unless there is such a pooling; `where` is what asks for it."""
    if pooling not in POOLINGS:
        raise UserError(f"{where}: no pooling {pooling!r}{nearest(str(pooling), POOLINGS)}: expected mean, cls or last")


def pooled(
    states: Float[Array, "batch length d_model"], real: Int[Array, "batch length"], pooling: Pooling
) -> Float[Array, "batch d_model"]:
    """Returns a float32 vector for each row: the mean over its real tokens, the first one's state or the last one's.

    Args:
      states: of the last layer.
      real: more than 0 where a token counts; whichever side the padding is on. Of a row without any, "mean" is zero.
      pooling: "mean", "cls" (the first real token) or "last".
    """
    there = real > 0
    states = states.astype(jnp.float32)
    if pooling == "mean":
        weights = there.astype(jnp.float32)
        total = jnp.einsum("btd,bt->bd", states, weights)
        return total / jnp.maximum(weights.sum(1), 1.0)[:, None]
    first = jnp.argmax(there, axis=1)
    last = there.shape[1] - 1 - jnp.argmax(there[:, ::-1], axis=1)
    place = first if pooling == "cls" else last
    return jnp.take_along_axis(states, place[:, None, None], axis=1)[:, 0]


def normalized(vectors: Float[Array, "... d_model"]) -> Float[Array, "... d_model"]:
    """Returns the vectors at length 1, so that their dot products are cosines; zeros stay zeros.

    The gradient is finite at zero, too.
    """
    squares = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(squares, _SMALLEST_NORM**2))
