"""Making parameters: an initial value and the logical name of each of its dimensions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

# Standard deviation of a normal truncated at two standard deviations.
_TRUNCATED_STD = 0.87962566103423978


def normal(rngs: nnx.Rngs, shape: tuple[int, ...], std: float, axes: tuple[str | None, ...]) -> nnx.Param:
    """Returns a float32 parameter of standard deviation `std`, truncated at two of the underlying normal's."""
    value = jax.random.truncated_normal(rngs.params(), -2.0, 2.0, shape, jnp.float32)
    return nnx.Param(value * (std / _TRUNCATED_STD), logical_axes=axes)


def constant(value: float, shape: tuple[int, ...], axes: tuple[str | None, ...]) -> nnx.Param:
    """Returns a float32 parameter filled with `value`."""
    return nnx.Param(jnp.full(shape, value, jnp.float32), logical_axes=axes)
