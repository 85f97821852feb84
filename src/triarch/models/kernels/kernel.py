"""Dot-product attention, and the ways to compute it.

Each takes queries [batch, target, heads, head_dim], keys and values [batch, source, kv_heads, head_dim], a mask and how
scores are made of products, and returns softmax(scores(Q K^T)) V in the shape of the queries, softmax in float32. Each
key/value head serves `heads / kv_heads` consecutive query heads. A query that may see nothing gets zeros.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from triarch.models.attention.masks import Mask
from triarch.models.attention.relative_bias import RelativeBias
from triarch.models.attention.scores import MASKED, Scores
from triarch.models.layers.transposition import transposed
from triarch.models.precision import at_least_float32

Queries = Float[Array, "batch target heads head_dim"]
Keys = Float[Array, "batch source kv_heads head_dim"]
Attend = Callable[[Queries, Keys, Keys, Mask, Scores], Queries]

_MIN_BLOCK = 64
_MAX_BLOCKS = 8


def attention_weights(
    query: Queries, key: Keys, mask: Mask, scores: Scores
) -> Float[Array, "batch heads target source"]:
    """Returns softmax(scores(Q K^T)), at least float32: rows sum to one, or are zero where a query may see nothing."""
    logits = jnp.einsum(
        "btnh,bsnh->bnts", query, _repeated(key, query), preferred_element_type=at_least_float32(query.dtype)
    )
    logits = scores.capped(logits)
    if scores.bias is not None:
        logits += scores.bias.block(slice(0, query.shape[1]), slice(0, key.shape[1]))
    allowed = mask.dense(query.shape[1], key.shape[1])
    if allowed is None:
        return jax.nn.softmax(logits, axis=-1)
    weights = jax.nn.softmax(jnp.where(allowed, logits, MASKED), axis=-1)
    return jnp.where(jnp.any(allowed, axis=-1, keepdims=True), weights, 0)


def dense_attention(
    query: Queries,
    key: Keys,
    value: Keys,
    mask: Mask,
    scores: Scores,
    drop: Callable[[Array], Array] = lambda weights: weights,
) -> Queries:
    """Holds the whole square of weights: the plain formula. `drop` leaves some of them out."""
    weights = drop(attention_weights(query, key, mask, scores)).astype(value.dtype)
    return jnp.einsum("bnts,bsnh->btnh", weights, _repeated(value, query))


def blocked_attention(query: Queries, key: Keys, value: Keys, mask: Mask, scores: Scores) -> Queries:
    """Goes through blocks of queries, each with only those keys that are in reach of it.

    The backward pass computes weights anew from what normalises them (FlashAttention, arXiv 2205.14135), so that no
    square is ever held, and a causal mask halves the work.
    """
    return _blocked(query, _repeated(key, query), _repeated(value, query), mask, scores)


KERNELS: dict[str, Attend] = {"dense": dense_attention, "blocked": blocked_attention}


def _repeated(keys: Keys, query: Queries) -> Keys:
    groups = query.shape[2] // keys.shape[2]
    return jnp.repeat(keys, groups, axis=2) if groups > 1 else keys


@jax.custom_vjp
def _blocked(query: Array, key: Array, value: Array, mask: Mask, scores: Scores) -> Array:
    return _blocked_forward(query, key, value, mask, scores)[0]


def _blocked_forward(query: Array, key: Array, value: Array, mask: Mask, scores: Scores) -> tuple[Array, tuple]:
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    transposed_value = transposed(value)
    attended, highests, totals = jnp.zeros(_by_position(query).shape, query.dtype), [], []
    for rows, columns in _blocks(query.shape[2], key.shape[2], mask):
        logits, allowed, _ = _block_logits(query, key, mask, scores, rows, columns)
        highest = jnp.max(logits, axis=2, keepdims=True)
        weights = _exponentials(logits, allowed, highest)
        total = jnp.sum(weights, axis=2, keepdims=True)
        # Where nothing is seen all weights are zero; dividing by one keeps them so.
        total = jnp.where(total > 0, total, 1)
        block = jnp.einsum("bnhs,bnst->bnht", transposed_value[..., columns], weights.astype(value.dtype))
        attended = attended.at[:, rows].set((block / total).astype(query.dtype).transpose(0, 3, 1, 2))
        highests.append(highest)
        totals.append(total)
    highest, total = (jnp.concatenate(parts, axis=3) for parts in (highests, totals))
    return attended, (query, key, value, mask, scores, attended, highest, total)


def _blocked_backward(saved: tuple, slope: Array) -> tuple[Array, Array, Array, None, Scores]:
    """Slopes are divided by the softmax's totals once, weights never.

    Slopes are gathered block by block where they belong: to concatenate blocks takes XLA on a CPU several times as
    long.
    """
    query, key, value, mask, scores, attended, highest, total = saved
    wide = at_least_float32(query.dtype)
    query_slope, key_slope, value_slope = (jnp.zeros(_by_position(x).shape, wide) for x in (query, key, value))
    bias_slope = jax.tree.map(jnp.zeros_like, scores.bias)
    slope = slope.astype(wide) / total.transpose(0, 3, 1, 2)
    projection = jnp.sum(slope * attended.astype(wide), axis=-1).swapaxes(1, 2)[:, :, None]
    slope = slope.astype(query.dtype).swapaxes(1, 2)
    transposed_key = transposed(key)
    for rows, columns in _blocks(query.shape[2], key.shape[2], mask):
        logits, allowed, capped = _block_logits(query, key, mask, scores, rows, columns)
        weights = _exponentials(logits, allowed, highest[..., rows])
        pulled = jnp.einsum("bnsh,bnth->bnst", value[:, :, columns], slope[:, :, rows], preferred_element_type=wide)
        logit_slope = weights * (pulled - projection[..., rows])
        if scores.bias is not None:
            bias_slope = jax.tree.map(jnp.add, bias_slope, _bias_slope(scores.bias, logit_slope, rows, columns))
        bent = (logit_slope * scores.slope(capped)).astype(query.dtype)
        weights = weights.astype(query.dtype)
        query_part = jnp.einsum("bnhs,bnst->bnht", transposed_key[..., columns], bent, preferred_element_type=wide)
        key_part = jnp.einsum("bnst,bnth->bnsh", bent, query[:, :, rows], preferred_element_type=wide)
        value_part = jnp.einsum("bnst,bnth->bnsh", weights, slope[:, :, rows], preferred_element_type=wide)
        query_slope = query_slope.at[:, rows].set(query_part.transpose(0, 3, 1, 2))
        key_slope = key_slope.at[:, columns].add(_by_position(key_part))
        value_slope = value_slope.at[:, columns].add(_by_position(value_part))
    slopes = query_slope.astype(query.dtype), key_slope.astype(key.dtype), value_slope.astype(value.dtype)
    return *slopes, None, dataclasses.replace(scores, bias=bias_slope)


_blocked.defvjp(_blocked_forward, _blocked_backward)


def _blocks(target: int, source: int, mask: Mask) -> list[tuple[slice, slice]]:
    """Returns ranges of queries and, for each, of the keys in reach."""
    size = max(_MIN_BLOCK, math.ceil(target / _MAX_BLOCKS))
    rows = [slice(start, min(start + size, target)) for start in range(0, target, size)]
    return [(block, mask.keys_in_reach(block, source)) for block in rows]


def _by_position(by_head: Array) -> Array:
    """[batch, heads, length, head_dim] -> [batch, length, heads, head_dim]."""
    return by_head.swapaxes(1, 2)


def _block_logits(
    query: Array, key: Array, mask: Mask, scores: Scores, rows: slice, columns: slice
) -> tuple[Array, Array | None, Array]:
    """Returns a block's logits, where they may be seen, and the capped products before bias and mask.

    All are [batch, heads, key, query]: with keys first no product here or of the backward pass has a transposed left
    operand, which takes a CPU twice the time.
    """
    wide = at_least_float32(query.dtype)
    products = jnp.einsum("bnsh,bnth->bnst", key[:, :, columns], query[:, :, rows], preferred_element_type=wide)
    capped = scores.capped(products)
    bias = None if scores.bias is None else scores.bias.block(rows, columns)
    allowed = mask.block(rows, columns)
    bias, allowed = (None if x is None else x.swapaxes(-1, -2) for x in (bias, allowed))
    logits = capped if bias is None else capped + bias
    return (logits if allowed is None else jnp.where(allowed, logits, MASKED)), allowed, capped


def _exponentials(logits: Array, allowed: Array | None, highest: Array) -> Array:
    """Returns weights before they are divided by their sum."""
    weights = jnp.exp(logits - highest)
    return weights if allowed is None else jnp.where(allowed, weights, 0)


def _bias_slope(bias: RelativeBias, logit_slope: Array, rows: slice, columns: slice) -> RelativeBias:
    """Returns the gradient of the biases, given that of a block's logits with keys first."""
    _, pull = jax.vjp(lambda bias: bias.block(rows, columns), bias)
    summed = jnp.sum(logit_slope, axis=0, keepdims=True).swapaxes(-1, -2)
    return pull(summed.astype(bias.table.dtype))[0]
