"""Splash attention, jax's Pallas kernel for TPUs: no square of weights is held, and blocks nobody sees are skipped.

Each device runs the kernel on its own rows, heads and queries, since the compiler cannot split a kernel by itself.
Queries split over a sequence axis see the keys of the whole row, which are gathered.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as splash_masks
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool

from triarch.models.attention.masks import Mask
from triarch.models.attention.scores import Scores
from triarch.models.kernels.kernel import Keys, Queries
from triarch.models.placing import Constrain, unconstrained

_LANES = 128
_BLOCKS = (512, 256, 128)
# Of what the forward pass makes, all that the backward pass needs: rematerialisation calls it so.
_RESIDUALS = "attention"
_ROWS, _QUERIES, _HEADS, _KEYS = "batch", "length", "heads", "kv_heads"


def splash_attention(
    query: Queries,
    key: Keys,
    value: Keys,
    mask: Mask,
    scores: Scores,
    constrain: Constrain = unconstrained,
    interpret: bool = False,
) -> Queries:
    """Runs the kernel.

    Args:
      query: as for every kernel, like the next two.
      key: of the whole row.
      value: of the whole row.
      mask: of any kind; a prefix makes every row's mask its own, which costs a square of bits.
      scores: a scale and a soft cap, no bias.
      constrain: places activations on the mesh.
      interpret: run on a CPU, slowly.
    """
    if constrain.shards(_KEYS, key.shape[2]) != constrain.shards(_HEADS, query.shape[2]):
        key, value = (jnp.repeat(x, query.shape[2] // x.shape[2], axis=2) for x in (key, value))
    scaled = query if scores.scale == 1 else (query * scores.scale).astype(query.dtype)
    queries = _padded(scaled, _LANES * constrain.shards(_QUERIES, query.shape[1]))
    keys, values = _padded(key, _LANES), _padded(value, _LANES)
    make = functools.partial(
        splash.make_splash_mha,
        block_sizes=_block_sizes(queries.shape[1] // constrain.shards(_QUERIES, queries.shape[1]), keys.shape[1]),
        attn_logits_soft_cap=scores.softcap,
        residual_checkpoint_name=_RESIDUALS,
        head_shards=1,
        interpret=interpret,
    )
    if mask.prefix is not None:
        dense = mask.dense(query.shape[1], key.shape[1])
        assert dense is not None  # A prefix hides something.
        allowed = jnp.broadcast_to(dense[:, 0], (*query.shape[:2], key.shape[1]))
        allowed = jnp.swapaxes(_padded(jnp.swapaxes(_padded(allowed, queries.shape[1]), 1, 2), keys.shape[1]), 1, 2)
        attended = _rows_of_their_own(queries, keys, values, allowed, make, constrain)
    else:
        segments = _segments(mask, query, key, queries.shape[1], keys.shape[1])
        attended = _rows_at_once(queries, keys, values, segments, mask, make, constrain)
    sees_any, attended = _sees_any(mask), attended[:, : query.shape[1]]
    return attended if sees_any is None else jnp.where(sees_any[..., None, None], attended, 0)


def can_splash(query: Queries, scores: Scores) -> bool:
    """Whether the kernel serves: not for biases by distance, nor for the few tokens of a decoding step."""
    return scores.bias is None and query.shape[1] >= _LANES


def _rows_at_once(
    query: Queries,
    key: Keys,
    value: Keys,
    segments: splash.SegmentIds | None,
    mask: Mask,
    make: Callable,
    constrain: Constrain,
) -> Queries:
    targets, sources = query.shape[1], key.shape[1]
    shards = constrain.shards(_QUERIES, targets)
    heads = query.shape[2] // constrain.shards(_HEADS, query.shape[2])
    kernel = make(_static_mask(mask, targets, sources, heads), q_seq_shards=shards)

    def run(kernel: Callable, query: Array, key: Array, value: Array, segments: splash.SegmentIds | None) -> Array:
        # The name tells `triarch plan` what the compiler does not know of a kernel: how much of the square it does.
        with jax.named_scope(f"visited_{_visited(mask, targets, sources):.4f}"):
            return jax.vmap(_heads_first(kernel))(query, key, value, segments)

    if constrain.mesh is None:
        return run(kernel, query, key, value, segments)
    rows = constrain.spec((_ROWS, _QUERIES), query.shape[:2])
    specs = (
        kernel.manual_sharding_spec(NamedSharding(constrain.mesh, PartitionSpec(None, rows[1]))),
        constrain.spec((_ROWS, _QUERIES, _HEADS, None), query.shape),
        *(constrain.spec((_ROWS, None, _KEYS, None), x.shape) for x in (key, value)),
        None if segments is None else splash.SegmentIds(cast(Any, rows), cast(Any, PartitionSpec(rows[0], None))),
    )
    mapped = jax.shard_map(run, mesh=constrain.mesh, in_specs=specs, out_specs=specs[1], check_vma=False)
    return mapped(kernel, query, key, value, segments)


def _rows_of_their_own(
    query: Queries,
    key: Keys,
    value: Keys,
    allowed: Bool[Array, "batch target source"],
    make: Callable,
    constrain: Constrain,
) -> Queries:
    """Runs one row after another, each with a mask that is known only when it runs."""

    def one(row: tuple[Array, ...]) -> Array:
        *inputs, seen = row
        return _heads_first(_marked_dynamic(make(seen[None], q_seq_shards=1)))(*inputs, None)

    def run(*inputs: Array) -> Array:
        return jax.lax.map(one, inputs)

    if constrain.mesh is None:
        return run(query, key, value, allowed)
    places = (_ROWS, _QUERIES, _HEADS, None), *(((_ROWS, None, _KEYS, None),) * 2), (_ROWS, _QUERIES, None)
    inputs = (query, key, value, allowed)
    specs = tuple(constrain.spec(axes, x.shape) for axes, x in zip(places, inputs, strict=True))
    return jax.shard_map(run, mesh=constrain.mesh, in_specs=specs, out_specs=specs[0], check_vma=False)(*inputs)


def _marked_dynamic(kernel: splash.SplashAttentionKernel) -> splash.SplashAttentionKernel:
    """Turns the mark that a mask is dynamic back into a constant: made inside jit it is traced, which jax minds."""
    for name in ("fwd_mask_info", "dq_mask_info", "dkv_mask_info"):
        setattr(kernel, name, getattr(kernel, name)._replace(is_dynamic_mask=True))
    return kernel


def _heads_first(kernel: Callable) -> Callable:
    def run(query: Array, key: Array, value: Array, segments: splash.SegmentIds | None) -> Array:
        by_head = (x.swapaxes(0, 1) for x in (query, key, value))
        return kernel(*by_head, segments).swapaxes(0, 1).astype(query.dtype)

    return run


def _static_mask(mask: Mask, targets: int, sources: int, heads: int) -> splash_masks.MultiHeadMask:
    """Returns who may see whom by place alone."""
    shape = (targets, sources)
    if mask.window is not None:
        one: Any = splash_masks.LocalMask(shape, (mask.window, 0 if mask.causal else mask.window), 0)
    else:
        one = splash_masks.CausalMask(shape) if mask.causal else splash_masks.FullMask(shape)
    return splash_masks.MultiHeadMask([one] * heads)


def _visited(mask: Mask, targets: int, sources: int) -> float:
    """Returns the share of blocks that the kernel goes through."""
    size = _block(targets), _block(sources)
    rows = [slice(start, start + size[0]) for start in range(0, targets, size[0])]
    reach = [mask.keys_in_reach(block, sources) for block in rows]
    columns = sum(math.ceil(keys.stop / size[1]) - keys.start // size[1] for keys in reach)
    return columns * size[1] / (len(rows) * sources)


def _block_sizes(targets: int, sources: int) -> splash.BlockSizes:
    query, key = _block(targets), _block(sources)
    return splash.BlockSizes(
        block_q=query,
        block_kv=key,
        block_q_dkv=query,
        block_kv_dkv=key,
        block_q_dq=query,
        block_kv_dq=key,
    )


def _block(length: int) -> int:
    return next(size for size in _BLOCKS if length % size == 0)


def _padded(x: Array, multiple: int) -> Array:
    """Adds zeros to axis 1 up to a multiple."""
    missing = -x.shape[1] % multiple
    return jnp.pad(x, ((0, 0), (0, missing), *((0, 0),) * (x.ndim - 2))) if missing else x


def _segments(mask: Mask, query: Queries, key: Keys, targets: int, sources: int) -> splash.SegmentIds | None:
    """Returns the documents of queries and keys, padding to `targets` and `sources` being none."""
    if mask.query_segments is None or mask.key_segments is None:
        if sources == key.shape[1]:
            return None
        ids: Iterable[jax.Array] = (jnp.ones(x.shape[:2], jnp.int32) for x in (query, key))
    else:
        ids = (mask.query_segments, mask.key_segments)
    pads = targets - query.shape[1], sources - key.shape[1]
    return splash.SegmentIds(*(jnp.pad(x, ((0, 0), (0, pad))) for x, pad in zip(ids, pads, strict=True)))


def _sees_any(mask: Mask) -> Bool[Array, "batch target"] | None:
    """Returns which queries see a key at all; None if all do. The kernel takes padding for one more document."""
    queries, keys = mask.query_segments, mask.key_segments
    if queries is None or keys is None:
        return None
    if queries is keys:
        return queries > 0
    return jnp.any((queries[:, :, None] == keys[:, None, :]) & (keys[:, None, :] > 0), axis=-1)
