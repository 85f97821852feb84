"""The stages of a run: consecutive steps of one phase in batches of one size, each a config of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from triarch.data.mixture import StoreMixture
from triarch.errors import UserError, nearest
from triarch.models import ModelConfig
from triarch.training.data_config import DataConfig
from triarch.training.optimizers.schedules import PhaseSchedule
from triarch.training.phases.phase import Level, Phase

if TYPE_CHECKING:
    from triarch.training.config import RunConfig

# Fields of a network that parameters do not depend on.
_OF_COMPUTATION = (
    *("rope_base", "local_rope_base", "rope_scaling", "sliding_window", "decoder_sliding_window"),
    *("attention_scale", "attention_softcap", "logits_scale", "logits_softcap"),
)
_FIELDS = ("model", "objective", "data", "optimizer", "batch_size", "microbatches", "dropout")


@dataclasses.dataclass(frozen=True)
class PhaseStage:
    """Steps of a run from `first_step` up to `end`.

    Attributes:
      phase: name of the phase; empty for a run without phases.
      config: of the stage, without phases; its `steps` are where the phase ends in the run.
      first_step: of the run.
      end: the step behind the last one.
      fresh_optimizer: whether it begins with a fresh optimizer state.
    """

    phase: str
    config: RunConfig
    first_step: int
    end: int
    fresh_optimizer: bool = False


def num_steps(phases: Sequence[Phase], batch_size: int, window: int) -> int:
    """Returns the updates of all phases of a run with these batches and windows; raises as `Phase.levels`."""
    return sum(level.steps for phase in phases for level in phase.levels(batch_size, window))


def stages(config: RunConfig) -> tuple[PhaseStage, ...]:
    """Returns the stages of a run in order; a run without phases is one.

    Raises:
      UserError: naming the field of a phase that is out of range.
    """
    if not config.phases:
        return (PhaseStage("", config, 0, config.steps),)
    found: list[PhaseStage] = []
    for phase in config.phases:
        found += _stages_of(config, phase, found[-1].end if found else 0)
    return tuple(found)


def phase_starts(config: RunConfig) -> dict[str, int]:
    """Returns the first step of each phase by its name; {} for a run without phases."""
    starts: dict[str, int] = {}
    for stage in stages(config) if config.phases else ():
        starts.setdefault(stage.phase, stage.first_step)
    return starts


def whole_stages(config: RunConfig) -> tuple[PhaseStage, ...]:
    """Returns the last stage of each phase, in which batches have their full size; raises as `stages`."""
    last = {stage.phase: stage for stage in stages(config)}
    return tuple(last.values())


def widest(config: RunConfig) -> RunConfig:
    """Returns the stage of a run whose batches hold most tokens, which takes most memory; without phases the run."""
    found = [stage.config for stage in whole_stages(config)]
    return max(found, key=lambda one: one.batch_size * one.data.window)


def of_phase(config: RunConfig, name: str) -> RunConfig:
    """Returns the config of one phase as a run of its own, with full batches and as many steps.

    Raises:
      UserError: the run has no such phase.
    """
    names = [phase.name for phase in config.phases]
    if name not in names:
        there = nearest(name, names) if names else " (the run has no phases)"
        raise UserError(f"--phase={name}: no such phase{there}")
    phase = config.phases[names.index(name)]
    levels = phase.levels(config.batch_size, config.data.window)
    return dataclasses.replace(config, **_own(phase), phases=(), steps=_full_steps(levels))


def check_phases(config: RunConfig, check: Callable[[RunConfig], None]) -> None:
    """Checks the phases of a run by themselves and against each other, by `check` of each stage's config.

    Raises:
      UserError: two have one name, one differs in what parameters depend on, or a phase does not pass.
    """
    names = [phase.name for phase in config.phases]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"Phase.name = {twice[0]!r}: is there twice: expected another name for each phase")
    for stage in _first_and_last(stages(config)):
        try:
            check(stage.config)
            _check_model(config.model, stage.config.model)
            if type(stage.config.optimizer) is not type(config.optimizer):
                raise UserError(
                    f"Phase.optimizer = @{type(stage.config.optimizer).__name__}(): expected the run's, "
                    f"@{type(config.optimizer).__name__}(), under any schedule: what it keeps of steps goes on"
                )
        except UserError as error:
            raise UserError(f"{error} (of phase {stage.phase!r})") from None


def _own(phase: Phase) -> dict[str, Any]:
    """Returns the fields of a run that a phase has of its own."""
    return {field: getattr(phase, field) for field in _FIELDS if getattr(phase, field) is not None}


def _full_steps(levels: Sequence[Level]) -> int:
    """Returns how many steps of full batches read as much."""
    return round(sum(level.batch_size * level.steps for level in levels) / levels[-1].batch_size)


def _stages_of(config: RunConfig, phase: Phase, first_step: int) -> list[PhaseStage]:
    levels = phase.levels(config.batch_size, config.data.window)
    full = levels[-1].batch_size
    end = first_step + sum(level.steps for level in levels)
    found, start, sequences = [], first_step, 0
    for level in levels:
        own = _stage_config(config, phase, level, full, first_step, end)
        # The phase's length and its place in it, in full batches.
        schedule = PhaseSchedule(
            own.optimizer.learning_rate, start, _full_steps(levels), sequences / full, level.batch_size / full
        )
        optimizer: Any = own.optimizer
        own = dataclasses.replace(own, optimizer=dataclasses.replace(optimizer, learning_rate=schedule))
        is_fresh = start == first_step > 0 and not phase.keep_optimizer
        found.append(PhaseStage(phase.name, own, start, start + level.steps, is_fresh))
        start, sequences = start + level.steps, sequences + level.batch_size * level.steps
    return found


def _stage_config(config: RunConfig, phase: Phase, level: Level, full: int, first_step: int, end: int) -> RunConfig:
    own = _own(phase)
    own |= {"data": _later(own.get("data", config.data), first_step), "batch_size": level.batch_size}
    own["microbatches"] = _parts(level.batch_size, full, own.get("microbatches", config.microbatches))
    return dataclasses.replace(config, **own, phases=(), steps=end)


def _parts(batch_size: int, full: int, microbatches: int) -> int:
    """Returns into how many parts to cut a smaller batch so that none is larger than of a full one."""
    most = full / microbatches
    return next(count for count in range(1, batch_size + 1) if batch_size % count == 0 and batch_size / count <= most)


def _later(data: DataConfig, first_step: int) -> DataConfig:
    """Returns `data` with its mixture's phases, but the first one, `first_step` steps later."""
    if not isinstance(data.store, StoreMixture) or not first_step:
        return data
    first, *others = data.store.phases
    later = (first, *(dataclasses.replace(phase, start=phase.start + first_step) for phase in others))
    return dataclasses.replace(data, store=dataclasses.replace(data.store, phases=later))


def _first_and_last(found: Sequence[PhaseStage]) -> list[PhaseStage]:
    """Returns of each phase's stages the first and the last: what lies between differs in batch size alone."""
    names = [stage.phase for stage in found]
    return [
        stage
        for number, stage in enumerate(found)
        if names.index(stage.phase) == number or number + 1 == len(found) or names[number + 1] != stage.phase
    ]


def _check_model(run: ModelConfig, model: ModelConfig) -> None:
    if run.architecture != model.architecture:
        raise UserError(
            f"Phase.model: {model.architecture}, the run is {run.architecture}: expected one architecture; another run "
            "may begin with this one's parameters (RunConfig.init_from)"
        )
    for field in dataclasses.fields(run):
        ours, own = getattr(run, field.name), getattr(model, field.name)
        comes_or_goes = field.name == "sliding_window" and (ours is None) != (own is None)
        if ours != own and (field.name not in _OF_COMPUTATION or comes_or_goes):
            raise UserError(
                f"ModelConfig.{field.name} = {own!r}: expected the run's, {ours!r}: phases have the same parameters, "
                f"and differ in {', '.join(_OF_COMPUTATION)} alone"
            )
