"""A resumed run: its place in the data, and what a changed config changes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from triarch.errors import UserError
from triarch.training.config import RunConfig
from triarch.training.inputs import Inputs, open_inputs
from triarch.training.phases.course import Course, open_course
from triarch.training.record.config_classes import to_plain
from triarch.training.record.config_json import read_config, read_json
from triarch.training.record.fingerprint import CONFIG_JSON, changed_keys, differences, is_begun
from triarch.training.record.segments import Segment, check_changes, describe_schedule, read_earlier, read_order
from triarch.training.run import Run, assemble
from triarch.training.starting_point import StartingPoint, open_starting_point


@dataclasses.dataclass(frozen=True)
class Change:
    """What a run resumes as, from its newest checkpoint on.

    Attributes:
      workdir: the run folder.
      course: of the run under its new config.
      segments: all before.
      changed: what is other than in the config before, "key: old -> new".
    """

    workdir: Path
    course: Course
    segments: tuple[Segment, ...]
    changed: tuple[str, ...]

    def at(self, step: int) -> Course:
        """Returns the course of the run that changes at `step`.

        Raises:
          UserError: the run is at or beyond its last step.
        """
        steps = self.course.config.steps
        if step >= steps:
            more = "another phase" if self.course.config.phases else "more steps"
            hint = "" if self.course.config.phases else f", as --continue_with=RunConfig.steps={2 * step}"
            raise UserError(
                f"{self.workdir}: the run is at step {step:,}, and RunConfig.steps = {steps:,} ends there: "
                f"name {more}{hint}"
            )
        return self.course.after(self._before(step), step)

    def describe(self, step: int) -> list[str]:
        """Returns lines for the user."""
        before, after = self._before(step)[-1].config, self.course.config
        lines = [f"step {step:,} begins a segment under another config: {'; '.join(self.changed)}"]
        rates = before.optimizer.learning_rate, after.optimizer.learning_rate
        if (
            not self._before(step)[-1].phase
            and not after.phases
            and (rates[0] != rates[1] or before.steps != after.steps)
        ):
            lines.append(describe_schedule(before, after, step))
        return lines

    def _before(self, step: int) -> tuple[Segment, ...]:
        # A run without a checkpoint has made no step of any segment: the first one's place in the data is what is left.
        return tuple(segment for segment in self.segments if segment.order.step < step) or self.segments[:1]


def open_change(workdir: Path, course: Course) -> Change | None:
    """Returns what changes when the run of a folder resumes as `course`; None where nothing does.

    Raises:
      UserError: there is no run, or it cannot change so.
    """
    fields = read_json(workdir)
    changed = changed_keys(fields, course.config, course.stores)
    if not changed:
        return None
    before, order = read_config(workdir), read_order(workdir)
    if order is None:
        raise UserError(f"{workdir / CONFIG_JSON}: does not say where in its data the run is (data_order)")
    check_changes(workdir, before, course.config, changed)
    segments = (*read_earlier(workdir), Segment(before, order))
    if before.phases:
        segments = open_course(before).going_on(order, segments[:-1]).inputs.segments
    return Change(workdir, course, segments, tuple(changed))


def in_order(workdir: Path | None, course: Course, beginning: StartingPoint | None) -> Course:
    """Returns a run's course where it is in the order of data: that of its folder, or of the run it begins from.

    Args:
      workdir: the run folder; None where there is none yet.
      course: of the run, as if it began there.
      beginning: what it begins from; it does not matter where a step was made.

    Raises:
      UserError: config.json is damaged.
    """
    order = read_order(workdir) if workdir is not None and is_begun(workdir) else None
    if workdir is not None and order is not None:
        return course.going_on(order, read_earlier(workdir))
    if beginning is None or beginning.segment is None:
        return course
    _check_same_data(course.first, beginning.segment, beginning.folder)
    assert beginning.step is not None  # A run's checkpoint has one, and only runs have segments.
    return course.after((beginning.segment,), beginning.step, first_step=0)


def segments_of(workdir: Path | None, course: Course) -> list[Inputs]:
    """Returns the inputs of each segment of a run, begun or not, in the order of data in which it reads them.

    Args:
      workdir: the run folder; None where there is none yet.
      course: of the run, as if it began there.

    Raises:
      UserError: config.json is damaged, or what the run reads on after cannot be begun from.
    """
    begun = workdir is not None and is_begun(workdir)
    beginning = None
    if course.config.init_data and not begun:
        beginning = open_starting_point(course.config, course.stores[0])
    return all_segments(in_order(workdir, course, beginning).inputs)


def all_segments(inputs: Inputs) -> list[Inputs]:
    """Returns the inputs of each of a run's segments; `inputs` are those of the last one."""
    earlier = inputs.earlier
    return [*(_opened(segment, earlier[:number]) for number, segment in enumerate(earlier)), inputs]


def _opened(segment: Segment, earlier: tuple[Segment, ...]) -> Inputs:
    inputs = open_inputs(segment.config)
    return dataclasses.replace(
        inputs, order=segment.order, earlier=earlier, phase=segment.phase, fresh_optimizer=segment.fresh_optimizer
    )


def earlier_runs(run: Run, step: int) -> Iterator[tuple[Run, int]]:
    """Yields the run's segments that `step` lies before the end of, and where they end, but the last one.

    They are the stages of a run in phases; and needed where checkpoints of later segments were damaged.
    """
    segments = run.inputs.segments
    for number, (segment, following) in enumerate(itertools.pairwise(segments)):
        if step < following.order.step:
            now = run.config
            computed: dict[str, Any] = dict(
                execution=now.execution, mesh=now.mesh, rules=now.rules, checkpoint=now.checkpoint
            )
            config = dataclasses.replace(segment.config, **computed)
            inputs = _opened(dataclasses.replace(segment, config=config), segments[:number])
            yield assemble(config, inputs), following.order.step


def described_segments(inputs: Inputs) -> dict[str, Any]:
    """Returns what summary.json says of a run's segments: from which step on which keys were others; {} for one.

    Of a phase it is one entry: its batches may grow.
    """
    segments = inputs.segments
    begun = [
        after
        for before, after in zip((None, *segments), segments, strict=False)
        if before is None or not after.phase or before.phase != after.phase
    ]
    if len(begun) == 1 and not begun[0].phase:
        return {}
    entries: list[dict[str, Any]] = []
    for before, after in zip((None, *begun), begun, strict=False):
        lines = (
            [] if before is None else differences(to_plain(_last(before, segments)), to_plain(_last(after, segments)))
        )
        named = {"phase": after.phase} if after.phase else {}
        changed = [line for line in lines if not (after.phase and _follows(line))]
        entries.append({"from_step": after.order.step, **named, "changed": changed})
    return {"segments": entries}


def _last(segment: Segment, segments: Sequence[Segment]) -> RunConfig:
    """Returns the config of a segment, or of its phase where batches have their full size."""
    alike = [one for one in segments if segment.phase and one.phase == segment.phase]
    return (alike or [segment])[-1].config


def _follows(line: str) -> bool:
    """Whether a difference between phases follows from where they stand in the run."""
    key = line.partition(":")[0]
    return key == "steps" or key in [
        f"optimizer.learning_rate.{name}" for name in ("first_step", "steps", "begun", "pace")
    ]


def told_config(text: str, inputs: Inputs) -> str:
    """Returns a run's gin text with its segments, if there are several, told above it; reports show it so."""
    told = [
        f"# from step {segment['from_step']:,} on{_named(segment)}: {'; '.join(segment['changed']) or 'as begun'}\n"
        for segment in described_segments(inputs).get("segments", [])
    ]
    return f"{''.join(told)}{text}"


def _named(segment: Mapping[str, Any]) -> str:
    return f", phase {segment['phase']!r}" if "phase" in segment else ""


def _check_same_data(inputs: Inputs, there: Segment, folder: Path) -> None:
    where = f"RunConfig.init_data: {folder}"
    if there.config.seed != inputs.config.seed:
        raise UserError(
            f"{where} reads in the order of seed {there.config.seed}, this one in that of {inputs.config.seed}: "
            f"set RunConfig.seed = {there.config.seed} to read on after it"
        )
    if not set(inputs.source_names) & set(there.order.sources):
        raise UserError(f"{where} reads other stores: there is no place in this run's to read on from")
