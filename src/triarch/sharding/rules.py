"""Logical axis rules: one table from the names of array dimensions to mesh axes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from triarch import lazy
from triarch.errors import UserError, nearest
from triarch.sharding.mesh import AXES

if TYPE_CHECKING:
    import jax
    from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
else:
    jax = lazy.module("jax")

MeshAxes = tuple[str, ...]
LogicalAxes = Sequence[str | None]


@dataclasses.dataclass(frozen=True)
class ParameterRules:
    """Mesh axes over which each dimension of a parameter, and of its optimizer state, is split.

    Attributes:
      vocab: rows of the embedding and of the output projection.
      embed: width of the residual stream.
      mlp: inner width of the feed-forward layer.
      heads: query heads, side by side.
      kv_heads: key and value heads, side by side.
      head_dim: width of one head.
      layers: repeats of a scanned group of layers.
      experts: experts of a feed-forward layer.
    """

    vocab: MeshAxes = ("tensor",)
    embed: MeshAxes = ("fsdp",)
    mlp: MeshAxes = ("tensor",)
    heads: MeshAxes = ("tensor",)
    kv_heads: MeshAxes = ("tensor",)
    head_dim: MeshAxes = ()
    layers: MeshAxes = ()
    experts: MeshAxes = ("expert",)


@dataclasses.dataclass(frozen=True)
class ActivationRules:
    """Mesh axes over which each dimension of an activation is split.

    Attributes:
      batch: sequences.
      length: positions of a sequence.
      embed: width of the residual stream.
      heads: query heads.
      kv_heads: key and value heads.
      head_dim: width of one head.
      mlp: inner width of the feed-forward layer.
      vocab: logits of a position.
      experts: experts of a feed-forward layer.
    """

    batch: MeshAxes = ("replica", "data", "fsdp", "expert")
    length: MeshAxes = ("sequence",)
    embed: MeshAxes = ()
    heads: MeshAxes = ("tensor",)
    kv_heads: MeshAxes = ("tensor",)
    head_dim: MeshAxes = ()
    mlp: MeshAxes = ("tensor",)
    vocab: MeshAxes = ("tensor",)
    experts: MeshAxes = ("expert",)


@dataclasses.dataclass(frozen=True)
class AxisRules:
    """The whole table: a sharding strategy is a value of this class.

    Attributes:
      parameters: of parameters and optimizer state.
      activations: of activations.
    """

    parameters: ParameterRules = ParameterRules()
    activations: ActivationRules = ActivationRules()

    def validate(self) -> None:
        """Checks the table against the mesh axes there are.

        Raises:
          UserError: a rule is not a tuple of names of mesh axes.
        """
        for table in (self.parameters, self.activations):
            for name, axes in vars(table).items():
                where = f"{type(table).__name__}.{name} = {axes!r}"
                if isinstance(axes, str) or not all(isinstance(axis, str) for axis in axes):
                    raise UserError(f"{where}: expected a tuple of mesh axes such as ('fsdp',)")
                for axis in axes:
                    if axis not in AXES:
                        raise UserError(f"{where}: no mesh axis {axis!r}{nearest(axis, AXES)}")


def partition_spec(
    logical_axes: LogicalAxes,
    shape: Sequence[int],
    rules: ParameterRules | ActivationRules,
    mesh: Mesh | AbstractMesh,
) -> PartitionSpec:
    """Returns how an array is split over the mesh.

    Dimensions are served from the left. A mesh axis is used once at most, and is passed over where it does not divide
    the dimension, which is then replicated along it.

    Args:
      logical_axes: one name a dimension; None is never split.
      shape: of the array.
      rules: the table to look names up in.
      mesh: the mesh; axes of size 1 are left out of the result.

    Raises:
      ValueError: as many names as dimensions were expected, or a name is not in the table.
    """
    if len(logical_axes) != len(shape):
        raise ValueError(f"logical axes {tuple(logical_axes)} do not name the dimensions of shape {tuple(shape)}")
    used: set[str] = set()
    return jax.sharding.PartitionSpec(
        *(_dimension(name, size, rules, mesh, used) for name, size in zip(logical_axes, shape, strict=True))
    )


def _dimension(
    name: str | None, size: int, rules: ParameterRules | ActivationRules, mesh: Mesh | AbstractMesh, used: set[str]
) -> str | MeshAxes | None:
    if name is None:
        return None
    if name not in vars(rules):
        raise ValueError(f"no rule for the logical axis {name!r} in {type(rules).__name__}{nearest(name, vars(rules))}")
    chosen: list[str] = []
    shards = 1
    for axis in getattr(rules, name):
        extent = mesh.shape.get(axis, 1)
        if extent > 1 and axis not in used and size % (shards * extent) == 0:
            chosen.append(axis)
            used.add(axis)
            shards *= extent
    if not chosen:
        return None
    return chosen[0] if len(chosen) == 1 else tuple(chosen)


def parameter_sharding(logical_axes: LogicalAxes, shape: Sequence[int], rules: AxisRules, mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a parameter, or of optimizer state whose dimensions carry a parameter's names."""
    return jax.sharding.NamedSharding(mesh, partition_spec(logical_axes, shape, rules.parameters, mesh))


def batch_sharding(rules: AxisRules, mesh: Mesh) -> NamedSharding:
    """Returns the sharding of input arrays, "batch" leading, of a size that `check_batch` has passed."""
    axes = tuple(axis for axis in rules.activations.batch if mesh.shape.get(axis, 1) > 1)
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(axes or None))


def check_batch(rules: AxisRules, mesh: Mesh, batch_size: int, microbatches: int = 1) -> None:
    """Checks that every device gets the same number of rows of every microbatch.

    Raises:
      UserError: a microbatch cannot be split evenly over the mesh axes of "batch".
    """
    parts = {axis: mesh.shape[axis] for axis in rules.activations.batch if mesh.shape.get(axis, 1) > 1}
    parts |= {"microbatches": microbatches} if microbatches > 1 else {}
    if batch_size % math.prod(parts.values()):
        product = " * ".join(f"{name}={size}" for name, size in parts.items())
        total = f" = {math.prod(parts.values())}" if len(parts) > 1 else ""
        raise UserError(f"batch_size {batch_size} is not divisible by {product}{total}")


def check_split(rules: AxisRules, mesh: Mesh, sizes: Mapping[str, int]) -> None:
    """Checks that the mesh divides what one layer is split by, which would otherwise be computed several times over.

    Args:
      rules: the table.
      mesh: the mesh.
      sizes: of logical axes of activations, with what a user calls them: {"heads": 16}.

    Raises:
      UserError: a mesh axis does not divide one.
    """
    for name, size in sizes.items():
        for axis in getattr(rules.activations, name):
            extent = mesh.shape.get(axis, 1)
            if size % extent:
                divisors = [str(d) for d in range(2, extent + 1) if size % d == 0] or ["1"]
                raise UserError(
                    f"mesh axis {axis}={extent} does not divide {name} = {size}: "
                    f"choose {axis} among {', '.join(divisors)}"
                )
