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

    def dense(self, query_length: int, key_length: int) -> Bool[Array, "#batch #heads query key"] | None:
        """Returns True where a query (row) may see a key (column); None if every query sees every key."""
        allowed = None
        distance = jnp.arange(query_length)[:, None] - jnp.arange(key_length)[None, :]
        if self.causal:
            allowed = (distance >= 0)[None]
            if self.prefix is not None:
                allowed = allowed | self.prefix[:, None, :]
        if self.window is not None:
            allowed = _both(allowed, (jnp.abs(distance) <= self.window)[None])
        if self.query_segments is not None and self.key_segments is not None:
            same = self.query_segments[:, :, None] == self.key_segments[:, None, :]
            allowed = _both(allowed, same & (self.key_segments > 0)[:, None, :])
        return None if allowed is None else allowed[:, None]


def _both(left: Array | None, right: Array) -> Array:
    return right if left is None else left & right
