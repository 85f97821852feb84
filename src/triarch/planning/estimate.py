"""A roofline estimate of a step's time: what the hardware's peaks allow, not a measurement."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from triarch.planning.collectives import Collective
from triarch.planning.hlo import Instruction
from triarch.planning.topology import Topology
from triarch.planning.work import Work


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Seconds of a step, by what they go to; every step of the program takes the longer of computing and memory.

    Attributes:
      step_seconds: computing, memory and those collectives that hide behind nothing.
      compute_seconds: products at the chip's peak.
      memory_seconds: HBM traffic at its bandwidth.
      collective_seconds: all collectives, hidden or not.
      exposed_seconds: of them, what nothing hides.
      best_seconds: if the compiler hid all it could: the longest of computing, memory and collectives.
    """

    step_seconds: float
    compute_seconds: float
    memory_seconds: float
    collective_seconds: float
    exposed_seconds: float
    best_seconds: float


def estimate(
    steps: Sequence[tuple[Instruction, Work]], collectives: Sequence[Collective], topology: Topology
) -> Estimate:
    """Returns the estimate for one device; all devices do the same."""
    chip = topology.chip
    compute = sum(work.flops * work.times for _, work in steps) / chip.flops
    memory = sum(work.hbm_bytes * work.times for _, work in steps) / chip.hbm_bandwidth
    busy = sum(max(work.flops / chip.flops, work.hbm_bytes / chip.hbm_bandwidth) * work.times for _, work in steps)
    hidden = sum(one.seconds * one.times for one in collectives if one.hidden)
    waited = sum(one.seconds * one.times for one in collectives if not one.hidden)
    exposed = waited + max(hidden - busy, 0.0)
    return Estimate(
        step_seconds=busy + exposed,
        compute_seconds=compute,
        memory_seconds=memory,
        collective_seconds=hidden + waited,
        exposed_seconds=exposed,
        best_seconds=max(compute, memory, hidden + waited),
    )
