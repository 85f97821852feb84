"""What devices send each other: collectives by kind, bytes and network, and the time they would take."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Sequence

import numpy as np

from triarch.planning.hlo import Instruction, Module
from triarch.planning.topology import Topology

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
Groups = tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of a compiled program.

    Attributes:
      kind: one of `KINDS`.
      num_bytes: of its result on one device, or of its operand for reduce-scatter: the array before it is cut.
      dtype: of its elements.
      times: how often it runs a step.
      group: devices that take part in one of it.
      network: "ici" within a slice, "dcn" where it crosses slices.
      source: the jax operation it was made for.
      hidden: whether the compiler started it early, to run beside computation.
      seconds: once, alone, over the links that its groups can use.
    """

    kind: str
    num_bytes: int
    dtype: str
    times: int
    group: int
    network: str
    source: str
    hidden: bool
    seconds: float


def collectives(module: Module, topology: Topology, coordinates: np.ndarray) -> list[Collective]:
    """Returns every collective of a program.

    Args:
      module: the program.
      topology: it was compiled for.
      coordinates: int[devices, 1 + axes]: slice, and place in it, of each device in the order of the mesh.
    """
    found = []
    for instruction, computation, times in module.executed():
        inner = _inner(module, instruction)
        if inner is None or not times:
            continue
        kind = inner.opcode.removesuffix("-start")
        groups = replica_groups(inner, len(coordinates))
        operands = [computation[name] for name in instruction.operands if name in computation]
        if kind == "reduce-scatter":
            num_bytes = sum(operand.num_bytes for operand in operands) if inner is instruction else inner.num_bytes
        else:
            arrays = instruction.arrays if inner is instruction else inner.arrays
            # The start of an asynchronous one holds operands and results.
            halves = arrays[len(arrays) // 2 :] if inner.opcode.endswith("-start") and kind != "all-reduce" else arrays
            num_bytes = sum(array.num_bytes for array in halves)
        members = np.array(groups[0])
        crosses = len(set(coordinates[members, 0])) > 1
        found.append(
            Collective(
                kind=kind,
                num_bytes=num_bytes,
                dtype=inner.arrays[0].dtype,
                times=times,
                group=len(members),
                network="dcn" if crosses else "ici",
                source=inner.source or instruction.source,
                hidden=inner.opcode.endswith("-start") or instruction.name.startswith("async-"),
                seconds=_seconds(kind, num_bytes, coordinates[members], topology, crosses),
            )
        )
    return found


def summary(found: Sequence[Collective]) -> dict[str, dict[str, float]]:
    """Returns `bytes`, `count` and `seconds` a step by network and kind, such as "ici all-gather"."""
    totals: dict[str, dict[str, float]] = {}
    for one in found:
        entry = totals.setdefault(f"{one.network} {one.kind}", {"bytes": 0, "count": 0, "seconds": 0.0})
        entry["bytes"] += one.num_bytes * one.times
        entry["count"] += one.times
        entry["seconds"] += one.seconds * one.times
    return dict(sorted(totals.items(), key=lambda item: -item[1]["seconds"]))


def _inner(module: Module, instruction: Instruction) -> Instruction | None:
    """Returns the collective that an instruction is, or, as a fusion, holds."""
    if instruction.opcode.removesuffix("-start") in KINDS:
        return instruction
    if instruction.opcode != "fusion" or _goes_on(instruction):
        return None
    inner = [i for i, _ in module.fused(instruction) if i.opcode.removesuffix("-start") in KINDS]
    if not inner:
        return None
    # An all-reduce of which a fusion keeps a slice is what TPUs make of a reduce-scatter.
    scatters = instruction.num_bytes < inner[0].num_bytes and inner[0].opcode == "all-reduce"
    return dataclasses.replace(inner[0], opcode="reduce-scatter") if scatters else inner[0]


def _goes_on(instruction: Instruction) -> bool:
    """Whether a fusion computes while a collective that began in an earlier one goes on, or awaits its end."""
    inside = any(name.startswith("async_collective_fusion") for name in instruction.called)
    return inside or instruction.name.startswith("async-collective-done")


def replica_groups(instruction: Instruction, num_devices: int) -> Groups:
    """Returns which devices take part together, by their place in the order of the mesh."""
    text = instruction.text
    if found := re.search(r"replica_groups=\{(\{[\d,{} ]*\})\}", text):
        return tuple(tuple(map(int, re.findall(r"\d+", group))) for group in re.findall(r"\{([\d, ]*)\}", found[1]))
    if found := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text):
        shape, source = (tuple(map(int, part.split(","))) for part in found.groups()[:2])
        order = np.arange(math.prod(source)).reshape(source)
        if found[3]:
            order = order.transpose(tuple(map(int, found[3].split(","))))
        return tuple(map(tuple, order.reshape(shape).tolist()))
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\](?:[^{]*)\{([^}]*)\}", text):
        return _mesh_groups(found[1], found[2])
    if found := re.search(r"source_target_pairs=\{(.*?)\}\}", text):
        return tuple(tuple(map(int, pair)) for pair in re.findall(r"\{(\d+),(\d+)\}?", found[1] + "}"))
    return (tuple(range(num_devices)),)


def _mesh_groups(axes: str, along: str) -> Groups:
    """Reads the form mesh['a'=2,'b'=4] {'b'}: groups along axes of a mesh."""
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", axes)}
    names = list(sizes)
    chosen = [name for name in re.findall(r"'([^']+)'", along) if name in sizes]
    order = np.arange(math.prod(sizes.values())).reshape(tuple(sizes.values()))
    kept = [name for name in names if name not in chosen]
    turned = order.transpose([names.index(name) for name in (*kept, *chosen)])
    width = math.prod(sizes[name] for name in chosen)
    return tuple(map(tuple, turned.reshape(-1, width).tolist()))


def _seconds(kind: str, num_bytes: int, places: np.ndarray, topology: Topology, crosses: bool) -> float:
    """Returns the time of one collective by the bytes that each device must receive.

    Rings over all links that join the members (https://jax-ml.github.io/scaling-book/sharding): a group that spans k
    axes of the torus receives over k links, twice as many where the axis is joined at its ends.
    """
    members = len(places)
    if members == 1:
        return 0.0
    share = (members - 1) / members
    passes = {"all-reduce": 2 * share, "all-to-all": share / 4, "collective-permute": 1.0}.get(kind, share)
    bandwidth = topology.chip.ici_bandwidth * _links(places, topology)
    seconds = num_bytes * passes / bandwidth
    if crosses:
        # Within each slice first, so that a chip exchanges only its share of the result with the other slices.
        slices = len(set(places[:, 0]))
        per_slice = max(members // slices, 1)
        between = {"all-reduce": 2.0}.get(kind, 1.0) * (slices - 1) / slices
        seconds += num_bytes * between / per_slice / topology.chip.dcn_bandwidth
    return seconds


def _links(places: np.ndarray, topology: Topology) -> int:
    links = 0
    for axis, extent in itertools.islice(enumerate(topology.shape), places.shape[1] - 1):
        spanned = len(set(places[:, axis + 1]))
        if spanned > 1:
            links += 2 if spanned == extent and extent >= topology.chip.ici_wraps else 1
    return max(links, 1)
