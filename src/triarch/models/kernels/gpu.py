"""cuDNN's flash attention, through jax."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from triarch.models.attention.masks import Mask
from triarch.models.attention.scores import Scores
from triarch.models.kernels.kernel import Keys, Queries

_LARGEST_HEAD = 128


def cudnn_attention(query: Queries, key: Keys, value: Keys, mask: Mask, scores: Scores) -> Queries:
    """Runs the kernel: causal masks and their windows are its own; all else that hides keys costs it a square of bits.

    It knows no window that also reaches to the right.
    """
    whole = mask.query_segments is None and mask.prefix is None and (mask.causal or mask.window is None)
    allowed = None if whole else mask.dense(query.shape[1], key.shape[1])
    attended = jax.nn.dot_product_attention(
        query,
        key,
        value,
        mask=allowed,
        scale=scores.scale,
        is_causal=whole and mask.causal,
        local_window_size=(mask.window, 0) if whole and mask.window is not None else None,
        implementation="cudnn",
    )
    if allowed is None:
        return attended
    sees_any = jnp.any(allowed[:, 0], axis=-1)[..., None, None]
    return jnp.where(sees_any, attended, 0)


def can_cudnn(query: Queries, scores: Scores) -> bool:
    """Whether the kernel serves: 16-bit numbers, heads of at most 128, neither bias nor cap; not for single tokens."""
    narrow = query.dtype in (jnp.bfloat16, jnp.float16)
    fits = query.shape[3] <= _LARGEST_HEAD and query.shape[3] % 8 == 0 and query.shape[1] > 1
    return narrow and fits and scores.bias is None and scores.softcap is None
