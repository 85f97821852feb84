"""Exact search: the nearest vectors by their dot products, block by block on the device."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

# What is compared at once: 16,384 passages with 256 queries are 16 MiB of scores.
_PASSAGES = 2**14
_QUERIES = 256


def nearest_passages(
    queries: np.ndarray, passages: np.ndarray, count: int, advance: Callable[[int], None] = lambda queries: None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of each query's nearest passages, int32[queries, count], and their scores, float32.

    The largest dot products come first, and of equal ones the passage that stands first.

    Args:
      queries: float32[queries, d_model].
      passages: float32[passages, d_model].
      count: how many are wanted; fewer are found where there are fewer passages.
      advance: called with how many more queries are done.
    """
    count = min(count, len(passages))
    block = min(_PASSAGES, _power(len(passages)))
    padded = np.pad(passages, ((0, -len(passages) % block), (0, 0)))
    blocks = [jnp.asarray(padded[first : first + block]) for first in range(0, len(padded), block)]
    indices, scores = [], []
    for first in range(0, len(queries), _QUERIES):
        chosen = queries[first : first + _QUERIES]
        rows = jnp.asarray(np.pad(chosen, ((0, _power(len(chosen)) - len(chosen)), (0, 0))))
        best = jnp.full((len(rows), count), -jnp.inf), jnp.zeros((len(rows), count), jnp.int32)
        for number, part in enumerate(blocks):
            start = number * block
            best = _merged(*best, rows, part, jnp.int32(start), jnp.int32(len(passages) - start), count)
        scores.append(np.asarray(best[0])[: len(chosen)])
        indices.append(np.asarray(best[1])[: len(chosen)])
        advance(len(chosen))
    return np.concatenate(indices), np.concatenate(scores)


@functools.partial(jax.jit, static_argnums=6)
def _merged(
    scores: jax.Array,
    indices: jax.Array,
    queries: jax.Array,
    block: jax.Array,
    start: jax.Array,
    num_real: jax.Array,
    count: int,
) -> tuple[jax.Array, jax.Array]:
    """Returns the best of those that were best so far and of a block, whose first passage is number `start`."""
    found = jnp.einsum("qd,pd->qp", queries, block, precision=jax.lax.Precision.HIGHEST)
    found = jnp.where(jnp.arange(len(block)) < num_real, found, -jnp.inf)
    top, place = jax.lax.top_k(found, min(count, len(block)))
    # Of equal scores the first is taken, and what was found before stands first.
    all_scores = jnp.concatenate([scores, top], axis=1)
    all_indices = jnp.concatenate([indices, start + place.astype(jnp.int32)], axis=1)
    best, chosen = jax.lax.top_k(all_scores, count)
    return best, jnp.take_along_axis(all_indices, chosen, axis=1)


def _power(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()
