"""The one block: self-attention, cross-attention where there is something to attend to, and feed-forward."""

from __future__ import annotations

import dataclasses
import math

import jax
from flax import nnx
from jaxtyping import Array, Float

from triarch.models import parameters
from triarch.models.attention import Angles, Attention
from triarch.models.cache import BlockCache, KeyValues, Update
from triarch.models.config import LayerSpec, ModelConfig, Side
from triarch.models.execution import Constrain, Execution
from triarch.models.feed_forward import FeedForward
from triarch.models.kernels import Attend
from triarch.models.masks import Mask
from triarch.models.norms import Norm
from triarch.models.rope import Rope
from triarch.models.scores import RelativeBias


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """What a stack's blocks share: who sees whom, where tokens stand, and the encoder's output.

    Attributes:
      attend: the attention kernel.
      mask: of self-attention in global layers.
      angles: rotary angles for each rotation that occurs.
      bias: of self-attention's logits by distance, if positions are relative biases that all layers share.
      memory: the encoder's output, for blocks with cross-attention; None where its keys and values are in a cache.
      memory_mask: which of its tokens each decoder token sees.
      memory_query_angles: angles of the decoder's tokens in cross-attention; None: no rotation.
      memory_key_angles: angles of the encoder's tokens in cross-attention.
      update: how a cache is filled or read; None: there is none.
    """

    attend: Attend
    mask: Mask
    angles: dict[Rope, Angles]
    bias: RelativeBias | None = None
    memory: Float[Array, "batch source d_model"] | None = None
    memory_mask: Mask | None = None
    memory_query_angles: Angles | None = None
    memory_key_angles: Angles | None = None
    update: Update | None = None


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
        memory_width, config = config.d_model, config.of_side(side)
        self.spec = spec
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
        self.attention = Attention(config, execution, *attention_stds, rngs, constrain)
        self.post_attention_norm = Norm(config) if after else None
        self.cross_norm = Norm(config) if cross and before else None
        self.cross_attention = (
            Attention(config, execution, *attention_stds, rngs, constrain, memory_width) if cross else None
        )
        self.post_cross_norm = Norm(config) if cross and after else None
        self.mlp_norm = Norm(config) if before else None
        self.mlp = FeedForward(config, execution, *mlp_stds, rngs, constrain)
        self.post_mlp_norm = Norm(config) if after else None

    def __call__(
        self, x: Float[Array, "batch length d_model"], around: Surroundings, cache: BlockCache | None = None
    ) -> tuple[Float[Array, "batch length d_model"], BlockCache | None]:
        """Returns the residual stream after this layer, and its cache where `around` has an update for one."""
        own, memory = (None, None) if cache is None else (cache.own, cache.memory)
        given = x
        update, own = self._attend(self._entering(x, self.attention_norm), around, own)
        x = self._leaving(x, update, self.attention_norm, self.post_attention_norm)
        if self.cross_attention is not None:
            update, memory = self._attend_across(
                self._entering(given if self.parallel else x, self.cross_norm), around, memory
            )
            x = self._leaving(x, update, self.cross_norm, self.post_cross_norm)
        update = self.mlp(self._entering(given if self.parallel else x, self.mlp_norm))
        x = self._leaving(x, update, self.mlp_norm, self.post_mlp_norm)
        return x, None if own is None else BlockCache(own, memory)

    def _attend(self, x: jax.Array, around: Surroundings, kept: KeyValues | None) -> tuple[jax.Array, KeyValues | None]:
        angles = around.angles.get(self.spec.rope)
        mask = around.mask.with_window(self.spec.window)
        bias = around.bias
        if self.relative_bias is not None:
            bias = RelativeBias(self.relative_bias[...], not around.mask.causal, self.max_distance)
        return self.attention(x, x, mask, around.attend, angles, angles, bias, around.update, kept)

    def _attend_across(
        self, x: jax.Array, around: Surroundings, kept: KeyValues | None
    ) -> tuple[jax.Array, KeyValues | None]:
        angles = around.memory_query_angles, around.memory_key_angles
        mask, attend = around.memory_mask, around.attend
        return self.cross_attention(x, around.memory, mask, attend, *angles, None, around.update, kept)

    def _entering(self, x: jax.Array, norm: Norm | None) -> jax.Array:
        """Returns what a sublayer reads of the residual stream."""
        return x if norm is None or self.norm_position == "post" else norm(x)

    def _leaving(self, x: jax.Array, update: jax.Array, norm: Norm | None, post_norm: Norm | None) -> jax.Array:
        """Returns the residual stream after a sublayer's update."""
        if self.norm_position == "post":
            return self.constrain(norm(x + update), ("batch", "length", "embed"))
        update = update if post_norm is None else post_norm(update)
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
