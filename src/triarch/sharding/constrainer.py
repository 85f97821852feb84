"""Where activations, gathered parameters and gradients lie inside a jitted function."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from triarch.sharding.rules import AxisRules, LogicalAxes, MeshAxes, parameter_sharding, partition_spec


@dataclasses.dataclass(frozen=True)
class Constrainer:
    """Places activations inside a jitted function, by the logical names of their axes.

    Attributes:
      rules: the table to look names up in.
      devices: the mesh.
    """

    rules: AxisRules
    devices: Mesh

    @property
    def mesh(self) -> Mesh | None:
        """The devices; None for a single one, on which there is nothing to place."""
        return None if self.devices.size == 1 else self.devices

    def __call__(self, x: jax.Array, axes: LogicalAxes) -> jax.Array:
        """Pins how an activation is split."""
        if self.mesh is None:
            return x
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.devices, self.spec(axes, x.shape)))

    def spec(self, axes: LogicalAxes, shape: Sequence[int]) -> PartitionSpec:
        """Returns how an activation is split."""
        return partition_spec(axes, shape, self.rules.activations, self.devices)

    def shards(self, axis: str, size: int) -> int:
        """Returns into how many parts an axis is split."""
        (axes,) = self.spec((axis,), (size,))
        names = (axes,) if isinstance(axes, str) else axes or ()
        return math.prod(self.devices.shape[name] for name in names)

    def gathered(self, kernel: jax.Array, axes: LogicalAxes, dtype: jnp.dtype) -> jax.Array:
        """Returns a parameter in `dtype`, whole but for tensor parallelism; gradients go back to where it lives."""
        if self.mesh is None:
            return kernel
        activations = self.rules.activations
        apart = {*activations.batch, *activations.length}
        own = partition_spec(axes, kernel.shape, self.rules.parameters, self.devices)
        # Experts stay where they live: tokens travel to them.
        splits = zip(own, axes, strict=True)
        whole = PartitionSpec(*(split if name == "experts" else _without(split, apart) for split, name in splits))
        return _gathered(dtype, *(NamedSharding(self.devices, spec) for spec in (own, whole)), kernel)

    def at_home(self, x: jax.Array, axes: LogicalAxes) -> jax.Array:
        """Pins a parameter's gradient to where the parameter lives."""
        if self.mesh is None:
            return x
        return jax.lax.with_sharding_constraint(x, parameter_sharding(axes, x.shape, self.rules, self.devices))


def _without(axes: str | MeshAxes | None, apart: set[str]) -> MeshAxes | None:
    kept = tuple(axis for axis in ((axes,) if isinstance(axes, str) else axes or ()) if axis not in apart)
    return kept or None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _gathered(dtype: jnp.dtype, own: NamedSharding, whole: NamedSharding, kernel: jax.Array) -> jax.Array:
    return jax.lax.with_sharding_constraint(kernel.astype(dtype), whole)


def _gathered_forward(dtype, own, whole, kernel):
    return _gathered(dtype, own, whole, kernel), jnp.zeros((), kernel.dtype)


def _gathered_backward(dtype, own, whole, like, slope):
    return (jax.lax.with_sharding_constraint(slope, own).astype(like.dtype),)


_gathered.defvjp(_gathered_forward, _gathered_backward)
