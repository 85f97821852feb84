"""Making parameters: an initial value, what the parameter is, and the logical name of each of its dimensions."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from triarch.models.kinds import LAYERS, Axes, Kind
from triarch.models.shape import Shape

# Standard deviation of a normal truncated at two standard deviations.
_TRUNCATED_STD = 0.87962566103423978


def normal(
    rngs: nnx.Rngs, shape: tuple[int, ...], std: float, axes: Axes, kind: Kind = "kernel", width_ratio: float = 1.0
) -> nnx.Param:
    """Returns a float32 parameter of standard deviation `std`, truncated at two of the underlying normal's.

    `width_ratio` is that of its inputs, where its learning rate is to fall with it (`Shape.width_ratio`).
    """
    value = jax.random.truncated_normal(rngs.params(), -2.0, 2.0, shape, jnp.float32)
    return parameter(value * (std / _TRUNCATED_STD), axes, kind, width_ratio)


def kernel_std(shape: Shape, inputs: int) -> float:
    """Returns the initial standard deviation of a matrix from so many inputs, which grow with the network's width."""
    return shape.init_std / math.sqrt(shape.width_ratio) if shape.kernel_init == "fixed" else 1 / math.sqrt(inputs)


def constant(value: float, shape: tuple[int, ...], axes: Axes, kind: Kind = "vector") -> nnx.Param:
    """Returns a float32 parameter filled with `value`."""
    return parameter(jnp.full(shape, value, jnp.float32), axes, kind)


def parameter(value: jax.Array, axes: Axes, kind: Kind, width_ratio: float = 1.0) -> nnx.Param:
    """Returns a parameter of any initial value."""
    return nnx.Param(value, logical_axes=axes, kind=kind, width_ratio=width_ratio)


def kind_of(variable: nnx.Variable) -> Kind:
    """Returns what a parameter is."""
    return variable.get_metadata("kind")


def width_ratio_of(variable: nnx.Variable) -> float:
    """Returns how many times as many inputs as in its base a parameter has, if its learning rate is to fall with it."""
    return variable.get_metadata("width_ratio")


def axes_of(variable: nnx.Variable) -> Axes:
    """Returns the logical names of a parameter's dimensions; of a layer's, sliced out of a stack, without "layers"."""
    axes = variable.get_metadata("logical_axes")
    return axes[len(axes) - variable.ndim :]


def stack(variable: nnx.Variable) -> None:
    """Marks a parameter as one of repeated layers, which lie along a leading axis."""
    variable.set_metadata("logical_axes", (LAYERS, *variable.get_metadata("logical_axes")))
