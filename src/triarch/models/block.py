"""The one block: self-attention, cross-attention where there is something to attend to, and feed-forward."""

from __future__ import annotations

import dataclasses
import math

import jax
from flax import nnx
from jaxtyping import Array, Float

from triarch.models.attention import Angles, Attention
from triarch.models.config import LayerSpec, ModelConfig
from triarch.models.execution import Constrain
from triarch.models.feed_forward import FeedForward
from triarch.models.kernels import Attend
from triarch.models.masks import Mask
from triarch.models.norms import Norm


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """What a stack's blocks share: who sees whom, where tokens stand, and the encoder's output.

    Attributes:
      attend: the attention kernel.
      mask: of self-attention in global layers.
      angles: rotary angles for each base that occurs.
      memory: the encoder's output, for blocks with cross-attention.
      memory_mask: which of its tokens each decoder token sees.
      memory_query_angles: angles of the decoder's tokens in cross-attention; None: no rotation.
      memory_key_angles: angles of the encoder's tokens in cross-attention.
    """

    attend: Attend
    mask: Mask
    angles: dict[float, Angles]
    memory: Float[Array, "batch source d_model"] | None = None
    memory_mask: Mask | None = None
    memory_query_angles: Angles | None = None
    memory_key_angles: Angles | None = None


class Block(nnx.Module):
    """A pre-norm Transformer layer: x + f(norm(x)) for each sublayer f."""

    def __init__(
        self, config: ModelConfig, spec: LayerSpec, num_layers: int, cross: bool, rngs: nnx.Rngs, constrain: Constrain
    ):
        self.spec = spec
        self.constrain = constrain
        attention_stds = _stds(config, num_layers, config.num_heads * config.head_dim)
        mlp_stds = _stds(config, num_layers, config.d_ff)
        self.attention_norm = Norm(config) if spec.attention_norm else None
        self.attention = Attention(config, *attention_stds, rngs, constrain)
        self.cross_norm = Norm(config) if cross else None
        self.cross_attention = Attention(config, *attention_stds, rngs, constrain) if cross else None
        self.mlp_norm = Norm(config)
        self.mlp = FeedForward(config, *mlp_stds, rngs, constrain)

    def __call__(
        self, x: Float[Array, "batch length d_model"], around: Surroundings
    ) -> Float[Array, "batch length d_model"]:
        """Returns the residual stream after this layer."""
        angles = around.angles[self.spec.rope_base]
        normed = x if self.attention_norm is None else self.attention_norm(x)
        mask = around.mask.with_window(self.spec.window)
        x = self._add(x, self.attention(normed, normed, mask, around.attend, angles, angles))
        if self.cross_attention is not None:
            attended = self.cross_attention(
                self.cross_norm(x),
                around.memory,
                around.memory_mask,
                around.attend,
                around.memory_query_angles,
                around.memory_key_angles,
            )
            x = self._add(x, attended)
        return self._add(x, self.mlp(self.mlp_norm(x)))

    def _add(self, x: jax.Array, update: jax.Array) -> jax.Array:
        return self.constrain(x + update, ("batch", "length", "embed"))


def _stds(config: ModelConfig, num_layers: int, residual_fan_in: int) -> tuple[float, float]:
    """Initial standard deviations: of projections back into the residual stream, and of all others."""
    if config.kernel_init == "fixed":
        return config.init_std / math.sqrt(2 * num_layers), config.init_std
    return 1 / math.sqrt(residual_fan_in), 1 / math.sqrt(config.d_model)
