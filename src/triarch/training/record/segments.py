"""Segments of a run: consecutive steps under one config each, as config.json records them.

A run that is trained on otherwise than it began (more steps, another schedule, batch size, mixture or optimizer
setting) keeps its folder, its checkpoints and its place in the data; its config.json holds the config of the last
segment, and beside it those of the segments before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from triarch.data.source_order import SourceOrder
from triarch.errors import UserError
from triarch.models.layers.parts import Convention
from triarch.training.config import RunConfig
from triarch.training.networks import run_network
from triarch.training.optimizers import optimizer as optimizers
from triarch.training.record.config_classes import to_plain
from triarch.training.record.config_json import from_plain, read_json
from triarch.training.record.fingerprint import CONFIG_JSON

# What a run may change on its way. All else makes another run, which may begin with this one's parameters.
_CHANGEABLE = (
    "steps", "batch_size", "z_loss", "dropout", "optimizer", "objective", "data.store", "data.train_split",
    "store_fingerprint", "mixture", "phases", "phase_names",
)  # fmt: skip
# Beside the config in config.json: the first step of each phase by name, so that a reader need not count.
PHASE_STARTS = "phase_starts"
_COMPARED_STEPS = 4096


@dataclasses.dataclass(frozen=True)
class Segment:
    """Steps of a run from `order.step` on, until the next segment or `config.steps`.

    Attributes:
      config: under which they are made.
      order: of the data, and where in it the segment begins.
      phase: name of the run's phase it is of; empty for a run without phases.
      fresh_optimizer: whether it begins with a fresh optimizer state.
    """

    config: RunConfig
    order: SourceOrder
    phase: str = ""
    fresh_optimizer: bool = False

    def sequences(self, until: int) -> int:
        """Returns how many examples the segment's steps before `until` read."""
        return (until - self.order.step) * self.config.batch_size


def flops_per_sequence(config: RunConfig, convention: Convention) -> float:
    """Returns the model's FLOPs for one example, "paper" or "train"."""
    return config.bound().flops(config.model, convention)


def read_earlier(workdir: Path, classes: Mapping[str, type] | None = None) -> tuple[Segment, ...]:
    """Returns the segments of a run before its last one, from its config.json; none where there is none yet.

    Raises:
      UserError: config.json is damaged, or holds a class that is not among `classes`.
    """
    if not (workdir / CONFIG_JSON).exists():
        return ()
    where = str(workdir / CONFIG_JSON)
    entries = read_json(workdir).get("earlier_segments", [])
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise UserError(f"{where}: damaged: earlier_segments is no list of configs")
    found = []
    for number, entry in enumerate(entries):
        place = f"{where}: earlier_segments[{number}]"
        order = SourceOrder.from_plain(entry.get("data_order") or {}, f"{place}.data_order")
        phase, fresh = entry.get("phase", ""), entry.get("fresh_optimizer", False)
        if not isinstance(phase, str) or not isinstance(fresh, bool):
            raise UserError(f"{place}: damaged: phase or fresh_optimizer is none")
        found.append(Segment(from_plain(entry, place, classes), order, phase, fresh))
    return tuple(found)


def read_order(workdir: Path) -> SourceOrder | None:
    """Returns the order of data of a run's last segment; None for a folder without a run.

    Raises:
      UserError: config.json is damaged.
    """
    if not (workdir / CONFIG_JSON).exists():
        return None
    fields = read_json(workdir).get("data_order")
    return None if fields is None else SourceOrder.from_plain(fields, f"{workdir / CONFIG_JSON}: data_order")


def history(order: SourceOrder, earlier: Sequence[Segment]) -> dict[str, Any]:
    """Returns what config.json holds of a run's segments beside the config of the last one."""
    entries = [
        to_plain(segment.config) | {"data_order": segment.order.to_plain()} | _phase(segment) for segment in earlier
    ]
    return {"data_order": order.to_plain()} | ({"earlier_segments": entries} if entries else {})


def _phase(segment: Segment) -> dict[str, Any]:
    if not segment.phase:
        return {}
    return {"phase": segment.phase, "fresh_optimizer": segment.fresh_optimizer}


def check_changes(workdir: Path, before: RunConfig, config: RunConfig, changed: Sequence[str]) -> None:
    """Makes sure that a run may resume under another config.

    Args:
      workdir: the run folder.
      before: the config of its last segment.
      config: the one to resume under.
      changed: what differs, "key: old -> new".

    Raises:
      UserError: something differs that a run cannot change; names it.
    """
    fixed = [line for line in changed if not _changeable(line.partition(":")[0])]
    if not fixed:
        sides = [one.bound().lengths for one in (before, config)]
        if sides[0] != sides[1] and not (before.phases or config.phases):
            fixed = [f"the lengths that objective {config.objective.name} reads: {sides[0]} -> {sides[1]}"]
        elif optimizer_shapes(before) != optimizer_shapes(config):
            fixed = [f"what the optimizer keeps of a step: {type(config.optimizer).__name__}'s state has another shape"]
    if fixed:
        raise UserError(
            f"{workdir}: a run cannot change this on its way: {'; '.join(fixed)}; begin another run with "
            f"--gin.RunConfig.init_from={workdir}"
        )


def describe_schedule(before: RunConfig, after: RunConfig, step: int) -> str:
    """Returns a line that says whether a run that resumes at `step` is one that had this learning rate all along."""
    schedules = (before.optimizer.learning_rate, after.optimizer.learning_rate)
    steps = np.unique(np.linspace(0, max(step - 1, 0), _COMPARED_STEPS).astype(np.int32))
    rates = [
        np.asarray(schedule(jnp.asarray(steps), config.steps))
        for schedule, config in zip(schedules, (before, after), strict=True)
    ]
    name = type(schedules[1]).__name__
    earlier, later = np.broadcast_arrays(*rates)
    if np.array_equal(earlier, later):
        return f"learning rate: {name} continues exactly as if the run had begun with {after.steps:,} steps"
    old, new = (
        float(schedule(step, config.steps)) for schedule, config in zip(schedules, (before, after), strict=True)
    )
    stretched = schedules[0] == schedules[1]
    done = f"was stretched from {before.steps:,} to {after.steps:,} steps" if stretched else "holds from here on"
    return (
        f"learning rate: {name} {done}: {new:.4g} at step {step:,}, where the settings before gave {old:.4g}; the "
        "steps until here were made under another curve"
    )


def _changeable(key: str) -> bool:
    """Whether a run may change a key; the class of its objective or optimizer it may not."""
    if key in ("objective", "optimizer"):
        return False
    return any(key == prefix or key.startswith((f"{prefix}.", f"{prefix}[")) for prefix in _CHANGEABLE)


def optimizer_shapes(config: RunConfig) -> Any:
    """Returns what the optimizer's state looks like: equal where one run can continue with the state of the other."""
    specs = run_network(config, config.bound().make_head).trained_specs
    params = jax.tree.map(lambda spec: spec.struct, specs)
    state = jax.eval_shape(optimizers.build(config.optimizer, config.steps, specs).init, params)
    leaves, structure = jax.tree.flatten(state)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]
