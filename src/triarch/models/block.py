"""The one block: a mixer, cross-attention where there is something to attend to, and a feed-forward layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
from flax import nnx
from jaxtyping import Array, Float, Int

from triarch.models.cache import BlockCache
from triarch.models.context import StackContext
from triarch.models.cross_attention import CrossAttention
from triarch.models.mixer import Kept, Mixer
from triarch.models.norms import Norm
from triarch.models.parts import FeedForwardPart, MixerPart, Part, Reading, Site
from triarch.models.relative_bias import RelativeBias, num_relative_biases, relative_bias_table
from triarch.models.shape import Shape

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


@dataclasses.dataclass(frozen=True)
class LayerSpec:
    """One layer: its parts, and what may differ from layer to layer of one stack.

    Attributes:
      mixer: how tokens see each other.
      feed_forward: what becomes of each token by itself.
      cross: attention to the encoder's output, between the two; None without one.
      mixer_norm: whether a norm precedes the mixer (ModernBERT's first layer has none).
    """

    mixer: MixerPart
    feed_forward: FeedForwardPart
    cross: CrossAttention | None = None
    mixer_norm: bool = True

    def build(self, site: Site) -> Block:
        """Returns the module, with fresh parameters."""
        return Block(self, site)

    def num_params(self, shape: Shape) -> int:
        """Returns the number of parameters."""
        sublayers = sum(part is not None for part in self._parts)
        norms = sublayers - (not self.mixer_norm) + sublayers * (shape.norm_position == "pre_and_post")
        own = norms * Norm.num_params(shape) + num_relative_biases(shape, per_layer=True)
        return own + sum(part.num_params(shape) for part in self._parts if part is not None)

    def num_params_active(self, shape: Shape) -> int:
        """Returns how many of the parameters one token makes use of."""
        unused = self.feed_forward.num_params(shape) - self.feed_forward.num_params_active(shape)
        return self.num_params(shape) - unused

    def flops(self, shape: Shape, reading: Reading) -> float:
        """Returns operations of a forward pass over one sequence."""
        return sum(part.flops(shape, reading) for part in self._parts if part is not None)

    def check(self, shape: Shape) -> None:
        """Raises UserError, naming the field, for values that make no layer."""
        for part in self._parts:
            if part is not None:
                part.check(shape)

    @property
    def _parts(self) -> tuple[Part | None, ...]:
        return self.mixer, self.cross, self.feed_forward


class Block(nnx.Module):
    """A Transformer layer; `Shape.norm_position` says where norms stand around its sublayers.

    The mixer stands under its own name, so that parameters are named by what they are.
    """

    def __init__(self, spec: LayerSpec, site: Site):
        shape = site.shape
        self.constrain = site.constrain
        self.norm_position = shape.norm_position
        both = shape.norm_position == "pre_and_post"
        has_biases = num_relative_biases(shape, per_layer=True) > 0
        self.relative_bias = relative_bias_table(shape, site.rngs) if has_biases else None
        self.max_distance = shape.relative_max_distance
        self.mixer_name = spec.mixer.name
        setattr(self, f"{self.mixer_name}_norm", Norm(shape) if spec.mixer_norm else None)
        setattr(self, self.mixer_name, spec.mixer.build(site))
        setattr(self, f"post_{self.mixer_name}_norm", Norm(shape) if both else None)
        has_cross = spec.cross is not None
        self.cross_norm = Norm(shape) if has_cross else None
        self.cross_attention = spec.cross.build(site) if has_cross else None
        self.post_cross_norm = Norm(shape) if both and has_cross else None
        self.mlp_norm = Norm(shape)
        self.mlp = spec.feed_forward.build(site)
        self.post_mlp_norm = Norm(shape) if both else None

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
        norm, post_norm = (getattr(self, f"{prefix}{self.mixer_name}_norm") for prefix in ("", "post_"))
        update, mixer = step(self.mixer, self._entering(x, norm), cache.mixer, self._own(context))
        x = self._leaving(x, update, norm, post_norm)
        cross = None
        if self.cross_attention is not None:
            update, cross = step(self.cross_attention, self._entering(x, self.cross_norm), cache.cross, context)
            x = self._leaving(x, update, self.cross_norm, self.post_cross_norm)
        update = self.mlp(self._entering(x, self.mlp_norm))
        x = self._leaving(x, update, self.mlp_norm, self.post_mlp_norm)
        return x, BlockCache(mixer, cross)

    def reorder(self, cache: BlockCache, rows: Int[Array, " batch"]) -> BlockCache:
        """Returns what the layer keeps after rows that continue the same prompt have changed places."""
        cross = None if self.cross_attention is None else self.cross_attention.reorder(cache.cross, rows)
        return BlockCache(self.mixer.reorder(cache.mixer, rows), cross)

    def kept_axes(self, cache: BlockCache) -> list[tuple[str | None, ...]]:
        """Returns the logical names of the axes of each leaf that is kept."""
        cross = [] if self.cross_attention is None else self.cross_attention.kept_axes(cache.cross)
        return [*self.mixer.kept_axes(cache.mixer), *cross]

    def _own(self, context: StackContext) -> StackContext:
        """Returns the context with this layer's biases by distance, where each layer has its own."""
        if self.relative_bias is None:
            return context
        bias = RelativeBias(self.relative_bias[...], not context.mask.causal, self.max_distance)
        return dataclasses.replace(context, bias=bias)

    def _entering(self, x: jax.Array, norm: Norm | None) -> jax.Array:
        """Returns what a sublayer reads of the residual stream."""
        return x if norm is None or self.norm_position == "post" else norm(x)

    def _leaving(self, x: jax.Array, update: jax.Array, norm: Norm | None, post_norm: Norm | None) -> jax.Array:
        """Returns the residual stream after a sublayer's update."""
        if self.norm_position == "post":
            return self.constrain(norm(x + update), ("batch", "length", "embed"))
        update = update if post_norm is None else post_norm(update)
        return self.constrain(x + update, ("batch", "length", "embed"))
