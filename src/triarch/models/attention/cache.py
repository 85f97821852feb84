"""The state of a decoder between two tokens: what its layers keep, and where its rows stand."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from triarch.models.layers.context import CacheColumns
from triarch.models.layers.mixer import Kept


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BlockCache:
    """What one layer keeps while decoding: its mixer, its cross-attention, a feed-forward layer that looks back."""

    mixer: Kept = None
    cross: Kept = None
    mlp: Kept = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StackCache:
    """What a stack keeps: its first layers one by one, the repeated ones along a leading axis, as their parameters."""

    first: tuple[BlockCache, ...]
    scanned: tuple[BlockCache, ...]

    def rows(self, indices: Int[Array, " rows"]) -> StackCache:
        """Returns what is kept of chosen rows."""

        def chosen(axis: int, blocks: tuple[BlockCache, ...]) -> tuple[BlockCache, ...]:
            return jax.tree.map(lambda leaf: jnp.take(leaf, indices, axis=axis), blocks)

        return StackCache(chosen(0, self.first), chosen(1, self.scanned))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
    """The state of a decoder between two tokens.

    Attributes:
      layers: what they keep.
      real: which columns hold tokens: not padding, and not what is still to come.
      length: columns filled.
      positions: position of each row's next token.
      memory_segments: which of the encoder's columns hold tokens, for an encoder-decoder.
    """

    layers: StackCache
    real: Bool[Array, "batch capacity"]
    length: Int[Array, ""]
    positions: Int[Array, " batch"]
    memory_segments: Int[Array, "batch source"] | None = None

    @property
    def capacity(self) -> int:
        """Columns there is room for."""
        return self.real.shape[1]

    @property
    def num_bytes(self) -> int:
        """Bytes of all that layers keep."""
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self.layers))

    def rows(self, indices: Int[Array, " rows"]) -> Cache:
        """Returns the cache of chosen rows, in their order; a row may be chosen more than once."""
        shared = {name: getattr(self, name) for name in ("real", "positions", "memory_segments")}
        chosen = jax.tree.map(lambda leaf: jnp.take(leaf, indices, axis=0), shared)
        return dataclasses.replace(self, layers=self.layers.rows(indices), **chosen)

    def extended(self, count: int) -> tuple[Cache, CacheColumns]:
        """Returns the cache of `count` columns more, layers apart, and where those stand."""
        columns = jnp.arange(self.capacity) - self.length
        real = self.real | ((columns >= 0) & (columns < count))
        later = dataclasses.replace(self, real=real, length=self.length + count, positions=self.positions + count)
        return later, CacheColumns(self.length, real)
