"""The token embedding at both ends: rows as inputs, the same rows as output classes."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from triarch.models import parameters
from triarch.models.config import ModelConfig
from triarch.models.feed_forward import ACTIVATIONS
from triarch.models.norms import Norm
from triarch.models.precision import at_least_float32
from triarch.models.projection import project


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Unembedding:
    """The last linear map, from hidden states to logits: scale * (h kernel^T) + bias.

    Kept apart from the network so that a loss may compute logits piece by piece.
    """

    kernel: Float[Array, "vocab d_model"]
    bias: Float[Array, " vocab"] | None
    scale: float = dataclasses.field(metadata={"static": True})

    def logits(self, hidden: Float[Array, "... d_model"]) -> Float[Array, "... vocab"]:
        """Returns logits in at least float32."""
        kernel = self.kernel.astype(hidden.dtype)
        logits = jnp.einsum("...d,vd->...v", hidden, kernel, preferred_element_type=at_least_float32(hidden.dtype))
        logits = logits * self.scale if self.scale != 1.0 else logits
        return logits if self.bias is None else logits + self.bias


class Embedding(nnx.Module):
    """Token embedding, shared by encoder input, decoder input and output (arXiv 2510.26622)."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        std = config.embedding_init_std
        std = 0.25 / math.sqrt(config.d_model) if std is None else std
        self.table = parameters.normal(rngs, (config.vocab_size, config.d_model), std, ("vocab", "embed"))
        self.norm = Norm(config) if config.embedding_norm else None
        self.scale = math.sqrt(config.d_model) if config.embedding_scale == "sqrt_d_model" else config.embedding_scale
        self.logits_scale = (
            1 / math.sqrt(config.d_model) if config.logits_scale == "rsqrt_d_model" else config.logits_scale
        )

    def __call__(self, tokens: Int[Array, "batch length"], dtype: jnp.dtype) -> Float[Array, "batch length d_model"]:
        """Looks tokens up."""
        x = jnp.take(self.table[...].astype(dtype), tokens, axis=0)
        x = x * self.scale if self.scale != 1.0 else x
        return x if self.norm is None else self.norm(x)


class PredictionHead(nnx.Module):
    """Dense, activation and norm before the vocabulary, and a bias on the logits (BERT, Ettin)."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        shape = (config.d_model, config.d_model)
        std = config.init_std if config.kernel_init == "fixed" else 1 / math.sqrt(config.d_model)
        self.dense = parameters.normal(rngs, shape, std, ("embed", None))
        self.activation = ACTIVATIONS[config.activation]
        self.norm = Norm(config)
        self.bias = parameters.constant(0.0, (config.vocab_size,), ("vocab",))

    def __call__(self, hidden: Float[Array, "batch length d_model"]) -> Float[Array, "batch length d_model"]:
        """Transforms final hidden states."""
        return self.norm(self.activation(project(hidden, self.dense[...])))
