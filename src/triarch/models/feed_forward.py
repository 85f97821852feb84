"""The feed-forward layer, plain or gated (arXiv 2002.05202: SwiGLU, GeGLU)."""

from __future__ import annotations

import functools

import jax
from flax import nnx
from jaxtyping import Array, Float

from triarch.models import parameters
from triarch.models.config import ModelConfig
from triarch.models.execution import Constrain
from triarch.models.projection import project

ACTIVATIONS = {
    "silu": jax.nn.silu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}


class FeedForward(nnx.Module):
    """act(x W_up) W_down, or act(x W_gate) * (x W_up) W_down if gated."""

    def __init__(
        self, config: ModelConfig, residual_std: float, kernel_std: float, rngs: nnx.Rngs, constrain: Constrain
    ):
        self.activation = ACTIVATIONS[config.activation]
        self.constrain = constrain
        shape = (config.d_model, config.d_ff)
        self.gate = parameters.normal(rngs, shape, kernel_std, ("embed", "mlp")) if config.gated_mlp else None
        self.up = parameters.normal(rngs, shape, kernel_std, ("embed", "mlp"))
        self.down = parameters.normal(rngs, shape[::-1], residual_std, ("mlp", "embed"))

    def __call__(self, x: Float[Array, "batch length d_model"]) -> Float[Array, "batch length d_model"]:
        up = self.constrain(project(x, self.up[...]), ("batch", "length", "mlp"))
        if self.gate is None:
            inner = self.activation(up)
        else:
            gate = self.constrain(project(x, self.gate[...]), ("batch", "length", "mlp"))
            inner = self.activation(gate) * up
        return project(inner, self.down[...])
