"""The linear maps behind every layer, with a backward pass laid out for the processor it runs on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from triarch.models.adapters.kernel import AdaptedKernel, multiplied
from triarch.models.layers.transposition import transposed
from triarch.models.precision import at_least_float32

Kernels = tuple[jax.Array, ...]


def affine(x: Float[Array, "batch length inner"], kernel: nnx.Param, bias: nnx.Param | None) -> jax.Array:
    """Returns `x @ kernel + bias` in the type of `x`; no bias is none."""
    return affines(x, (kernel, bias))[0]


def affines(
    x: Float[Array, "batch length inner"], *layers: tuple[nnx.Param | jax.Array, nnx.Param | jax.Array | None]
) -> tuple[jax.Array, ...]:
    """Returns `affine(x, kernel, bias)` for several layers that read the same `x`, and share work on its gradient."""
    products = project(x, *(kernel[...] for kernel, _ in layers))
    return tuple(
        y if bias is None else y + bias[...].astype(y.dtype) for y, (_, bias) in zip(products, layers, strict=True)
    )


def project(
    x: Float[Array, "batch length inner"], *kernels: Float[Array, "inner _outer"]
) -> tuple[Float[Array, "batch length _outer"], ...]:
    """Returns `x @ kernel` for each, kernels taken in the type of `x`; rematerialisation calls it "projection"."""
    if any(isinstance(kernel, AdaptedKernel) for kernel in kernels):
        products = tuple(multiplied(lambda x, one: _products(x, (one,))[0], x, kernel) for kernel in kernels)
    else:
        products = _products(x, kernels)
    return tuple(checkpoint_name(y, "projection") for y in products)


@jax.custom_vjp
def _products(x: jax.Array, kernels: Kernels) -> Kernels:
    return tuple(_product(x, kernel.astype(x.dtype)) for kernel in kernels)


def _forward(x: jax.Array, kernels: Kernels) -> tuple[Kernels, tuple[jax.Array, Kernels]]:
    return _products(x, kernels), (x, kernels)


def _backward(saved: tuple[jax.Array, Kernels], slopes: Kernels) -> tuple[jax.Array, Kernels]:
    x, kernels = saved
    x_slope: Any = sum(_product(slope, kernel.astype(x.dtype).T) for slope, kernel in zip(slopes, kernels, strict=True))
    kernel_slopes = outer_products(x, slopes)
    return x_slope, tuple(new.astype(old.dtype) for new, old in zip(kernel_slopes, kernels, strict=True))


_products.defvjp(_forward, _backward)


def outer_products(
    x: Float[Array, "batch length inner"], slopes: tuple[Float[Array, "batch length _outer"], ...]
) -> tuple[Float[Array, "inner _outer"], ...]:
    """Returns the sum over tokens of x slope^T for each slope, at least in float32: gradients of kernels."""
    return jax.lax.platform_dependent(x, slopes, cpu=_flat_outer_products, default=_outer_products)


def _product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.platform_dependent(x, kernel, cpu=_flat_product, default=jnp.matmul)


def _outer_products(x: jax.Array, slopes: Kernels) -> Kernels:
    wide = at_least_float32(x.dtype)
    return tuple(jnp.einsum("bli,blo->io", x, slope, preferred_element_type=wide) for slope in slopes)


def _flat_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """One product of two matrices: XLA fuses neighbours into a three-dimensional one at the cost of its speed."""
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


def _flat_outer_products(x: jax.Array, slopes: Kernels) -> Kernels:
    """x^T slope with row-major operands: a transposed left one takes twice the time on a CPU.

    The narrower operand is transposed by itself, `x` once for all; the barrier keeps XLA from folding the transposition
    of a result into its product.
    """
    wide = at_least_float32(x.dtype)
    x, slopes = x.reshape(-1, x.shape[-1]), tuple(slope.reshape(-1, slope.shape[-1]) for slope in slopes)
    transposed_x = transposed(x)

    def outer(slope: jax.Array) -> jax.Array:
        if x.shape[1] <= slope.shape[1]:
            return jnp.matmul(transposed_x, slope, preferred_element_type=wide)
        return jax.lax.optimization_barrier(jnp.matmul(transposed(slope), x, preferred_element_type=wide)).T

    return tuple(map(outer, slopes))
