"""What one chip of each TPU generation can do, by its data sheet."""

from __future__ import annotations

import dataclasses

_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """A generation of TPU; one jax device is one chip of it.

    Speeds are peaks, from https://cloud.google.com/tpu/docs/system-architecture-tpu-vm and
    https://jax-ml.github.io/scaling-book/tpus.

    Attributes:
      generation: "v4", "v5e", "v5p" or "v6e".
      compiler_name: what libtpu calls it in the name of a topology.
      compiler_config: what libtpu calls its cores taken together.
      dimensions: of the torus its slices are cut from.
      names_per_chip: what Google's names of slices count: 2 for TensorCores, 1 for chips.
      hbm_bytes: that the compiler lets a program have; the rest of the chip's memory is the system's.
      flops: bfloat16 operations a second.
      hbm_bandwidth: bytes a second.
      ici_bandwidth: bytes a second one way over one link between chips.
      ici_wraps: chips along an axis of a slice from which on its ends are joined.
      dcn_bandwidth: bytes a second that a chip can send to other slices, its host's network shared out.
    """

    generation: str
    compiler_name: str
    compiler_config: str
    dimensions: int
    names_per_chip: int
    hbm_bytes: int
    flops: float
    hbm_bandwidth: float
    ici_bandwidth: float
    ici_wraps: int
    dcn_bandwidth: float


# The compiler's limits of memory, as its own complaints name them ("exceeds available HBM (30.75G)").
CHIPS = {
    chip.generation: chip
    for chip in (
        Chip("v4", "v4", "megacore", 3, 2, int(30.75 * _GIB), 275e12, 1.2e12, 4.5e10, 4, 6.25e9),
        Chip("v5e", "v5e", "default", 2, 1, int(15.75 * _GIB), 197e12, 8.1e11, 4.5e10, 16, 3.1e9),
        Chip("v5p", "v5p", "megacore", 3, 2, int(95.74 * _GIB), 459e12, 2.8e12, 9e10, 4, 6.25e9),
        Chip("v6e", "v6e", "default", 2, 1, int(31.25 * _GIB), 918e12, 1.6e12, 9e10, 16, 1.25e10),
    )
}
