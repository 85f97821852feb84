"""RMSNorm (arXiv 1910.07467) and LayerNorm (arXiv 1607.06450), computed in at least float32.

Below float32 the families differ in where they round: Llama, T5 and RedLLM before the gain, LayerNorm (PyTorch's) and
Gemma once, after gain and bias. OLMo 2 rounds once in transformers, here as Llama.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from triarch.models import parameters
from triarch.models.precision import at_least_float32
from triarch.models.shape import Shape


def rms_norm(x: Float[Array, "... d"], eps: float) -> Float[Array, "... d"]:
    """Divides by the root mean square over the last axis; no parameters. Keeps the dtype."""
    wide = x.astype(at_least_float32(x.dtype))
    mean_square = jnp.mean(wide * wide, axis=-1, keepdims=True)
    return (wide * jax.lax.rsqrt(mean_square + eps)).astype(x.dtype)


def layer_norm(x: Float[Array, "... d"], eps: float) -> Float[Array, "... d"]:
    """Subtracts the mean and divides by the standard deviation over the last axis. Keeps the dtype."""
    wide = x.astype(at_least_float32(x.dtype))
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + eps)).astype(x.dtype)


NORMS = {"rmsnorm": rms_norm, "layernorm": layer_norm}


class Norm(nnx.Module):
    """The norm that a config names, with its gain and bias if it has them: of the residual stream, or of `width`.

    Args:
      config: of the network.
      width: of what is normed; None for `d_model`.
      axis: its logical name.
    """

    def __init__(self, config: Shape, width: int | None = None, axis: str | None = "embed"):
        self.function = NORMS[config.norm]
        self.eps = config.norm_eps
        self.offset = 1.0 if config.norm_scale == "one_plus_gain" else 0.0
        shape = (config.d_model if width is None else width,)
        has_scale = config.norm_scale != "none"
        self.scale = parameters.constant(1.0 - self.offset, shape, (axis,)) if has_scale else None
        self.bias = parameters.constant(0.0, shape, (axis,)) if config.norm_bias else None

    def __call__(self, x: Float[Array, "... width"]) -> Float[Array, "... width"]:
        rounds_first = self.function is rms_norm and not self.offset
        inner = x.dtype if rounds_first else at_least_float32(x.dtype)
        normed = self.function(x.astype(inner), self.eps)
        if self.scale is not None:
            gain = self.scale[...] + self.offset if self.offset else self.scale[...]
            normed = normed * gain.astype(inner)
        normed = normed if self.bias is None else normed + self.bias[...].astype(inner)
        return normed.astype(x.dtype)
