"""What a search may compile: meshes that the torus has, remat policies, gathers and microbatches, by promise."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from triarch.errors import UserError
from triarch.planning.programs import Kind
from triarch.planning.topology import Topology
from triarch.sharding import MeshConfig
from triarch.training.choosing import meshes as choosing
from triarch.training.choosing.cost import Option, needed_bytes, seconds
from triarch.training.choosing.facts import POLICIES, Facts
from triarch.training.choosing.meshes import TENSORS, divides, is_whole
from triarch.training.config import RunConfig

_SEQUENCES, _MICROBATCHES = (1, 2, 4), (1, 2, 4, 8, 16)
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
      config: of the run; its own mesh, remat, gather and microbatches are ignored.
      topology: the slice.
      program: which step; only of a training step is more known than which meshes there are.
      facts: of the run, where they are known.

    Raises:
      UserError: no mesh divides the batch and the heads.
    """
    machine, limit = topology.machine, topology.chip.hbm_bytes
    if program != "train":
        plain = [Option(sizes, "none", "compiler") for sizes in meshes(config, topology)]
        return [Candidate(option, 0.0, 0.0, not is_whole(option.sizes, machine)) for option in plain], 0
    facts = Facts(config, "tpu") if facts is None else facts.under(config)
    options = [option for sizes in meshes(config, topology) for option in _options(config, sizes)]
    needs = [(needed_bytes(facts, option), option) for option in options]
    # What needs least is compiled in any case, so that the answer is the compiler's.
    worth = [one for one in needs if one[0] <= limit * (1 + _HIGH)] or [min(needs, key=lambda one: one[0])]
    found = [
        Candidate(option, needed, seconds(facts, option, machine), not is_whole(option.sizes, machine))
        for needed, option in worth
    ]
    return _spread(found), len(options) - len(found)


def meshes(config: RunConfig, topology: Topology) -> list[dict[str, int]]:
    """Returns every mesh that the torus has, along whole axes or parts of them, and that divides batch and heads.

    Raises:
      UserError: there is none.
    """
    lengths = config.bound().lengths.values()
    found: list[dict[str, int]] = []
    for tensor, sequence in itertools.product(TENSORS, _SEQUENCES):
        if min(tensor, sequence) == 1 and all(length % sequence == 0 for length in lengths):
            found += choosing.meshes(config, topology.machine, tensor, sequence)
    if not found:
        raise UserError(
            f"batch_size {config.batch_size} is not divisible over {topology.num_devices} chips by a mesh whose tensor "
            f"axis divides {config.model.num_heads} heads"
        )
    return found


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
