"""The one block: self-attention, cross-attention where there is something to attend to, and feed-forward."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax
from flax import nnx
from jaxtyping import Array, Float, Int

from triarch.models import parameters
from triarch.models.cache import BlockCache
from triarch.models.config import LayerSpec, ModelConfig, Side
from triarch.models.context import StackContext
from triarch.models.cross_attention import CrossAttention
from triarch.models.dropout import Place, dropped
from triarch.models.execution import Execution
from triarch.models.feed_forward import FeedForward
from triarch.models.mixer import Kept, Mixer
from triarch.models.norms import Norm
from triarch.models.placing import Constrain
from triarch.models.scores import RelativeBias
from triarch.models.self_attention import SelfAttention

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
    """A Transformer layer; `ModelConfig.norm_position` says where norms stand around its sublayers."""

    def __init__(
        self,
        config: ModelConfig,
        execution: Execution,
        spec: LayerSpec,
        side: Side,
        rngs: nnx.Rngs,
        constrain: Constrain,
    ):
        self.constrain = constrain
        self.norm_position = config.norm_position
        self.parallel = config.parallel_residual
        cross = side == "decoder" and config.architecture == "encoder-decoder"
        attention_stds = _stds(config, config.num_layers(side), config.num_heads * config.head_dim)
        mlp_stds = _stds(config, config.num_layers(side), config.d_ff)
        before = config.norm_position != "output"
        after = config.norm_position in ("pre_and_post", "output")
        self.relative_bias = relative_bias_table(config, rngs) if config.relative_bias_per_layer else None
        self.max_distance = config.relative_max_distance
        self.attention_norm = Norm(config) if spec.attention_norm and before else None
        self.attention = SelfAttention(config, execution, spec, *attention_stds, rngs, constrain)
        self.post_attention_norm = Norm(config) if after else None
        self.cross_norm = Norm(config) if cross and before else None
        self.cross_attention = CrossAttention(config, execution, *attention_stds, rngs, constrain) if cross else None
        self.post_cross_norm = Norm(config) if cross and after else None
        self.mlp_norm = Norm(config) if before else None
        self.mlp = FeedForward(config, execution, *mlp_stds, rngs, constrain)
        self.post_mlp_norm = Norm(config) if after else None

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
        update, mixer = step(self.attention, self._entering(x, self.attention_norm), cache.mixer, self._own(context))
        x = self._leaving(x, update, self.attention_norm, self.post_attention_norm, context, "self_attention")
        cross = None
        if self.cross_attention is not None:
            x_cross = self._entering(given if self.parallel else x, self.cross_norm)
            update, cross = step(self.cross_attention, x_cross, cache.cross, context)
            x = self._leaving(x, update, self.cross_norm, self.post_cross_norm, context, "cross_attention")
        update = self.mlp(self._entering(given if self.parallel else x, self.mlp_norm))
        x = self._leaving(x, update, self.mlp_norm, self.post_mlp_norm, context, "feed_forward")
        return x, BlockCache(mixer, cross)

    def reorder(self, cache: BlockCache, rows: Int[Array, " batch"]) -> BlockCache:
        """Returns what the layer keeps after rows that continue the same prompt have changed places."""
        cross = None if self.cross_attention is None else self.cross_attention.reorder(cache.cross, rows)
        return BlockCache(self.attention.reorder(cache.mixer, rows), cross)

    def kept_axes(self, cache: BlockCache) -> list[tuple[str | None, ...]]:
        """Returns the logical names of the axes of each leaf that is kept."""
        cross = [] if self.cross_attention is None else self.cross_attention.kept_axes(cache.cross)
        return [*self.attention.kept_axes(cache.mixer), *cross]

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
        place: Place,
    ) -> jax.Array:
        """Returns the residual stream after a sublayer's update."""
        update = update if post_norm is None else post_norm(update)
        update = dropped(update, context.dropout, place)
        if self.norm_position == "post":
            return self.constrain(norm(x + update), ("batch", "length", "embed"))
        return self.constrain(x + update, ("batch", "length", "embed"))


def relative_bias_table(config: ModelConfig, rngs: nnx.Rngs) -> nnx.Param | None:
    """Makes the biases by distance of a stack, or of one layer; None where positions are something else."""
    if config.position_encoding != "relative_bias":
        return None
    shape = (config.relative_buckets, config.num_heads)
    return parameters.normal(rngs, shape, 1 / math.sqrt(config.d_model), (None, "heads"), "table")


def _stds(config: ModelConfig, num_layers: int, residual_fan_in: int) -> tuple[float, float]:
    """Initial standard deviations: of projections back into the residual stream, and of all others."""
    if config.kernel_init == "fixed":
        return config.init_std / math.sqrt(2 * num_layers), config.init_std
    return 1 / math.sqrt(residual_fan_in), 1 / math.sqrt(config.d_model)
