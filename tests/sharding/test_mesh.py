"""Mesh sizes against the devices, and the rows that hosts read."""

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triarch.errors import UserError
from triarch.sharding import MeshConfig, host_rows, make_mesh
from triarch.sharding.mesh import AXES


@pytest.mark.parametrize(
    ("config", "devices", "sizes"),
    [
        (MeshConfig(), 8, (8, 1, 1)),
        (MeshConfig(data=1, fsdp=-1, tensor=2), 8, (1, 4, 2)),
        (MeshConfig(data=2, fsdp=2, tensor=2), 8, (2, 2, 2)),
        (MeshConfig(data=2, fsdp=1, tensor=-1), 2, (2, 1, 1)),
    ],
)
def test_sizes_resolve_the_rest(config, devices, sizes):
    assert tuple(config.sizes(devices)[axis] for axis in ("data", "fsdp", "tensor")) == sizes


@pytest.mark.parametrize(
    ("config", "devices", "message"),
    [
        (
            MeshConfig(data=3, fsdp=1, tensor=1),
            8,
            "data=3, fsdp=1, expert=1, sequence=1, tensor=1 needs 3 devices, but",
        ),
        (MeshConfig(data=-1, fsdp=3, tensor=1), 8, "needs a multiple of 3 devices, but there are 8"),
        (MeshConfig(data=16, fsdp=1, tensor=1), 8, "needs 16 devices"),
        (MeshConfig(data=-1, fsdp=-1, tensor=1), 8, "only one axis"),
        (MeshConfig(data=0), 8, "MeshConfig.data = 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(config, devices, message):
    with pytest.raises(UserError, match=message):
        config.sizes(devices)


def test_one_device_makes_a_mesh():
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    assert dict(mesh.shape) == dict.fromkeys(AXES, 1)


class Chip:
    """A device of a slice, as far as a mesh asks."""

    platform = "cpu"
    device_kind = "cpu"
    process_index = 0

    def __init__(self, number, slice_index):
        self.id, self.slice_index = number, slice_index


def test_slices_are_replicas():
    """What stands along every other axis is within one slice."""
    chips = [Chip(i, i % 2) for i in range(8)]
    mesh = make_mesh(MeshConfig(data=1, fsdp=2, tensor=2, replica=-1), chips)
    assert mesh.devices.shape == (2, 1, 2, 1, 1, 2)
    for index, replica in enumerate(mesh.devices):
        assert {chip.slice_index for chip in replica.flat} == {index}


def test_a_mesh_that_tears_a_slice_apart_is_refused():
    chips = [Chip(i, i // 4) for i in range(8)]
    with pytest.raises(UserError, match=r"MeshConfig.replica = 1: expected a multiple of the 2 slices"):
        make_mesh(MeshConfig(data=1, fsdp=8), chips)


class Layout:
    """A sharding of a vector over devices given as (host, rows)."""

    def __init__(self, *devices):
        self._devices = devices

    def devices_indices_map(self, shape):
        class Device:
            def __init__(self, host):
                self.process_index = host

        return {Device(host): (rows,) for host, rows in self._devices}


def test_hosts_in_order_read_contiguous_rows():
    layout = Layout((0, slice(0, 2)), (0, slice(2, 4)), (1, slice(4, 6)), (1, slice(6, 8)))
    assert host_rows(layout, 8, 0) == slice(0, 4)
    assert host_rows(layout, 8, 1) == slice(4, 8)


def test_interleaved_hosts_still_read_ranges():
    layout = Layout((1, slice(0, 2)), (0, slice(2, 4)), (1, slice(4, 6)), (0, slice(6, 8)))
    assert host_rows(layout, 8, 1) == slice(0, 4)
    assert host_rows(layout, 8, 0) == slice(4, 8)


def test_hosts_along_a_tensor_axis_read_the_same():
    layout = Layout((0, slice(0, 4)), (1, slice(0, 4)), (2, slice(4, 8)), (3, slice(4, 8)))
    assert [host_rows(layout, 8, host) for host in range(4)] == [slice(0, 4)] * 2 + [slice(4, 8)] * 2


def test_partly_shared_rows_are_refused():
    layout = Layout((0, slice(0, 4)), (0, slice(4, 8)), (1, slice(4, 8)))
    with pytest.raises(UserError, match="overlapping rows"):
        host_rows(layout, 8, 0)


@given(st.permutations([i // 2 for i in range(8)]), st.integers(1, 3))
def test_rows_of_all_hosts_make_up_the_batch(owners, rows_a_device):
    size = 8 * rows_a_device
    layout = Layout(*((owner, slice(i * rows_a_device, (i + 1) * rows_a_device)) for i, owner in enumerate(owners)))
    read = [row for host in range(4) for row in range(size)[host_rows(layout, size, host)]]
    assert sorted(read) == list(range(size))
