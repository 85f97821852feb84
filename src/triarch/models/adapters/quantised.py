"""Kernels held in 8 or 4 bits a number, with a scale for each block of inputs.

A block is 64 consecutive inputs of one output: what bitsandbytes has of a torch weight, whose rows are outputs, where
their length is a multiple of 64. Scales are the largest magnitude of each block, float32.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from triarch.models.adapters.lora import BaseType

BLOCK = 64
# QLoRA's NormalFloat of 4 bits (arXiv 2305.14314, appendix E): quantiles of the normal distribution, 0 among them.
NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334),
    *(-0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
_INT8_MOST = 127


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Quantised:
    """Kernels [..., inputs, outputs] in few bits.

    Attributes:
      codes: int8, or uint8 with two inputs each, the even one in the upper four bits.
      scales: one for each block.
    """

    codes: Num[Array, "*stack inputs outputs"]
    scales: Float[Array, "*stack blocks outputs"]

    def values(self) -> Float[Array, "*stack inputs outputs"]:
        """Returns what the codes stand for, float32."""
        if self.codes.dtype == jnp.int8:
            shares = self.codes.astype(jnp.float32) / _INT8_MOST
        else:
            pairs = jnp.stack([self.codes >> 4, self.codes & 15], axis=-2)
            shares = jnp.asarray(NF4, jnp.float32)[pairs.reshape(*self._stack, -1, self.codes.shape[-1])]
        blocks = shares.reshape(*self.scales.shape[:-1], BLOCK, shares.shape[-1])
        return (blocks * self.scales[..., None, :]).reshape(shares.shape)

    @property
    def _stack(self) -> tuple[int, ...]:
        return self.codes.shape[:-2]


def is_quantisable(shape: tuple[int, ...]) -> bool:
    """Whether kernels of a shape are cut into whole blocks."""
    return shape[-2] % BLOCK == 0


def code_shapes(shape: tuple[int, ...], base: BaseType) -> tuple[tuple[int, ...], tuple[int, ...], jnp.dtype]:
    """Returns the shapes of codes and scales of kernels of a shape, and the type of the codes."""
    *stack, inputs, outputs = shape
    scales = (*stack, inputs // BLOCK, outputs)
    if base == "int8":
        return shape, scales, jnp.dtype(jnp.int8)
    return (*stack, inputs // 2, outputs), scales, jnp.dtype(jnp.uint8)


def quantise(kernels: Float[Array, "*stack inputs outputs"], base: BaseType) -> Quantised:
    """Returns kernels in "int8" or "nf4", each number by the nearest that there is; a block of zeros stays zeros."""
    *stack, inputs, outputs = kernels.shape
    blocks = kernels.astype(jnp.float32).reshape(*stack, inputs // BLOCK, BLOCK, outputs)
    scales = jnp.max(jnp.abs(blocks), axis=-2)
    shares = (blocks / jnp.where(scales > 0, scales, 1)[..., None, :]).reshape(kernels.shape)
    if base == "int8":
        return Quantised(jnp.round(shares * _INT8_MOST).astype(jnp.int8), scales)
    table = np.asarray(NF4, np.float64)
    between = jnp.asarray((table[1:] + table[:-1]) / 2, jnp.float32)
    codes = jnp.searchsorted(between, shares, method="compare_all").astype(jnp.uint8)
    pairs = codes.reshape(*stack, inputs // 2, 2, outputs)
    return Quantised((pairs[..., 0, :] << 4) | pairs[..., 1, :], scales)
