"""Which key a query may see, as a value: rendered to a dense array now, to a kernel's own form where one serves."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mask:
    """Who sees whom in one attention layer; conditions combine by "and".

    Attributes:
      query_segments: id of the document each query belongs to, 0 for padding; None: all one document.
      key_segments: the same for keys; a query sees keys of its own document only, and nobody sees padding.
      prefix: keys visible to every query of their document in spite of `causal` (prefix language models).
      causal: a query sees no key to its right.
      window: a query sees keys at most this many tokens away.
    """

    query_segments: Int[Array, "batch query"] | None = None
    key_segments: Int[Array, "batch key"] | None = None
    prefix: Bool[Array, "batch key"] | None = None
    causal: bool = dataclasses.field(default=False, metadata={"static": True})
    window: int | None = dataclasses.field(default=None, metadata={"static": True})

    def with_window(self, window: int | None) -> Mask:
        """Returns the same mask with a sliding window of `window` tokens a side, or without one."""
        return dataclasses.replace(self, window=window)

    def dense(self, query_length: int, key_length: int) -> Bool[Array, "#batch 1 query key"] | None:
        """Returns True where a query (row) may see a key (column); None if every query sees every key."""
        return self.block(slice(0, query_length), slice(0, key_length))

    def keys_in_reach(self, queries: slice, key_length: int) -> slice:
        """Returns the keys that some query of a range may see by its place alone, whatever the segments."""
        first, end = 0, key_length
        if self.causal and self.prefix is None:
            end = min(end, queries.stop)
        if self.window is not None:
            first, end = max(first, queries.start - self.window), min(end, queries.stop + self.window)
        return slice(first, end)

    def block(self, queries: slice, keys: slice) -> Bool[Array, "#batch 1 query key"] | None:
        """Returns the part of `dense` for ranges of queries and keys."""
        allowed = None
        distance = jnp.arange(queries.start, queries.stop)[:, None] - jnp.arange(keys.start, keys.stop)[None, :]
        if self.causal and not (self.prefix is None and keys.stop - 1 <= queries.start):
            allowed = (distance >= 0)[None]
            if self.prefix is not None:
                allowed = allowed | self.prefix[:, None, keys]
        if self.window is not None:
            allowed = _both(allowed, (jnp.abs(distance) <= self.window)[None])
        if self.query_segments is not None and self.key_segments is not None:
            key_segments = self.key_segments[:, None, keys]
            allowed = _both(allowed, (self.query_segments[:, queries, None] == key_segments) & (key_segments > 0))
        return None if allowed is None else allowed[:, None]


def _both(left: Array | None, right: Array) -> Array:
    return right if left is None else left & right
