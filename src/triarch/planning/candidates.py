"""What a search may compile: meshes that the torus has, remat policies, gathers and microbatches, by promise."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from triarch.errors import UserError
from triarch.planning.programs import Kind
from triarch.planning.topology import Topology
from triarch.sharding import MeshConfig
from triarch.sharding.torus import places
from triarch.training.choosing.choice import divides
from triarch.training.choosing.cost import Option, needed_bytes, seconds
from triarch.training.choosing.facts import POLICIES, Facts
from triarch.training.config import RunConfig

_TENSORS, _SEQUENCES, _MICROBATCHES = (1, 2, 4, 8, 16), (1, 2, 4), (1, 2, 4, 8, 16)
# The arithmetic is too high by no more than this for what is large enough to be short of memory.
_HIGH = 0.15


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One thing to compile.

    Attributes:
      option: the mesh and the rest.
      needed_bytes: of a device, estimated.
      seconds: of a step, estimated.
      is_split: whether a mesh axis takes part of an axis of the torus, and so sends over fewer links.
    """

    option: Option
    needed_bytes: float
    seconds: float
    is_split: bool

    def applied(self, config: RunConfig) -> RunConfig:
        """Returns a config that computes so."""
        option = self.option
        execution: dict[str, Any] = dict(remat=option.remat, gather=option.gather)
        return dataclasses.replace(
            config,
            mesh=MeshConfig(**option.sizes),
            execution=dataclasses.replace(config.execution, **execution),
            microbatches=option.microbatches,
        )

    def __str__(self) -> str:
        return f"{self.option}{', axes split' if self.is_split else ''}"


def candidates(
    config: RunConfig, topology: Topology, program: Kind = "train", facts: Facts | None = None
) -> tuple[list[Candidate], int]:
    """Returns what is worth compiling, the most promising first, and how many more are too large for a chip.

    The fastest of each mesh and policy come before second ones of any: the arithmetic is no finer than that.

    Args:
      config: of the run; what it says of mesh, remat, gather and microbatches is not heeded.
      topology: the slice.
      program: which step; only of a training step is more known than which meshes there are.
      facts: of the run, where they are known.

    Raises:
      UserError: no mesh divides the batch and the heads.
    """
    if program != "train":
        plain = [Option(sizes, "none", "compiler") for sizes in meshes(config, topology)]
        return [Candidate(option, 0.0, 0.0, not is_whole(option.sizes, topology)) for option in plain], 0
    facts = Facts(config, "tpu") if facts is None else facts.under(config)
    machine, limit = topology.machine, topology.chip.hbm_bytes
    found, too_large = [], 0
    for sizes in meshes(config, topology):
        for option in _options(config, sizes):
            needed = needed_bytes(facts, option)
            if needed > limit * (1 + _HIGH):
                too_large += 1
                continue
            found.append(Candidate(option, needed, seconds(facts, option, machine), not is_whole(sizes, topology)))
    if not found:
        # What needs least is compiled all the same, so that the answer is the compiler's.
        options = [option for sizes in meshes(config, topology) for option in _options(config, sizes)]
        least = min(options, key=functools.partial(needed_bytes, facts))
        found.append(Candidate(least, needed_bytes(facts, least), seconds(facts, least, machine), False))
        too_large -= 1
    return _spread(found), too_large


def meshes(config: RunConfig, topology: Topology) -> list[dict[str, int]]:
    """Returns every mesh that the torus has, along whole axes or parts of them, and that divides batch and heads.

    Raises:
      UserError: there is none.
    """
    chips = math.prod(topology.shape)
    found = []
    for tensor, sequence in itertools.product(_TENSORS, _SEQUENCES):
        rest, remainder = divmod(chips, tensor * sequence)
        if remainder or min(tensor, sequence) > 1:
            continue
        for fsdp in (size for size in range(1, rest + 1) if rest % size == 0):
            sizes = dict(replica=topology.slices, data=rest // fsdp, fsdp=fsdp, sequence=sequence, tensor=tensor)
            lengths = config.bound().lengths.values()
            if divides(config, sizes) and all(length % sequence == 0 for length in lengths):
                found.append(sizes)
    if not found:
        raise UserError(
            f"batch_size {config.batch_size} is not divisible over {topology.num_devices} chips by a mesh whose tensor "
            f"axis divides {config.model.num_heads} heads"
        )
    return found


def is_whole(sizes: Mapping[str, int], topology: Topology) -> bool:
    """Returns whether every mesh axis takes whole axes of the torus."""
    return places([sizes[axis] for axis in ("data", "fsdp", "sequence", "tensor")], topology.shape) is not None


def _options(config: RunConfig, sizes: dict[str, int]) -> Iterator[Option]:
    splits = config.objective.splits_into_microbatches
    for parts in _MICROBATCHES if splits else (1,):
        if divides(config, sizes, parts):
            gathers = ("layer", "compiler") if sizes["fsdp"] > 1 else ("compiler",)
            for remat, gather in itertools.product(POLICIES, gathers):
                yield Option(sizes, remat, gather, parts)


def _spread(found: Sequence[Candidate]) -> list[Candidate]:
    """Returns candidates by estimated time, in rounds: of each mesh and policy the fastest, then the second, ..."""
    groups: dict[tuple, int] = {}
    rounds = []
    for candidate in sorted(found, key=lambda one: one.seconds):
        name = (*candidate.option.sizes.values(), candidate.option.remat)
        groups[name] = groups.get(name, 0) + 1
        rounds.append((groups[name], candidate))
    return [candidate for _, candidate in sorted(rounds, key=lambda one: (one[0], one[1].seconds))]
