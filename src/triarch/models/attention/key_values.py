"""What attention keeps of the tokens it has read: their keys and values, so that a new token costs one token's work.

A global layer keeps every column. A layer with a window of W keeps the last W + 1 in a ring: column c lies in slot
c mod (W + 1). Both are a ring, the global one never going round.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from triarch.models.attention.scores import MASKED, Scores
from triarch.models.layers.context import CacheColumns
from triarch.models.precision import at_least_float32

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

    def in_ring(self, window: int | None, capacity: int) -> KeyValues:
        """Returns keys and values of columns from 0 on in the slots that they have in a ring."""
        slots = _ring_slots(window, capacity)

        def ring(columns: Float[Array, "batch heads length dim"]) -> jax.Array:
            length = columns.shape[2]
            if length <= slots:
                return jnp.pad(columns, ((0, 0), (0, 0), (0, slots - length), (0, 0)))
            return jnp.roll(columns[:, :, length - slots :], length % slots, axis=2)

        return jax.tree.map(ring, self)


def attend_and_keep(
    query: Heads, new: KeyValues, kept: KeyValues, columns: CacheColumns, window: int | None, scores: Scores
) -> tuple[Heads, KeyValues]:
    """Returns what new tokens attend to among the kept and themselves, and the kept with them.

    Args:
      query: of the new tokens.
      new: their keys and values.
      kept: those before them, in a ring.
      columns: where the new tokens stand.
      window: of the layer.
      scores: how products become logits.
    """
    count, slots = query.shape[1], _ring_slots(window, columns.real.shape[1])
    if count == 1 or window is None:
        kept = jax.tree.map(lambda old, x: _write(old, x, columns.start % slots), kept, new)
        held = _columns_of(slots, columns.start + count - 1)
        return _attend_within(query, kept, held, columns, window, scores), kept
    # Several tokens overwrite what the first of them may still see.
    both = jax.tree.map(lambda old, x: jnp.concatenate([old, x], axis=2), kept, new)
    fresh = columns.start + jnp.arange(count)
    held = jnp.concatenate([_columns_of(slots, columns.start - 1), fresh])
    last = slice(max(count - slots, 0), None)
    kept = jax.tree.map(lambda old, x: old.at[:, :, fresh[last] % slots].set(x[:, :, last]), kept, new)
    return _attend_within(query, both, held, columns, window, scores), kept


def attend_to_kept(
    query: Float[Array, "batch count heads head_dim"],
    kept: KeyValues,
    allowed: Bool[Array, "batch 1 #count slots"],
    scores: Scores,
    bias: Float[Array, "1 heads count slots"] | None = None,
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


def _ring_slots(window: int | None, capacity: int) -> int:
    """Returns how many columns a layer keeps."""
    return capacity if window is None else min(window + 1, capacity)


def _columns_of(slots: int, newest: Int[Array, ""]) -> Int[Array, " slots"]:
    """Returns the column in each slot of a ring; a negative one where there is none yet."""
    return newest - (newest - jnp.arange(slots)) % slots


def _attend_within(
    query: Heads, kept: KeyValues, held: Int[Array, " slots"], columns: CacheColumns, window: int | None, scores: Scores
) -> Heads:
    """Attends to slots that hold the given columns, as far as window and padding let it."""
    distances = columns.start + jnp.arange(query.shape[1])[:, None] - held
    near = (distances >= 0) & (held >= 0)
    near = near if window is None else near & (distances <= window)
    real = jnp.take(columns.real, held, axis=1, mode="clip")
    bias = None if scores.bias is None else scores.bias.before(distances, columns.real.shape[1])
    return attend_to_kept(query, kept, near & real[:, None, None], scores, bias)


def _write(kept: jax.Array, new: jax.Array, slot: Int[Array, ""]) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(kept, new.astype(kept.dtype), slot, axis=2)
