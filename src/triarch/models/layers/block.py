"""The one block: a mixer, cross-attention where there is something to attend to, and a feed-forward layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
from flax import nnx
from jaxtyping import Array, Float, Int

from triarch.models.attention.attention_parts import num_relative_biases
from triarch.models.attention.cache import BlockCache
from triarch.models.attention.relative_bias import RelativeBias, relative_bias_table
from triarch.models.layers.context import StackContext
from triarch.models.layers.dropout import DropoutPlace, dropped
from triarch.models.layers.layer import LayerSpec
from triarch.models.layers.mixer import Kept, Mixer
from triarch.models.layers.norms import Norm
from triarch.models.layers.parts import Site

# Calls a mixer with its input, what it kept, and the context; returns its output and what it keeps.
Step = Callable[[Mixer, jax.Array, Kept, StackContext], tuple[jax.Array, Kept]]


def forward(mixer: Mixer, x: jax.Array, kept: None, context: StackContext) -> tuple[jax.Array, None]:
    """The step of training and scoring: nothing is kept."""
    return mixer(x, context), None


def prefill(capacity: int) -> Step:
    """Returns the step that reads prompts."""
    return lambda mixer, x, kept, context: mixer.prefill(x, context, capacity)


def extend(mixer: Mixer, x: jax.Array, kept: Kept, context: StackContext) -> tuple[jax.Array, Kept]:
    """The step that reads tokens after what is kept."""
    return mixer.extend(x, kept, context)


class Block(nnx.Module):
    """A Transformer layer; `Shape.norm_position` says where norms stand around its sublayers.

    The mixer stands under its own name, so that parameters are named by what they are.
    """

    def __init__(self, spec: LayerSpec, site: Site):
        shape = site.shape
        self.constrain = site.constrain
        self.norm_position = shape.norm_position
        self.parallel = shape.parallel_residual
        self.residual_factor = shape.residual_factor(site.side)
        before = shape.norm_position != "output"
        after = shape.norm_position in ("pre_and_post", "output")
        has_biases = num_relative_biases(shape, per_layer=True) > 0
        self.relative_bias = relative_bias_table(shape, site.rngs) if has_biases else None
        self.max_distance = shape.relative_max_distance
        self.mixer_name = spec.mixer.name
        setattr(self, f"{self.mixer_name}_norm", Norm(shape) if spec.mixer_norm and before else None)
        setattr(self, self.mixer_name, spec.mixer.build(site))
        setattr(self, f"post_{self.mixer_name}_norm", Norm(shape) if after else None)
        has_cross, has_feed_forward = spec.cross is not None, spec.feed_forward is not None
        self.cross_norm = Norm(shape) if has_cross and before else None
        self.cross_attention = None if spec.cross is None else spec.cross.build(site)
        self.post_cross_norm = Norm(shape) if has_cross and after else None
        self.mlp_norm = Norm(shape) if has_feed_forward and before else None
        self.mlp = None if spec.feed_forward is None else spec.feed_forward.build(site)
        self.post_mlp_norm = Norm(shape) if has_feed_forward and after else None

    @property
    def mixer(self) -> Mixer:
        """The sublayer by which tokens see each other."""
        return getattr(self, self.mixer_name)

    def __call__(
        self, x: Float[Array, "batch length d_model"], context: StackContext, step: Step, cache: BlockCache
    ) -> tuple[Float[Array, "batch length d_model"], BlockCache]:
        """Returns the residual stream after this layer, and what it keeps.

        Args:
          x: the residual stream before it.
          context: shared by the layers of the stack.
          step: how mixers are called: one of `forward`, `prefill` and `extend`.
          cache: what the layer kept.
        """
        given = x
        norm, post_norm = (getattr(self, f"{prefix}{self.mixer_name}_norm") for prefix in ("", "post_"))
        update, mixer = step(self.mixer, self._entering(x, norm), cache.mixer, self._own(context))
        x = self._leaving(x, update, norm, post_norm, context, "self_attention")
        cross = None
        if self.cross_attention is not None:
            x_cross = self._entering(given if self.parallel else x, self.cross_norm)
            update, cross = step(self.cross_attention, x_cross, cache.cross, context)
            x = self._leaving(x, update, self.cross_norm, self.post_cross_norm, context, "cross_attention")
        mlp = None
        if self.mlp is not None:
            x_mlp = self._entering(given if self.parallel else x, self.mlp_norm)
            if isinstance(self.mlp, Mixer):
                update, mlp = step(self.mlp, x_mlp, cache.mlp, context)
            else:
                update = self.mlp(x_mlp, context)
            x = self._leaving(x, update, self.mlp_norm, self.post_mlp_norm, context, "feed_forward")
        return x, BlockCache(mixer, cross, mlp)

    def reorder(self, cache: BlockCache, rows: Int[Array, " batch"]) -> BlockCache:
        """Returns what the layer keeps after rows that continue the same prompt have changed places."""
        cross = None if self.cross_attention is None else self.cross_attention.reorder(cache.cross, rows)
        mlp = self.mlp.reorder(cache.mlp, rows) if isinstance(self.mlp, Mixer) else None
        return BlockCache(self.mixer.reorder(cache.mixer, rows), cross, mlp)

    def kept_axes(self, cache: BlockCache) -> list[tuple[str | None, ...]]:
        """Returns the logical names of the axes of each leaf that is kept."""
        cross = [] if self.cross_attention is None else self.cross_attention.kept_axes(cache.cross)
        mlp = self.mlp.kept_axes(cache.mlp) if isinstance(self.mlp, Mixer) else []
        return [*self.mixer.kept_axes(cache.mixer), *cross, *mlp]

    def _own(self, context: StackContext) -> StackContext:
        """Returns the context with this layer's biases by distance, where each layer has its own."""
        if self.relative_bias is None:
            return context
        bias = RelativeBias(self.relative_bias[...], not context.mask.causal, self.max_distance)
        return dataclasses.replace(context, bias=bias)

    def _entering(self, x: jax.Array, norm: Norm | None) -> jax.Array:
        """Returns what a sublayer reads of the residual stream."""
        return x if norm is None or self.norm_position == "post" else norm(x)

    def _leaving(
        self,
        x: jax.Array,
        update: jax.Array,
        norm: Norm | None,
        post_norm: Norm | None,
        context: StackContext,
        place: DropoutPlace,
    ) -> jax.Array:
        """Returns the residual stream after a sublayer's update."""
        update = update if post_norm is None else post_norm(update)
        update = dropped(update, context.dropout, place)
        update = update if self.residual_factor == 1.0 else update * self.residual_factor
        if self.norm_position == "post":
            assert norm is not None
            return self.constrain(norm(x + update), ("batch", "length", "embed"))
        return self.constrain(x + update, ("batch", "length", "embed"))
