"""The devices a run is to have, as far as a choice depends on them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax

from triarch.memory import host_bytes
from triarch.training.choosing.chips import CHIPS, Chip
from triarch.training.hardware import peak_flops

# Of an accelerator whose data sheet is not known here: operations a byte of its memory, bytes a second of its links.
_FLOPS_A_BYTE, _LINK_BANDWIDTH, _NETWORK_BANDWIDTH = 300.0, 1e11, 1e10
# By a part of `device_kind` in lower case; the first match counts.
_KINDS = (
    ("tpu v6", "v6e"),
    ("tpu v5p", "v5p"),
    ("tpu v5 lite", "v5e"),
    ("tpu v5e", "v5e"),
    ("tpu v5", "v5p"),
    ("tpu v4", "v4"),
)


@dataclasses.dataclass(frozen=True)
class Machine:
    """Devices, all alike.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      kind: what they call themselves.
      shape: chips along each axis of a slice's torus; of other devices, how many there are.
      slices: equal ones, joined over the data-centre network.
      memory_bytes: of one device; None where it does not tell.
      flops: bfloat16 operations a second of one device.
      hbm_bandwidth: bytes a second of one device.
      link_bandwidth: bytes a second one way over one link.
      wraps: devices along an axis of the torus from which on its ends are joined; 0 where there is no torus.
      network_bandwidth: bytes a second that one device sends to other slices.
    """

    platform: str
    kind: str
    shape: tuple[int, ...]
    slices: int
    memory_bytes: int | None
    flops: float
    hbm_bandwidth: float
    link_bandwidth: float
    wraps: int
    network_bandwidth: float

    @property
    def num_devices(self) -> int:
        """Devices of all slices."""
        return math.prod(self.shape) * self.slices

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        joined = f"{self.slices} slices of " if self.slices > 1 else ""
        return f"{joined}{shape} {self.kind}"


def machine_of_chips(chip: Chip, shape: tuple[int, ...], slices: int) -> Machine:
    """Returns TPU slices by their data sheet."""
    return Machine(
        platform="tpu",
        kind=chip.generation,
        shape=shape,
        slices=slices,
        memory_bytes=chip.hbm_bytes,
        flops=chip.flops,
        hbm_bandwidth=chip.hbm_bandwidth,
        link_bandwidth=chip.ici_bandwidth,
        wraps=chip.ici_wraps,
        network_bandwidth=chip.dcn_bandwidth,
    )


def machine_of(devices: Sequence[Any]) -> Machine:
    """Returns the machine that devices make up; they may be those of a TPU slice that is not there."""
    # One of this process's own, which tells its memory.
    first = next((one for one in devices if one.process_index == jax.process_index()), devices[0])
    slices = len({getattr(device, "slice_index", 0) or 0 for device in devices})
    chip = next((CHIPS[name] for part, name in _KINDS if part in first.device_kind.lower()), None)
    if first.platform == "tpu" and chip is not None:
        return machine_of_chips(chip, _torus(devices, slices), slices)
    flops = peak_flops(first) or 1e14
    return Machine(
        platform=first.platform,
        kind=first.device_kind,
        shape=(len(devices) // slices,),
        slices=slices,
        memory_bytes=host_bytes() // len(devices) if first.platform == "cpu" else _told_memory(first),
        flops=flops,
        hbm_bandwidth=flops / _FLOPS_A_BYTE,
        link_bandwidth=_LINK_BANDWIDTH,
        wraps=0,
        network_bandwidth=_NETWORK_BANDWIDTH,
    )


def _torus(devices: Sequence[Any], slices: int) -> tuple[int, ...]:
    """Returns the extents of a slice; of devices that fill no box, how many there are."""
    extents = [len(set(places)) for places in zip(*(device.coords for device in devices), strict=True)]
    a_slice = len(devices) // slices
    shape = tuple(extent for extent in extents if extent > 1) or (1,)
    return shape if math.prod(shape) == a_slice else (a_slice,)


def _told_memory(device: Any) -> int | None:
    try:
        return (device.memory_stats() or {}).get("bytes_limit")
    except Exception:  # Devices of other processes, and some platforms, do not tell.
        return None
