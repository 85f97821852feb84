"""Dot-product attention, and the ways to compute it."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from triarch.models.execution import at_least_float32

# Far below any logit, yet finite: softmax over nothing but this is no NaN.
_MASKED = -1e30


def dense_attention(
    query: Float[Array, "batch target heads head_dim"],
    key: Float[Array, "batch source kv_heads head_dim"],
    value: Float[Array, "batch source kv_heads head_dim"],
    allowed: Bool[Array, "#batch 1 target source"] | None,
) -> Float[Array, "batch target heads head_dim"]:
    """Softmax(Q K^T / sqrt(head_dim)) V with the whole square of weights held; softmax in float32.

    Each key/value head serves `heads / kv_heads` consecutive query heads. A query that may see nothing gets zeros.
    """
    groups = query.shape[2] // key.shape[2]
    if groups > 1:
        key, value = (jnp.repeat(x, groups, axis=2) for x in (key, value))
    logits = jnp.einsum("btnh,bsnh->bnts", query, key, preferred_element_type=at_least_float32(query.dtype))
    logits *= 1 / math.sqrt(query.shape[-1])
    if allowed is not None:
        logits = jnp.where(allowed, logits, _MASKED)
    weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
    attended = jnp.einsum("bnts,bsnh->btnh", weights, value)
    if allowed is None:
        return attended
    sees_any = jnp.any(allowed[:, 0], axis=-1)[..., None, None]
    return jnp.where(sees_any, attended, 0)
