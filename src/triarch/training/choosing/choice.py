"""The mesh, remat policy and way of gathering that a run takes where its config leaves them open ("auto").

What may change a run's numbers beyond the order of float32 sums stays as it was when the run resumes, whatever devices
it then has: `gather`, which sums gradients in bfloat16 or in float32, and the sizes of the axes `tensor` and
`sequence`, over which activations are summed in their own type. On the same devices all of it stays.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from triarch.errors import UserError
from triarch.memory import shown
from triarch.sharding import MeshConfig
from triarch.training.choosing.cost import LOW, Option, needed_bytes, seconds
from triarch.training.choosing.facts import POLICIES, Facts
from triarch.training.choosing.machine import Machine, machine_of
from triarch.training.choosing.meshes import TENSORS, divides, is_whole, meshes, sizes_of
from triarch.training.config import RunConfig

_MICROBATCHES = (2, 4, 8, 16, 32, 64)
# Of plans that take as long as each other, within this share, one that sums gradients in float32 is taken if it leaves
# half the memory free, and of these, or else of all, the one that needs least.
_AS_FAST, _HALF = 0.03, 0.5
# By how much less, at least, a plan must need than one that was refused.
_LESS = 0.05


@dataclasses.dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Attributes:
      option: the mesh, remat policy, way of gathering and microbatches.
      machine: the devices.
      left_open: which of "mesh", "remat" and "gather" the config left open; the others are its own.
      needed_bytes: of one device, estimated; None where no memory was asked for.
      seconds: of a step, estimated.
      is_kept: whether the run had chosen it before.
      advice: what would fit, where this does not.
    """

    option: Option
    machine: Machine
    left_open: tuple[str, ...]
    needed_bytes: float | None = None
    seconds: float | None = None
    is_kept: bool = False
    advice: str | None = None

    @property
    def fits(self) -> bool:
        """Whether it does, by the estimate."""
        limit = self.machine.memory_bytes
        return self.needed_bytes is None or limit is None or self.needed_bytes <= limit

    def describe(self) -> str:
        """Returns a phrase for the user: "remat none (mesh, remat chosen: about 33.1 GiB a device of 95.7 GiB)"."""
        option = self.option
        gather = f", gather {option.gather}" if option.sizes["fsdp"] > 1 else ""
        gather += f", {option.microbatches} microbatches" if option.microbatches > 1 else ""
        if not self.left_open:
            return f"remat {option.remat}{gather}"
        how = "kept" if self.is_kept else "chosen"
        limit = self.machine.memory_bytes
        memory = ""
        if self.needed_bytes is not None and limit is not None:
            memory = f": about {shown(self.needed_bytes)} a device of {shown(limit)}"
        return f"remat {option.remat}{gather} ({', '.join(self.left_open)} {how}{memory})"

    def applied(self, config: RunConfig) -> RunConfig:
        """Returns a config with what it left open decided."""
        option, execution, mesh = self.option, config.execution, config.mesh
        decided: dict[str, Any] = {
            name: getattr(option, name) for name in ("remat", "gather") if getattr(execution, name) == "auto"
        }
        if mesh.is_open:
            mesh = MeshConfig(**option.sizes)
        execution = dataclasses.replace(execution, **decided)
        return dataclasses.replace(config, mesh=mesh, execution=execution, microbatches=option.microbatches)

    def record(self, config: RunConfig) -> dict[str, Any]:
        """Returns what config.json keeps of it."""
        option = self.option
        return {
            "mesh": dict(option.sizes),
            "remat": option.remat,
            "gather": option.gather,
            "microbatches": option.microbatches,
            "devices": str(self.machine),
            "left_open": list(self.left_open),
            "needed_bytes": None if self.needed_bytes is None else int(self.needed_bytes),
            "batch": _batch(config),
        }


def choose(
    config: RunConfig,
    devices: Sequence[Any],
    before: Mapping[str, Any] | None = None,
    refused: Sequence[Option] = (),
) -> Choice:
    """Returns what a run takes on devices, which need not be there.

    Args:
      config: of the run.
      devices: it is to have.
      before: the record of what it took when it began; None for a fresh run.
      refused: what the compiler, or the devices, had no memory for.

    Raises:
      UserError: the mesh does not multiply out, none divides the batch, or none is left.
    """
    return choose_on(config, machine_of(devices), before, refused=refused)


def choose_on(
    config: RunConfig,
    machine: Machine,
    before: Mapping[str, Any] | None = None,
    facts: Facts | None = None,
    refused: Sequence[Option] = (),
) -> Choice:
    """Returns what a run takes on a machine, as `choose`; `facts` are the run's, where they are known."""
    left_open = _left_open(config)
    if not left_open or machine.platform == "cpu":
        # What one device, or several of a host's processor, do fastest; memory there is not a device's own.
        sizes = (MeshConfig(-1) if config.mesh.is_open else config.mesh).sizes(machine.num_devices)
        return Choice(_completed(config, sizes, "none", before), machine, left_open)
    if refused:
        facts = Facts(config, machine.platform) if facts is None else facts.under(config)
        return _next(facts, machine, left_open, list(options(facts.config, machine, before)), refused)
    if before is not None and before["devices"] == str(machine) and before["batch"] == _batch(config):
        sizes = before["mesh"] if config.mesh.is_open else config.mesh.sizes(machine.num_devices)
        option = dataclasses.replace(
            _completed(config, sizes, before["remat"], before), microbatches=before["microbatches"]
        )
        return Choice(option, machine, left_open, before["needed_bytes"], is_kept=True)
    facts = Facts(config, machine.platform) if facts is None else facts.under(config)
    return _cheapest(facts, machine, left_open, list(options(facts.config, machine, before)))


def least(config: RunConfig, machine: Machine) -> Choice:
    """Returns of what `choose_on` may take that which needs least memory."""
    found = _estimated(Facts(config, machine.platform), machine, _left_open(config), options(config, machine))
    return min(found, key=_needed)


def advice(config: RunConfig, machine: Machine, tried: Option) -> str:
    """Returns what would make a run fit that does not: the mesh and policy of its own choosing, or microbatches.

    What the config says of mesh, remat and gather is given up; by estimate, nothing is compiled.

    Args:
      config: of the run.
      machine: the devices.
      tried: what was found not to fit.
    """
    execution: Any = dataclasses.replace(config.execution, remat="auto", gather="auto")
    opened = dataclasses.replace(config, mesh=MeshConfig(), execution=execution)
    smallest = least(opened, machine)
    if _needed(smallest) <= (machine.memory_bytes or math.inf):
        fitting = choose_on(opened, machine)
        if fitting.option != tried:
            return f"{fitting.option} would fit, with about {shown(_needed(fitting))} a device"
    return _advice(Facts(opened, machine.platform), smallest.option, machine.memory_bytes or math.inf)


def fitting_mesh(config: RunConfig, machine: Machine) -> str | None:
    """Returns a mesh that goes with a machine and a batch, as text; None where there is none."""
    try:
        found = next(options(dataclasses.replace(config, mesh=MeshConfig()), machine))
    except UserError:
        return None
    return ", ".join(f"{axis}={size}" for axis, size in found.sizes.items() if size > 1) or "data=1"


def options(config: RunConfig, machine: Machine, before: Mapping[str, Any] | None = None) -> Iterator[Option]:
    """Yields what may be chosen: every mesh that a config leaves open, with every policy that it leaves open.

    Raises:
      UserError: there is none.
    """
    if not config.mesh.is_open:
        found = [config.mesh.sizes(machine.num_devices)]
    else:
        found = _meshes(config, machine, None if before is None else before["mesh"])
    if not found:
        raise UserError(
            f"batch_size {config.batch_size} in {config.microbatches} microbatches is not divisible over "
            f"{machine.num_devices} devices by any mesh: expected a multiple of {_least_rows(config, machine)}"
        )
    for sizes in found:
        for policy in POLICIES if config.execution.remat == "auto" else (config.execution.remat,):
            yield _completed(config, sizes, policy, before)


def _estimated(facts: Facts, machine: Machine, left_open: tuple[str, ...], found: Iterable[Option]) -> list[Choice]:
    """Returns each option with the memory and time that it is estimated to take."""
    return [
        Choice(option, machine, left_open, needed_bytes(facts, option), seconds(facts, option, machine))
        for option in found
    ]


def _needed(choice: Choice) -> float:
    assert choice.needed_bytes is not None
    return choice.needed_bytes


def _seconds(choice: Choice) -> float:
    assert choice.seconds is not None
    return choice.seconds


def _roomy(tried: Sequence[Choice], limit: float) -> list[Choice]:
    """Returns those that are sure to fit."""
    return [one for one in tried if _needed(one) * (1 + LOW) <= limit]


def _cheapest(facts: Facts, machine: Machine, left_open: tuple[str, ...], found: Sequence[Option]) -> Choice:
    """Returns the fastest option that is sure to fit, or the one that needs least where none is."""
    limit = machine.memory_bytes or math.inf
    tried = _estimated(facts, machine, left_open, found)
    roomy = _roomy(tried, limit)
    if roomy:
        fastest = min(map(_seconds, roomy))
        as_fast = [one for one in roomy if _seconds(one) <= fastest * (1 + _AS_FAST)]

        def rank(one: Choice) -> tuple[bool, float]:
            return one.option.gather == "layer" or _needed(one) > _HALF * limit, _needed(one)

        return min(as_fast, key=rank)
    in_parts = _in_parts(facts, machine, left_open, limit)
    if in_parts is not None:
        return in_parts
    smallest = min(tried, key=_needed)
    if _needed(smallest) <= limit:
        return smallest
    return dataclasses.replace(smallest, advice=_advice(facts, smallest.option, limit))


def _next(
    facts: Facts, machine: Machine, left_open: tuple[str, ...], found: Sequence[Option], refused: Sequence[Option]
) -> Choice:
    """Returns the fastest option that needs less than all that was refused, or else more microbatches.

    Estimates are off by some per cent, and alike for plans that are alike: a little less would be refused, too.

    Raises:
      UserError: there is none.
    """
    least_refused = min(needed_bytes(facts.under(_in(facts.config, one)), one) for one in refused)
    limit = least_refused * (1 - _LESS)
    smaller = [one for one in _estimated(facts, machine, left_open, found) if _needed(one) <= limit]
    if smaller:
        return min(smaller, key=_seconds)
    in_parts = _in_parts(facts, machine, left_open, limit)
    if in_parts is not None:
        return in_parts
    raise UserError(
        f"no plan is left that needs less than {shown(least_refused)} a device by the estimate, which did not fit: "
        f"{_advice(facts, min(refused, key=lambda one: needed_bytes(facts, one)), limit)}"
    )


def _in(config: RunConfig, option: Option) -> RunConfig:
    """Returns a config with an option's microbatches."""
    return dataclasses.replace(config, microbatches=option.microbatches)


def _in_parts(facts: Facts, machine: Machine, left_open: tuple[str, ...], limit: float) -> Choice | None:
    """Returns the choice of the fewest microbatches that are sure to fit where the mesh is open; None without one.

    Experts balance the load of a microbatch, so that for them the number is one of the recipe.
    """
    config = facts.config
    has_experts = config.model.num_params_active() < config.model.num_params()
    if "mesh" not in left_open or not config.objective.splits_into_microbatches or has_experts:
        return None
    for parts in _MICROBATCHES:
        if parts <= config.microbatches or config.batch_size % parts:
            continue
        smaller = facts.under(dataclasses.replace(config, microbatches=parts))
        try:
            found = list(options(smaller.config, machine))
        except UserError:
            return None
        roomy = _roomy(_estimated(smaller, machine, left_open, found), limit)
        if roomy:
            return min(roomy, key=_seconds)
    return None


def _advice(facts: Facts, option: Option, limit: float) -> str:
    """Returns what would make a run fit that does not."""
    config = facts.config
    for parts in _MICROBATCHES if config.objective.splits_into_microbatches else ():
        smaller = dataclasses.replace(option, microbatches=parts)
        is_one = parts > option.microbatches and divides(config, option.sizes, parts)
        if is_one and needed_bytes(facts, smaller) * (1 + LOW) <= limit:
            return f"RunConfig.microbatches = {parts} would fit"
    return "take more devices, or a smaller batch_size"


def _left_open(config: RunConfig) -> tuple[str, ...]:
    execution = config.execution
    is_open = {"mesh": config.mesh.is_open, "remat": execution.remat == "auto", "gather": execution.gather == "auto"}
    return tuple(name for name, there in is_open.items() if there)


def _completed(config: RunConfig, sizes: Mapping[str, int], remat: str, before: Mapping[str, Any] | None) -> Option:
    execution = config.execution
    gather: str = execution.gather
    if gather == "auto":
        gather = before["gather"] if before is not None else "layer" if sizes["fsdp"] > 1 else "compiler"
    policy = remat if execution.remat == "auto" else execution.remat
    return Option(dict(sizes), policy, gather, config.microbatches)


def _meshes(config: RunConfig, machine: Machine, before: Mapping[str, int] | None) -> list[dict[str, int]]:
    """Returns meshes of data parallelism, FSDP and, only where the batch has too few rows, tensor parallelism.

    Axes are products of whole axes of the torus if there is such a mesh.
    """
    sequence = 1 if before is None else before["sequence"]
    for tensor in TENSORS if before is None else (before["tensor"],):
        found = list(meshes(config, machine, tensor, sequence, config.microbatches))
        if found:
            return [sizes for sizes in found if is_whole(sizes, machine)] or [found[0], found[-1]]
    return []


def _least_rows(config: RunConfig, machine: Machine) -> int:
    """Returns the least batch that some mesh divides."""
    for tensor in reversed(TENSORS):
        sizes = sizes_of(tensor=tensor)
        if machine.num_devices % tensor == 0 and divides(dataclasses.replace(config, batch_size=1), sizes):
            return machine.num_devices // tensor * config.microbatches
    return machine.num_devices * config.microbatches


def _batch(config: RunConfig) -> list[int]:
    return [config.batch_size, config.microbatches, config.data.window]
