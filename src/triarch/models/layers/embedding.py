"""Both ends of a network: from tokens to the first layer's input, and from the last states to logits."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from triarch.errors import UserError
from triarch.models import parameters
from triarch.models.attention.scores import soft_cap
from triarch.models.layers.activations import ACTIVATIONS
from triarch.models.layers.norms import Norm
from triarch.models.layers.projection import affine
from triarch.models.precision import at_least_float32
from triarch.models.shape import Shape, Side


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Unembedding:
    """The last map, from hidden states to logits: cap(scale * (h kernel^T) + bias).

    Kept apart from the network so that a loss may compute logits piece by piece.
    """

    kernel: Float[Array, "vocab d_model"]
    bias: Float[Array, " vocab"] | None
    scale: float = dataclasses.field(metadata={"static": True})
    softcap: float | None = dataclasses.field(default=None, metadata={"static": True})

    def logits(self, hidden: Float[Array, "... d_model"]) -> Float[Array, "... vocab"]:
        """Returns logits in at least float32."""
        kernel = self.kernel.astype(hidden.dtype)
        logits = jnp.einsum("...d,vd->...v", hidden, kernel, preferred_element_type=at_least_float32(hidden.dtype))
        logits = logits * self.scale if self.scale != 1.0 else logits
        logits = logits if self.bias is None else logits + self.bias
        return soft_cap(logits, self.softcap)


class Embedding(nnx.Module):
    """Token embedding: one matrix for encoder input, decoder input and output, unless the config separates them."""

    def __init__(self, config: Shape, rngs: nnx.Rngs):
        sides: dict[Side, Shape] = {side: config.of_side(side) for side in ("encoder", "decoder")}

        def matrix(side: Side) -> nnx.Param:
            size = (config.vocab_size, sides[side].d_model)
            return parameters.normal(rngs, size, embedding_std(sides[side]), ("vocab", "embed"), "table")

        self.table = matrix("decoder")
        self.encoder_table = None if config.shared_embeddings else matrix("encoder")
        self.output = None if config.tied_embeddings else matrix("decoder")
        self.scales = {side: own.embedding_factor for side, own in sides.items()}

    def __call__(
        self, tokens: Int[Array, "batch length"], side: Side, dtype: jnp.dtype
    ) -> Float[Array, "batch length d_model"]:
        """Looks tokens of one side up."""
        table = self.table if side == "decoder" or self.encoder_table is None else self.encoder_table
        x = jnp.take(table[...].astype(dtype), tokens, axis=0)
        return x * self.scales[side] if self.scales[side] != 1.0 else x

    @property
    def output_kernel(self) -> Float[Array, "vocab d_model"]:
        """The matrix whose rows stand for the tokens to be predicted."""
        return (self.table if self.output is None else self.output)[...]


class StackInput(nnx.Module):
    """What happens to token embeddings before one stack's first layer: places and types are added, then a norm."""

    def __init__(self, config: Shape, rngs: nnx.Rngs):
        def table(rows: int) -> nnx.Param:
            return parameters.normal(rngs, (rows, config.d_model), embedding_std(config), (None, "embed"), "table")

        self.offset = config.learned_position_offset
        self.positions = table(config.learned_positions) if config.learned_positions else None
        self.types = table(config.token_types) if config.token_types else None
        self.norm = Norm(config) if config.embedding_norm else None

    def __call__(
        self,
        x: Float[Array, "batch length d_model"],
        positions: Int[Array, "#batch length"],
        types: Int[Array, "batch length"] | None,
    ) -> Float[Array, "batch length d_model"]:
        """Returns the first layer's input; a place beyond the table gives NaN, types of None are type 0.

        Raises:
          UserError: the inputs are longer than the table of positions.
        """
        if self.types is not None:
            table = self.types[...].astype(x.dtype)
            x = x + (table[0] if types is None else jnp.take(table, types, axis=0))
        if self.positions is not None:
            table = self.positions[...].astype(x.dtype)
            self._check_length(positions.shape[1], table.shape[0])
            x = x + jnp.take(table, positions + self.offset, axis=0)
        return x if self.norm is None else self.norm(x)

    def _check_length(self, length: int, rows: int) -> None:
        if length > rows - self.offset:
            places = f"ModelConfig.learned_positions makes it {rows - self.offset}"
            raise UserError(f"inputs of {length} tokens are longer than the model has places for: {places}")


class PredictionHead(nnx.Module):
    """Dense, activation and norm before the vocabulary (BERT, ModernBERT)."""

    def __init__(self, config: Shape, rngs: nnx.Rngs):
        shape = (config.d_model, config.d_model)
        std = parameters.kernel_std(config, config.d_model)
        self.dense = parameters.normal(rngs, shape, std, ("embed", None), width_ratio=config.width_ratio)
        has_bias = config.prediction_head_bias
        self.dense_bias = parameters.constant(0.0, shape[1:], ("embed",)) if has_bias else None
        self.activation = ACTIVATIONS[config.activation]
        self.norm = Norm(config)

    def __call__(self, hidden: Float[Array, "batch length d_model"]) -> Float[Array, "batch length d_model"]:
        """Transforms final hidden states."""
        return self.norm(self.activation(affine(hidden, self.dense, self.dense_bias)))


def embedding_std(config: Shape) -> float:
    """Returns the initial standard deviation of embeddings: that of the base of a parametrization."""
    std = config.embedding_init_std
    return 0.25 / math.sqrt(config.base_d_model or config.d_model) if std is None else std
