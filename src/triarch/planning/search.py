"""The best mesh, remat policy and number of microbatches for a slice: those that compile and are estimated fastest."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from triarch.errors import UserError
from triarch.models import ModelConfig
from triarch.planning import programs
from triarch.planning.plan import Plan
from triarch.planning.topology import Topology
from triarch.sharding import MeshConfig
from triarch.training.config import RunConfig

# From what recomputes nothing to what saves nothing.
_POLICIES = ("none", "save_projections_and_attention", "save_projections", "full")
_LARGEST_STATE = 0.8
_MICROBATCHES = (1, 2, 4, 8, 16)
Make = Callable[[RunConfig, str], Plan]


@dataclasses.dataclass(frozen=True)
class Trial:
    """One compilation of a search.

    Attributes:
      mesh: sizes of the axes.
      remat: the policy.
      microbatches: parts of the batch.
      plan: what came of it.
    """

    mesh: MeshConfig
    remat: str
    microbatches: int
    plan: Plan

    @property
    def seconds(self) -> float:
        """Estimated seconds a step; endless where it does not fit."""
        return self.plan.estimate.step_seconds if self.plan.fits and self.plan.estimate else float("inf")


def search(config: RunConfig, topology: Topology, make: Make, most: int) -> list[Trial]:
    """Compiles what is promising and returns everything tried, the best first.

    For each mesh, remat policies from the lightest on until one fits, more microbatches only where none does: with
    the rest equal, recomputing less is faster, and so are fewer gatherings of parameters.

    Args:
      config: of the run.
      topology: the slice.
      make: compiles a config; the text says which.
      most: compilations to try at most.

    Raises:
      UserError: no mesh suits the batch and the heads.
    """
    trials: list[Trial] = []
    for mesh in meshes(config, topology):
        for microbatches, remat in itertools.product(_MICROBATCHES, _POLICIES):
            if len(trials) == most:
                return sorted(trials, key=lambda trial: trial.seconds)
            if not _divides(config, mesh, topology, microbatches) or (microbatches > 1 and remat != "full"):
                continue
            tried = changed(config, mesh, remat, microbatches)
            plan = make(tried, f"{len(trials) + 1} of at most {most}: {_described(mesh, remat, microbatches)}")
            trials.append(Trial(mesh, remat, microbatches, plan))
            if plan.fits:
                break
        if trials and trials[-1].plan.fits and trials[-1].remat == "none" and mesh.tensor == 1:
            break  # Whatever is still to come splits more than it needs to.
    return sorted(trials, key=lambda trial: trial.seconds)


def confirmed(config: RunConfig, trials: Sequence[Trial], make: Make) -> list[Trial]:
    """Compiles the best of a search again until one fits, and returns all trials, the best that is sure to fit first.

    Where none fitted, the one that needed least memory is compiled again, so that the answer is not the search's.

    Args:
      config: of the run.
      trials: of `search`, the best first.
      make: compiles a config with full effort; the text says which.
    """
    left = [trial for trial in trials if trial.plan.fits] or [min(trials, key=_needed)]
    others = [trial for trial in trials if trial not in left]
    refused = []
    while left:
        trial = left.pop(0)
        tried = changed(config, trial.mesh, trial.remat, trial.microbatches)
        plan = make(tried, f"the best of {len(trials)}: {_described(trial.mesh, trial.remat, trial.microbatches)}")
        trial = dataclasses.replace(trial, plan=plan)
        if plan.fits:
            return [trial, *left, *refused, *others]
        refused.append(trial)
    return [*refused, *others]


def meshes(config: RunConfig, topology: Topology) -> list[MeshConfig]:
    """Returns the meshes that suit a batch and whose state leaves room, those that communicate least first.

    Raises:
      UserError: there is none.
    """
    found = [mesh for mesh in _candidates(topology) if _divides(config, mesh, topology, 1)]
    if not found:
        raise UserError(
            f"batch_size {config.batch_size} is not divisible over {topology.num_devices} chips by a mesh whose tensor "
            f"axis divides {config.model.num_heads} heads"
        )
    state, room = programs.state_bytes(config), _LARGEST_STATE * topology.chip.hbm_bytes
    roomy = [mesh for mesh in found if state / (mesh.fsdp * mesh.tensor) < room]
    return roomy or found[-1:]


def changed(config: RunConfig, mesh: MeshConfig, remat: Any, microbatches: int) -> RunConfig:
    """Returns a config with another mesh, remat policy and number of microbatches."""
    execution = dataclasses.replace(config.execution, remat=remat)
    return dataclasses.replace(config, mesh=mesh, execution=execution, microbatches=microbatches)


def _candidates(topology: Topology) -> Iterator[MeshConfig]:
    """Yields data parallelism, then FSDP over ever more chips of a slice, then tensor parallelism beside it.

    Smaller groups gather over fewer links, yet hold more: few sizes are worth a compilation.
    """
    chips = topology.num_devices // topology.slices
    for tensor in (2**power for power in range(4)):
        if chips % tensor:
            continue
        rest = chips // tensor
        for fsdp in sorted({1, min(8, rest), rest} if tensor == 1 else {rest}):
            if rest % fsdp == 0:
                yield MeshConfig(rest // fsdp, fsdp, tensor, sequence=1, replica=topology.slices)


def _needed(trial: Trial) -> float:
    return float("inf") if trial.plan.hbm_bytes_per_device is None else trial.plan.hbm_bytes_per_device


def _divides(config: RunConfig, mesh: MeshConfig, topology: Topology, microbatches: int) -> bool:
    sizes = mesh.sizes(topology.num_devices)
    rows = sizes["replica"] * sizes["data"] * sizes["fsdp"] * microbatches
    parts = config.execution.feed_forward_parts

    def splits(own: ModelConfig) -> bool:
        units = mesh.tensor * (1 if own.d_ff % parts else parts)  # Parts that suit no mesh are refused by the model.
        return own.num_heads % mesh.tensor == 0 and own.d_ff % units == 0

    return config.batch_size % rows == 0 and splits(config.model) and splits(config.model.of_side("decoder"))


def _described(mesh: MeshConfig, remat: str, microbatches: int) -> str:
    sizes = ", ".join(f"{axis}={size}" for axis, size in vars(mesh).items() if size != 1)
    return f"{sizes or 'one device'}, remat {remat}, {microbatches} microbatches"
