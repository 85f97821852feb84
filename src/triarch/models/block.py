"""The one block: self-attention, cross-attention where there is something to attend to, and feed-forward."""

from __future__ import annotations

import math

import jax
from flax import nnx
from jaxtyping import Array, Float

from triarch.models import parameters
from triarch.models.attention import Attention
from triarch.models.cache import BlockCache, KeyValues
from triarch.models.config import LayerSpec, ModelConfig, Side
from triarch.models.context import StackContext
from triarch.models.dropout import Place, dropped
from triarch.models.execution import Constrain, Execution
from triarch.models.feed_forward import FeedForward
from triarch.models.norms import Norm
from triarch.models.scores import RelativeBias


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
        self.spec = spec
        self.constrain = constrain
        self.norm_position = config.norm_position
        cross = side == "decoder" and config.architecture == "encoder-decoder"
        attention_stds = _stds(config, config.num_layers(side), config.num_heads * config.head_dim)
        mlp_stds = _stds(config, config.num_layers(side), config.d_ff)
        both = config.norm_position == "pre_and_post"
        self.relative_bias = relative_bias_table(config, rngs) if config.relative_bias_per_layer else None
        self.max_distance = config.relative_max_distance
        self.attention_norm = Norm(config) if spec.attention_norm else None
        self.attention = Attention(config, execution, *attention_stds, rngs, constrain)
        self.post_attention_norm = Norm(config) if both else None
        self.cross_norm = Norm(config) if cross else None
        self.cross_attention = Attention(config, execution, *attention_stds, rngs, constrain) if cross else None
        self.post_cross_norm = Norm(config) if both and cross else None
        self.mlp_norm = Norm(config)
        self.mlp = FeedForward(config, execution, *mlp_stds, rngs, constrain)
        self.post_mlp_norm = Norm(config) if both else None

    def __call__(
        self, x: Float[Array, "batch length d_model"], context: StackContext, cache: BlockCache | None = None
    ) -> tuple[Float[Array, "batch length d_model"], BlockCache | None]:
        """Returns the residual stream after this layer, and its cache where `context` has an update for one."""
        own, memory = (None, None) if cache is None else (cache.own, cache.memory)
        update, own = self._attend(self._entering(x, self.attention_norm), context, own)
        x = self._leaving(x, update, self.attention_norm, self.post_attention_norm, context, "self_attention")
        if self.cross_attention is not None:
            update, memory = self._attend_across(self._entering(x, self.cross_norm), context, memory)
            x = self._leaving(x, update, self.cross_norm, self.post_cross_norm, context, "cross_attention")
        update = self.mlp(self._entering(x, self.mlp_norm))
        x = self._leaving(x, update, self.mlp_norm, self.post_mlp_norm, context, "feed_forward")
        return x, None if own is None else BlockCache(own, memory)

    def _attend(
        self, x: jax.Array, context: StackContext, kept: KeyValues | None
    ) -> tuple[jax.Array, KeyValues | None]:
        angles = context.angles.get(self.spec.rope)
        mask = context.mask.with_window(self.spec.window)
        bias = context.bias
        if self.relative_bias is not None:
            bias = RelativeBias(self.relative_bias[...], not context.mask.causal, self.max_distance)
        return self.attention(x, x, mask, context.attend, angles, angles, bias, context.update, kept)

    def _attend_across(
        self, x: jax.Array, context: StackContext, kept: KeyValues | None
    ) -> tuple[jax.Array, KeyValues | None]:
        angles = context.memory_query_angles, context.memory_key_angles
        mask, attend = context.memory_mask, context.attend
        return self.cross_attention(x, context.memory, mask, attend, *angles, None, context.update, kept)

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
    return parameters.normal(rngs, shape, 1 / math.sqrt(config.d_model), (None, "heads"))


def _stds(config: ModelConfig, num_layers: int, residual_fan_in: int) -> tuple[float, float]:
    """Initial standard deviations: of projections back into the residual stream, and of all others."""
    if config.kernel_init == "fixed":
        return config.init_std / math.sqrt(2 * num_layers), config.init_std
    return 1 / math.sqrt(residual_fan_in), 1 / math.sqrt(config.d_model)
