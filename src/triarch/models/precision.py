"""Number types inside the network."""

from __future__ import annotations

import jax.numpy as jnp


def at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    """The type for sums, norms and logits of activations of `dtype`: float32, or wider where activations are."""
    return jnp.promote_types(dtype, jnp.float32)
