"""Self-attention: tokens take from the tokens of their own sequence, within a window or from all."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from jaxtyping import Array, Float

from triarch.models.attention.attention import Attention
from triarch.models.attention.attention_parts import SelfAttention
from triarch.models.attention.key_values import KeyValues, attend_and_keep
from triarch.models.attention.positions import Angles, rotate
from triarch.models.layers.context import StackContext
from triarch.models.layers.parts import Site
from triarch.models.layers.projection import affines


class SelfAttentionMixer(Attention):
    """The module of `SelfAttention`; keeps keys and values of as many columns as its window reaches."""

    def __init__(self, site: Site, spec: SelfAttention):
        super().__init__(site)
        self.window = spec.window
        self.rope = spec.rope

    def __call__(
        self, x: Float[Array, "batch length d_model"], context: StackContext
    ) -> Float[Array, "batch length d_model"]:
        mask, scores, angles = context.mask.with_window(self.window), self.scores(context.bias), self._angles(context)

        def attend(*projected: jax.Array) -> jax.Array:
            attended = context.attending("self_attention_weights")
            return attended(*self._vectors(projected, angles), mask, scores)

        projected = self._projected(x)
        attend = self.execution.rematerialise_heads(attend, projected[0], scores, self.constrain)
        return self.project_back(attend(*projected))

    def prefill(
        self, x: Float[Array, "batch length d_model"], context: StackContext, capacity: int
    ) -> tuple[Float[Array, "batch length d_model"], KeyValues]:
        mask, scores = context.mask.with_window(self.window), self.scores(context.bias)
        query, key, value = self._vectors(self._projected(x), self._angles(context))
        attended = context.attend(query, key, value, mask, scores)
        return self.project_back(attended), KeyValues.of(key, value).in_ring(self.window, capacity)

    def extend(
        self, x: Float[Array, "batch count d_model"], kept: KeyValues, context: StackContext
    ) -> tuple[Float[Array, "batch count d_model"], KeyValues]:
        query, key, value = self._vectors(self._projected(x), self._angles(context))
        new, scores = KeyValues.of(key, value), self.scores(context.bias)
        assert context.columns is not None
        attended, kept = attend_and_keep(query, new, kept, context.columns, self.window, scores)
        return self.project_back(attended), kept

    def _angles(self, context: StackContext) -> Angles | None:
        return None if self.rope is None else context.angles.get(self.rope)

    def _projected(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        layers = (self.query, self.query_bias), (self.key, self.key_bias), (self.value, self.value_bias)
        query, key, value = affines(x, *layers)
        return self.queries(query), *self.keys_values(key, value)

    def _vectors(self, projected: Sequence[jax.Array], angles: Angles | None) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns what a kernel is given: queries, keys and values, normed and rotated."""
        query, key, value = self.normed(*projected)
        return (query, key, value) if angles is None else (rotate(query, angles), rotate(key, angles), value)
