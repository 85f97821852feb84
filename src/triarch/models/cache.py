"""The key-value cache: what a decoder keeps of the tokens it has read, so that a new one costs one token's work.

Columns count the tokens of a row, padding on the left included, so that all rows of a batch stand at the same column
whatever their lengths. A global layer keeps every column. A layer with a window of W keeps the last W + 1 in a ring:
column c lies in slot c mod (W + 1). Both are a ring, the global one never going round.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from triarch.models.kernels import Attend
from triarch.models.masks import Mask
from triarch.models.precision import at_least_float32
from triarch.models.scores import MASKED, Scores

Heads = Float[Array, "batch length heads head_dim"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KeyValues:
    """Keys (normed and rotated) and values of one attention sublayer; heads come first, as products want them."""

    key: Float[Array, "batch kv_heads slots head_dim"]
    value: Float[Array, "batch kv_heads slots head_dim"]

    @classmethod
    def of(cls, key: Heads, value: Heads) -> KeyValues:
        """Takes keys and values as a layer makes them."""
        return cls(key.swapaxes(1, 2), value.swapaxes(1, 2))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BlockCache:
    """What one layer keeps: of its own tokens, and of the encoder's where it attends to them."""

    own: KeyValues
    memory: KeyValues | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StackCache:
    """What a stack keeps: its first layers one by one, the repeated ones along a leading axis, as their parameters."""

    first: tuple[BlockCache, ...]
    scanned: tuple[BlockCache, ...]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
    """The state of a decoder between two tokens.

    Attributes:
      layers: keys and values.
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
        """Bytes of all keys and values."""
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self.layers))

    def rows(self, indices: Int[Array, " rows"]) -> Cache:
        """Returns the cache of chosen rows, in their order; a row may be chosen more than once."""

        def chosen(axis: int, tree):
            return jax.tree.map(lambda leaf: jnp.take(leaf, indices, axis=axis), tree)

        layers = StackCache(chosen(0, self.layers.first), chosen(1, self.layers.scanned))
        shared = {name: chosen(0, getattr(self, name)) for name in ("real", "positions", "memory_segments")}
        return dataclasses.replace(self, layers=layers, **shared)

    def reorder(self, indices: Int[Array, " batch"]) -> Cache:
        """Returns the cache after rows that continue the same prompt have changed places: `memory` stays as it is."""

        def moved(axis: int, blocks: tuple[BlockCache, ...]) -> tuple[BlockCache, ...]:
            def take(leaf: jax.Array) -> jax.Array:
                return jnp.take(leaf, indices, axis=axis)

            return tuple(dataclasses.replace(block, own=jax.tree.map(take, block.own)) for block in blocks)

        return dataclasses.replace(self, layers=StackCache(moved(0, self.layers.first), moved(1, self.layers.scanned)))

    def extended(self, count: int) -> tuple[Cache, Extension]:
        """Returns the cache of `count` columns more, layers apart, and how layers are to write and read those."""
        columns = jnp.arange(self.capacity) - self.length
        real = self.real | ((columns >= 0) & (columns < count))
        later = dataclasses.replace(self, real=real, length=self.length + count, positions=self.positions + count)
        return later, Extension(self.length, real, count)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prefill:
    """How layers read a whole prompt: as in training, and every key and value goes into a new cache.

    Attributes:
      capacity: columns of the cache.
    """

    capacity: int = dataclasses.field(metadata={"static": True})

    def attend(
        self, query: Heads, key: Heads, value: Heads, mask: Mask, scores: Scores, kernel: Attend, kept: None
    ) -> tuple[Heads, KeyValues]:
        """Returns what the prompt attends to in itself, and the cache of this layer."""
        held = KeyValues.of(key, value)
        return kernel(query, key, value, mask, scores), jax.tree.map(lambda x: self._ring(x, mask.window), held)

    def attend_across(
        self, query: Heads, key: Heads, value: Heads, mask: Mask, scores: Scores, kernel: Attend, kept: None
    ) -> tuple[Heads, KeyValues]:
        """Returns what the prompt attends to in the encoder's output, whose keys and values are kept as they are."""
        return kernel(query, key, value, mask, scores), KeyValues.of(key, value)

    def _ring(self, columns: Float[Array, "batch heads length dim"], window: int | None) -> jax.Array:
        length, slots = columns.shape[2], ring_slots(window, self.capacity)
        if length <= slots:
            return jnp.pad(columns, ((0, 0), (0, 0), (0, slots - length), (0, 0)))
        return jnp.roll(columns[:, :, length - slots :], length % slots, axis=2)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Extension:
    """How layers read new tokens: their keys and values are written to the cache, which is then attended to.

    Attributes:
      start: column of the first new token.
      real: which columns hold tokens, the new ones included.
      count: new tokens of every row.
    """

    start: Int[Array, ""]
    real: Bool[Array, "batch capacity"]
    count: int = dataclasses.field(metadata={"static": True})

    def attend(
        self, query: Heads, key: Heads, value: Heads, mask: Mask, scores: Scores, kernel: Attend, kept: KeyValues
    ) -> tuple[Heads, KeyValues]:
        """Returns what new tokens attend to in the cache and themselves, and the cache with them."""
        slots = ring_slots(mask.window, self.real.shape[1])
        new = KeyValues.of(key, value)
        if self.count == 1 or mask.window is None:
            kept = jax.tree.map(lambda old, x: _write(old, x, self.start % slots), kept, new)
            columns = self._columns_of(slots, self.start + self.count - 1)
            return self._seen(query, kept, columns, mask.window, scores), kept
        # Several tokens overwrite what the first of them may still see.
        both = jax.tree.map(lambda old, x: jnp.concatenate([old, x], axis=2), kept, new)
        fresh = self.start + jnp.arange(self.count)
        columns = jnp.concatenate([self._columns_of(slots, self.start - 1), fresh])
        last = slice(max(self.count - slots, 0), None)
        kept = jax.tree.map(lambda old, x: old.at[:, :, fresh[last] % slots].set(x[:, :, last]), kept, new)
        return self._seen(query, both, columns, mask.window, scores), kept

    def attend_across(
        self, query: Heads, key: None, value: None, mask: Mask, scores: Scores, kernel: Attend, kept: KeyValues
    ) -> tuple[Heads, KeyValues]:
        """Returns what new tokens attend to in the encoder's output, whose keys and values are known."""
        return attend_to_kept(query, kept, (mask.key_segments > 0)[:, None, None], scores, None), kept

    @staticmethod
    def _columns_of(slots: int, newest: Int[Array, ""]) -> Int[Array, " slots"]:
        """Returns the column in each slot of a ring; a negative one where there is none yet."""
        return newest - (newest - jnp.arange(slots)) % slots

    def _seen(
        self, query: Heads, kept: KeyValues, columns: Int[Array, " slots"], window: int | None, scores: Scores
    ) -> Heads:
        distances = self.start + jnp.arange(self.count)[:, None] - columns
        near = (distances >= 0) & (columns >= 0)
        near = near if window is None else near & (distances <= window)
        real = jnp.take(self.real, columns, axis=1, mode="clip")
        bias = None if scores.bias is None else scores.bias.before(distances, self.real.shape[1])
        return attend_to_kept(query, kept, near & real[:, None, None], scores, bias)


Update = Prefill | Extension


def ring_slots(window: int | None, capacity: int) -> int:
    """Returns how many columns a layer keeps."""
    return capacity if window is None else min(window + 1, capacity)


def attend_to_kept(
    query: Float[Array, "batch count heads head_dim"],
    kept: KeyValues,
    allowed: Bool[Array, "batch 1 #count slots"],
    scores: Scores,
    bias: Float[Array, "1 heads count slots"] | None,
) -> Float[Array, "batch count heads head_dim"]:
    """Returns softmax(scores(Q K^T)) V for a few queries; one that may see nothing gets zeros."""
    batch, count, heads, width = query.shape
    kv_heads = kept.key.shape[1]
    wide = at_least_float32(query.dtype)
    # Query heads that share a key head are further rows of the same product.
    rows = query.swapaxes(1, 2).reshape(batch, kv_heads, -1, width)
    product = functools.partial(jnp.einsum, preferred_element_type=wide)
    logits = scores.capped(product("bkrh,bksh->bkrs", rows, kept.key)).reshape(batch, heads, count, -1)
    logits = logits if bias is None else logits + bias
    logits = jnp.where(allowed, logits, MASKED)
    weights = jnp.where(allowed, jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True)), 0)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    grouped = weights.astype(kept.value.dtype).reshape(batch, kv_heads, -1, weights.shape[-1])
    attended = product("bkrs,bksh->bkrh", grouped, kept.value).reshape(batch, heads, count, width)
    return (attended / jnp.where(total > 0, total, 1)).astype(query.dtype).swapaxes(1, 2)


def _write(kept: jax.Array, new: jax.Array, slot: Int[Array, ""]) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(kept, new.astype(kept.dtype), slot, axis=2)
