"""Meshes of a machine: which there are, which divide a run's batch and layers, and which lie along its torus."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from triarch.models import ModelConfig
from triarch.sharding.mesh import AXES
from triarch.sharding.torus import places
from triarch.training.choosing.machine import Machine
from triarch.training.config import RunConfig

# Sizes of the axis `tensor` that are tried.
TENSORS = (1, 2, 4, 8, 16)


def sizes_of(**sizes: int) -> dict[str, int]:
    """Returns the size of every mesh axis: 1 of those that are not given."""
    return dict.fromkeys(AXES, 1) | sizes


def meshes(
    config: RunConfig, machine: Machine, tensor: int, sequence: int = 1, microbatches: int = 1
) -> Iterator[dict[str, int]]:
    """Yields the meshes with axes `tensor` and `sequence` that divide a run, from data parallelism to FSDP.

    Slices share replicas alone.
    """
    rest, remainder = divmod(math.prod(machine.shape), tensor * sequence)
    for fsdp in () if remainder else range(1, rest + 1):
        if rest % fsdp == 0:
            data = rest // fsdp
            sizes = sizes_of(replica=machine.slices, data=data, fsdp=fsdp, sequence=sequence, tensor=tensor)
            if divides(config, sizes, microbatches):
                yield sizes


def divides(config: RunConfig, sizes: Mapping[str, int], microbatches: int = 1) -> bool:
    """Returns whether a mesh divides the batch, and what one layer is split by."""
    rows = sizes["replica"] * sizes["data"] * sizes["fsdp"] * sizes["expert"] * microbatches
    tensor, parts = sizes["tensor"], config.execution.feed_forward_parts

    def splits(own: ModelConfig) -> bool:
        units = tensor * (1 if own.d_ff % parts else parts)  # Parts that suit no mesh are refused by the model.
        return own.num_heads % tensor == 0 and own.d_ff % units == 0

    return config.batch_size % rows == 0 and splits(config.model) and splits(config.model.of_side("decoder"))


def is_whole(sizes: Mapping[str, int], machine: Machine) -> bool:
    """Returns whether every mesh axis takes whole axes of the torus; where there is no torus, it does."""
    return not machine.wraps or places([sizes[axis] for axis in AXES if axis != "replica"], machine.shape) is not None
