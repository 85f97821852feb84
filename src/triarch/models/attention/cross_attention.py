"""Cross-attention: a decoder's tokens take from the encoder's output."""

from __future__ import annotations

import jax
from jaxtyping import Array, Float, Int

from triarch.models.attention.attention import Attention
from triarch.models.attention.attention_parts import CrossAttention
from triarch.models.attention.key_values import KeyValues, attend_to_kept
from triarch.models.attention.positions import rotate
from triarch.models.layers.context import Memory, StackContext
from triarch.models.layers.parts import Site
from triarch.models.layers.projection import affine, affines


class CrossAttentionMixer(Attention):
    """The module of `CrossAttention`; the memory's keys and values are made once, with the prompt, and kept."""

    def __init__(self, site: Site, spec: CrossAttention):
        super().__init__(site, spec.memory_width)

    def __call__(
        self, x: Float[Array, "batch length d_model"], context: StackContext
    ) -> Float[Array, "batch length d_model"]:
        memory, scores = _memory(context), self.scores()

        def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
            attended = context.attending("cross_attention_weights")
            return attended(self._query(query, memory), *self._keys(key, value, memory), memory.mask, scores)

        projected = self._projected_query(x), *self._projected_memory(memory)
        attend = self.execution.rematerialise_heads(attend, projected[0], scores, self.constrain)
        return self.project_back(attend(*projected))

    def prefill(
        self, x: Float[Array, "batch length d_model"], context: StackContext, capacity: int
    ) -> tuple[Float[Array, "batch length d_model"], KeyValues]:
        memory = _memory(context)
        query = self._query(self._projected_query(x), memory)
        key, value = self._keys(*self._projected_memory(memory), memory)
        attended = context.attend(query, key, value, memory.mask, self.scores())
        return self.project_back(attended), KeyValues.of(key, value)

    def extend(
        self, x: Float[Array, "batch count d_model"], kept: KeyValues, context: StackContext
    ) -> tuple[Float[Array, "batch count d_model"], KeyValues]:
        memory = _memory(context)
        query = self._query(self._projected_query(x), memory)
        segments = memory.mask.key_segments
        assert segments is not None
        attended = attend_to_kept(query, kept, (segments > 0)[:, None, None], self.scores())
        return self.project_back(attended), kept

    def reorder(self, kept: KeyValues, rows: Int[Array, " batch"]) -> KeyValues:
        """Returns what is kept as it is: rows that continue the same prompt have the same encoder's output."""
        return kept

    def _projected_query(self, x: jax.Array) -> jax.Array:
        return self.queries(affine(x, self.query, self.query_bias))

    def _projected_memory(self, memory: Memory) -> tuple[jax.Array, jax.Array]:
        assert memory.states is not None
        return self.keys_values(*affines(memory.states, (self.key, self.key_bias), (self.value, self.value_bias)))

    def _query(self, query: jax.Array, memory: Memory) -> jax.Array:
        (query,) = self.normed(query)
        return query if memory.query_angles is None else rotate(query, memory.query_angles)

    def _keys(self, key: jax.Array, value: jax.Array, memory: Memory) -> tuple[jax.Array, jax.Array]:
        key, value = self.normed(key, value)
        return key if memory.key_angles is None else rotate(key, memory.key_angles), value


def _memory(context: StackContext) -> Memory:
    """Returns the encoder's output, which stacks with cross-attention are given."""
    assert context.memory is not None
    return context.memory
