"""What can be said of an attention matrix in a number: how local, how even, of what rank."""

from __future__ import annotations

import jax.numpy as jnp
from jax.scipy.special import xlogy
from jaxtyping import Array, Bool, Float

Matrices = Float[Array, "*shape query key"]


def locality(weights: Matrices, window: int, causal: bool) -> Float[Array, "*shape query"]:
    """Returns each query's attention mass on its `window` nearest keys (arXiv 2510.26622: 5).

    The query's own place and the `window - 1` before it under a causal mask, half of them on each side without one.
    Queries and keys are the same tokens.
    """
    queries, keys = weights.shape[-2:]
    distance = jnp.arange(queries)[:, None] - jnp.arange(keys)[None, :]
    near = (distance >= 0) & (distance < window) if causal else jnp.abs(distance) <= window // 2
    return jnp.sum(jnp.where(near, weights, 0), axis=-1)


def entropy(weights: Matrices) -> Float[Array, "*shape query"]:
    """Returns the entropy of each query's distribution over keys, in nats."""
    return -jnp.sum(xlogy(weights, weights), axis=-1)


def query_dependence(weights: Matrices) -> Float[Array, "*shape"]:
    """Returns how much a query tells of where it looks: the mutual information of query and key, in nats.

    The entropy of the mean distribution less the mean entropy; 0 where all queries look at the same keys (vertical
    stripes in a map), log(keys) where each looks at one of its own.
    """
    return entropy(jnp.mean(weights, axis=-2)) - jnp.mean(entropy(weights), axis=-1)


def singular_values(weights: Matrices) -> Float[Array, "*shape rank"]:
    """Returns singular values, largest first."""
    return jnp.linalg.svd(weights, compute_uv=False)


def effective_rank(values: Float[Array, "*shape rank"]) -> Float[Array, "*shape"]:
    """Returns exp of the entropy of singular values that sum to one (Roy & Vetterli, EUSIPCO 2007).

    1 for a matrix of rank one, n for an orthogonal matrix of n rows; a real number in between.
    """
    shares = values / jnp.sum(values, axis=-1, keepdims=True)
    return jnp.exp(entropy(shares))


def numerical_rank(values: Float[Array, "*shape rank"], threshold: float) -> Float[Array, "*shape"]:
    """Returns how many singular values are above `threshold` times the largest."""
    return jnp.sum(values > threshold * values[..., :1], axis=-1).astype(values.dtype)


def uniform(allowed: Bool[Array, "*shape query key"]) -> Matrices:
    """Returns the matrix whose queries look at all they may see alike: what a mask alone makes of attention."""
    seen = allowed.astype(jnp.float32)
    return seen / jnp.maximum(jnp.sum(seen, axis=-1, keepdims=True), 1)
