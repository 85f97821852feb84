"""The device mesh: its axes, and which rows of a global batch each host reads."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from triarch import lazy
from triarch.errors import UserError
from triarch.fields import Size, check
from triarch.sharding.torus import whole_sizes

if TYPE_CHECKING:
    import jax
    from jax.experimental import mesh_utils
    from jax.sharding import AbstractMesh, Mesh, Sharding
else:
    jax, mesh_utils = lazy.module("jax"), lazy.module("jax.experimental.mesh_utils")

# From the slowest network to the fastest: neighbours on the mesh are neighbours on the torus.
AXES = ("replica", "data", "fsdp", "expert", "sequence", "tensor")
AxisSize: TypeAlias = Size | Literal[-1]


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh axes; one of them may be -1, which takes all the devices the others leave.

    Attributes:
      data: replicas that hold whole parameters and share out the batch; "auto": where no other axis is set, a run
        chooses the whole mesh by its parameters, batch and devices, else it is -1.
      fsdp: shards of the batch that also share out the parameters (fully sharded data parallelism).
      tensor: shards of heads and feed-forward width inside one layer.
      sequence: shards of each sequence (context parallelism): queries are split, keys and values gathered.
      expert: shards of the batch that also share out the experts of a layer (`Experts`), to which tokens travel.
      replica: like `data`, between slices: all that crosses the data-centre network is one sum of gradients a step.
    """

    data: AxisSize | Literal["auto"] = "auto"
    fsdp: AxisSize = 1
    tensor: AxisSize = 1
    sequence: AxisSize = 1
    replica: AxisSize = 1
    expert: AxisSize = 1

    @property
    def is_open(self) -> bool:
        """Whether the whole mesh is to be chosen."""
        return self.data == "auto" and all(getattr(self, axis) == 1 for axis in AXES if axis != "data")

    def validate(self) -> None:
        """Checks what can be checked without devices.

        Raises:
          UserError: a size is neither positive nor -1, or more than one is -1.
        """
        check(self)
        if sum(getattr(self, axis) == -1 for axis in AXES) > 1:
            raise UserError(f"{self}: only one axis can take the rest (-1)")

    def sizes(self, num_devices: int) -> dict[str, int]:
        """Returns the size of every axis, with -1 resolved; "auto" is -1, or 1 beside another -1.

        Raises:
          UserError: the sizes do not multiply out to `num_devices`.
        """
        self.validate()
        sizes = {axis: getattr(self, axis) for axis in AXES}
        if sizes["data"] == "auto":
            sizes["data"] = 1 if -1 in sizes.values() else -1
        fixed = math.prod(size for size in sizes.values() if size != -1)
        rest, remainder = divmod(num_devices, fixed)
        has_rest = -1 in sizes.values()
        if remainder or (not has_rest and rest != 1):
            shape = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
            wanted = f"a multiple of {fixed}" if has_rest else f"{fixed}"
            raise UserError(f"mesh {shape} needs {wanted} devices, but there are {num_devices}")
        return {axis: rest if size == -1 else size for axis, size in sizes.items()}


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns the mesh over `devices` (all devices of all hosts by default), laid out for the physical topology.

    Raises:
      UserError: the sizes do not multiply out to the number of devices, or slices would share more than replicas.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = config.sizes(len(devices))
    # The compiler propagates shardings from the constraints given; explicit axes would type every operation.
    types = (jax.sharding.AxisType.Auto,) * len(AXES)
    slices = len({getattr(device, "slice_index", 0) or 0 for device in devices})
    if slices == 1:
        shape = tuple(sizes.values())
        return _laid_out(
            devices,
            shape,
            lambda: jax.make_mesh(shape, AXES, axis_types=types, devices=devices),
            lambda: jax.sharding.Mesh(
                mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True), AXES, axis_types=types
            ),
        )
    if sizes["replica"] % slices:
        replica = sizes["replica"]
        raise UserError(
            f"MeshConfig.replica = {replica}: expected a multiple of the {slices} slices the devices are in"
        )
    within = (sizes["replica"] // slices, *(sizes[axis] for axis in AXES[1:]))
    between = (slices, *(1 for _ in AXES[1:]))

    def joined(split: bool) -> Mesh:
        placed = mesh_utils.create_hybrid_device_mesh(within, between, devices, allow_split_physical_axes=split)
        return jax.sharding.Mesh(placed, AXES, axis_types=types)

    return _laid_out(devices, within, lambda: joined(False), lambda: joined(True))


def _laid_out(
    devices: Sequence[Any], within: Sequence[int], whole: Callable[[], Mesh], split: Callable[[], Mesh]
) -> Mesh:
    """Returns the mesh along whole axes of the torus if that can be, else along parts of them.

    Raises:
      UserError: the torus has no such mesh.
    """
    for attempt in (whole, split):
        try:
            return attempt()
        except (NotImplementedError, ValueError, AssertionError) as error:
            refused = error
    places = [getattr(device, "coords", None) or () for device in devices]
    shape = [extent for extent in (len(set(axis)) for axis in zip(*places, strict=True)) if extent > 1]
    wanted = ", ".join(f"{axis}={size}" for axis, size in zip(AXES, within, strict=True) if size > 1)
    good = " or ".join(map(str, whole_sizes(shape)))
    raise UserError(
        f"mesh {wanted} cannot be laid over {'x'.join(map(str, shape)) or len(devices)} chips: let each axis be {good}"
    ) from refused


def platform(mesh: Mesh | AbstractMesh) -> str:
    """Returns "cpu", "gpu" or "tpu": what the devices of a mesh are, which need not be this machine's."""
    return mesh.devices.flat[0].platform if isinstance(mesh, jax.sharding.Mesh) else jax.default_backend()


def host_rows(sharding: Sharding, batch_size: int, process_index: int | None = None) -> slice:
    """Returns the rows of the global batch that this host reads.

    Hosts whose devices hold the same rows (a tensor axis that spans hosts) read the same; all others read disjoint
    ranges that together make up the batch. Ranges are handed out in order of the first row a host holds, so that they
    are contiguous even where the topology interleaves hosts; `jax.make_array_from_process_local_data` puts them in
    place. Which device a row lands on changes no sum over the batch.

    Args:
      sharding: how axis 0 of a batch array is laid out.
      batch_size: rows of the global batch.
      process_index: of the host in question; this one by default.

    Raises:
      UserError: two hosts share part of their rows but not all.
    """
    process_index = jax.process_index() if process_index is None else process_index
    held: dict[int, set[int]] = {}
    device: Any
    for device, (rows,) in sharding.devices_indices_map((batch_size,)).items():
        held.setdefault(device.process_index, set()).update(range(*rows.indices(batch_size)))
    groups = sorted({frozenset(rows) for rows in held.values()}, key=min)
    if sum(len(group) for group in groups) != batch_size:
        raise UserError(
            "the mesh gives hosts overlapping rows of the batch: let replica * data * fsdp * expert be a multiple of "
            "the hosts"
        )
    start = 0
    for group in groups:
        if group == held[process_index]:
            break
        start += len(group)
    return slice(start, start + len(held[process_index]))
