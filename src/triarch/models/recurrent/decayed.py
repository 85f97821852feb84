"""Attention by a state that decays: S_t = exp(a_t) S_(t-1) + v_t k_t^T, y_t = S_t q_t, computed in three equal ways.

Mamba-2 (arXiv 2405.21060) and retention (arXiv 2307.08621) are of this form. Chunks of the row are computed as
attention is, by products of matrices, and hand a state on from one to the next (`decayed`); one chunk as long as the
row is the parallel form, and a token at a time the recurrent one (`step`). `recur` chooses between the two.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from triarch.models.precision import at_least_float32
from triarch.models.recurrent.documents import numbered, shifted

State = Float[Array, "batch heads value_dim key_dim"]


def initial_state(batch: int, heads: int, value_dim: int, key_dim: int, dtype: jnp.dtype) -> State:
    """Returns the state before the first token."""
    return jnp.zeros((batch, heads, value_dim, key_dim), at_least_float32(dtype))


def decayed(
    values: Float[Array, "batch length heads value_dim"],
    keys: Float[Array, "batch length groups key_dim"],
    queries: Float[Array, "batch length groups key_dim"],
    log_decay: Float[Array, "batch length heads"],
    state: State | None,
    continues: Bool[Array, "batch length"] | None,
    chunk_size: int,
) -> tuple[Float[Array, "batch length heads value_dim"], State]:
    """Returns what each token reads from the state, and the state after the last one.

    Args:
      values: what is added to the state.
      keys: where; heads of a group share them.
      queries: by which it is read.
      log_decay: logarithm of the part of the state that a token leaves, at most 0, in float32.
      state: before the row; None: zeros.
      continues: False where a token begins a document of its own; None: nowhere.
      chunk_size: tokens of a chunk; it changes nothing but the time.
    """
    batch, length, heads, value_dim = values.shape
    groups, key_dim = keys.shape[2:]
    chunk = min(chunk_size, length)
    num_chunks = -(-length // chunk)
    wide, dtype = log_decay.dtype, values.dtype

    def cut(x: jax.Array, *sizes: int) -> jax.Array:
        """[batch, length, ...] to [batch, chunks, chunk, ...]; what is added at the end leaves the state as it is."""
        padding = ((0, 0), (0, num_chunks * chunk - length)) + ((0, 0),) * (x.ndim - 2)
        return jnp.pad(x, padding).reshape(batch, num_chunks, chunk, *sizes)

    per_group = heads // groups
    v, k, q = cut(values, groups, per_group, value_dim), cut(keys, groups, key_dim), cut(queries, groups, key_dim)
    total = jnp.cumsum(cut(log_decay, groups, per_group), axis=2)
    # Axes: b batch, c chunk, i query's token, j key's token, g group, r head of the group, p value, n key.
    apart = jnp.moveaxis(total, 2, -1)
    difference = apart[..., :, None] - apart[..., None, :]
    seen = jnp.tril(jnp.ones((chunk, chunk), bool))
    to_end, to_begin = jnp.exp(total[:, :, -1:] - total), jnp.exp(total)
    carried = jnp.exp(total[:, :, -1])
    if continues is not None:
        padded = jnp.pad(continues, ((0, 0), (0, num_chunks * chunk - length)), constant_values=True)
        numbers = numbered(padded)
        assert numbers is not None
        document = numbers.reshape(batch, num_chunks, chunk)
        last = document[:, :, -1]
        same = (document[:, :, :, None] == document[:, :, None, :])[:, :, None, None]
        seen = seen & same
        before = shifted(last, 1)
        to_end = jnp.where((document == last[:, :, None])[..., None, None], to_end, 0)
        to_begin = jnp.where((document == before[:, :, None])[..., None, None], to_begin, 0)
        carried = jnp.where((last == before)[..., None, None], carried, 0)
    weights = jnp.exp(jnp.where(seen, difference, -jnp.inf))
    scores = jnp.einsum("bcign,bcjgn->bcgij", q, k, preferred_element_type=wide)
    mixed = (scores[:, :, :, None] * weights).astype(dtype)
    within = jnp.einsum("bcgrij,bcjgrp->bcigrp", mixed, v, preferred_element_type=wide)
    added = jnp.einsum("bcjgrp,bcjgn->bcgrpn", v * to_end[..., None].astype(dtype), k, preferred_element_type=wide)
    first = initial_state(batch, heads, value_dim, key_dim, dtype) if state is None else state.astype(wide)
    first = first.reshape(batch, groups, per_group, value_dim, key_dim)

    def hand_on(state: jax.Array, given: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        carried, added = given
        return carried[..., None, None] * state + added, state

    by_chunk = jnp.moveaxis(carried, 1, 0), jnp.moveaxis(added, 1, 0)
    after, befores = jax.lax.scan(hand_on, first, by_chunk)
    read = jnp.einsum("bcign,cbgrpn->bcigrp", q, befores.astype(dtype), preferred_element_type=wide)
    y = (within + read * to_begin[..., None]).astype(dtype)
    return y.reshape(batch, -1, heads, value_dim)[:, :length], after.reshape(batch, heads, value_dim, key_dim)


def step(
    values: Float[Array, "batch one heads value_dim"],
    keys: Float[Array, "batch one groups key_dim"],
    queries: Float[Array, "batch one groups key_dim"],
    log_decay: Float[Array, "batch one heads"],
    state: State,
) -> tuple[Float[Array, "batch one heads value_dim"], State]:
    """Returns the same for one token that continues its document."""
    batch, _, heads, value_dim = values.shape
    groups, key_dim = keys.shape[2:]
    wide = state.dtype
    by_group = state.reshape(batch, groups, heads // groups, value_dim, key_dim)
    v = values[:, 0].astype(wide).reshape(batch, groups, -1, value_dim)
    decay = jnp.exp(log_decay[:, 0].astype(wide)).reshape(batch, groups, -1)
    k, q = (x[:, 0].astype(wide)[:, :, None] for x in (keys, queries))
    after = decay[..., None, None] * by_group + v[..., None] * k[..., None, :]
    y = jnp.sum(after * q[..., None, :], axis=-1)
    return y.reshape(batch, 1, heads, value_dim).astype(values.dtype), after.reshape(state.shape)


def recur(
    values: Float[Array, "batch length heads value_dim"],
    keys: Float[Array, "batch length groups key_dim"],
    queries: Float[Array, "batch length groups key_dim"],
    log_decay: Float[Array, "batch length heads"],
    state: State | None,
    continues: Bool[Array, "batch length"] | None,
    chunk_size: int,
) -> tuple[Float[Array, "batch length heads value_dim"], State]:
    """Returns what `decayed` does, by `step` for a single token that continues from a state."""
    if values.shape[1] == 1 and state is not None and continues is None:
        return step(values, keys, queries, log_decay, state)
    return decayed(values, keys, queries, log_decay, state, continues, chunk_size)
