"""Where activations live: what a network asks of the mesh it runs on, and the answer of a single device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec


class Constrain(Protocol):
    """Places activations on a mesh by the logical names of their axes.

    Attributes:
      mesh: the devices; None for a single one.
    """

    @property
    def mesh(self) -> Mesh | None: ...

    def __call__(self, x: jax.Array, axes: Sequence[str | None]) -> jax.Array:
        """Pins how an activation is split."""
        ...

    def spec(self, axes: Sequence[str | None], shape: Sequence[int]) -> PartitionSpec:
        """Returns how an activation is split."""
        ...

    def shards(self, axis: str, size: int) -> int:
        """Returns into how many parts an axis is split."""
        ...

    def gathered(self, kernel: jax.Array, axes: Sequence[str | None], dtype: jnp.dtype) -> jax.Array:
        """Returns a parameter in `dtype`, whole but for tensor parallelism; gradients go back to where it lives."""
        ...

    def at_home(self, x: jax.Array, axes: Sequence[str | None]) -> jax.Array:
        """Pins a parameter's gradient to where the parameter lives."""
        ...


class _Unconstrained:
    mesh = None

    def __call__(self, x: jax.Array, axes: Sequence[str | None]) -> jax.Array:
        return x

    def spec(self, axes: Sequence[str | None], shape: Sequence[int]) -> PartitionSpec:
        return PartitionSpec(*(None for _ in axes))

    def shards(self, axis: str, size: int) -> int:
        return 1

    def gathered(self, kernel: jax.Array, axes: Sequence[str | None], dtype: jnp.dtype) -> jax.Array:
        return kernel

    def at_home(self, x: jax.Array, axes: Sequence[str | None]) -> jax.Array:
        return x


# Leaves everything to the compiler.
unconstrained: Constrain = _Unconstrained()
