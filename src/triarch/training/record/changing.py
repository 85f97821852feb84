"""A resumed run: its place in the data, and what a changed config changes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from triarch.errors import UserError
from triarch.training.inputs import Inputs, next_order, open_inputs
from triarch.training.record.config_classes import to_plain
from triarch.training.record.config_json import read_config, read_json
from triarch.training.record.fingerprint import CONFIG_JSON, changed_keys, differences, is_begun
from triarch.training.record.segments import Segment, check_changes, describe_schedule, read_earlier, read_order
from triarch.training.run import Run, assemble
from triarch.training.starting_point import StartingPoint, open_starting_point


@dataclasses.dataclass(frozen=True)
class Change:
    """A run's next segment, which begins where its newest checkpoint is.

    Attributes:
      workdir: the run folder.
      inputs: of the new segment, as if it were a run of its own.
      segments: all before.
      changed: what is other than in the last of them, "key: old -> new".
    """

    workdir: Path
    inputs: Inputs
    segments: tuple[Segment, ...]
    changed: tuple[str, ...]

    def at(self, step: int) -> Inputs:
        """Returns the inputs of the segment that begins at `step`.

        Raises:
          UserError: the run is at or beyond its last step.
        """
        if step >= self.inputs.config.steps:
            raise UserError(
                f"{self.workdir}: the run is at step {step:,}, and RunConfig.steps = {self.inputs.config.steps:,} ends "
                f"there: name more steps, as --continue_with=RunConfig.steps={2 * step}"
            )
        before = self._before(step)
        return dataclasses.replace(self.inputs, order=next_order(self.inputs, before[-1], step), earlier=before)

    def describe(self, step: int) -> list[str]:
        """Returns lines for the user."""
        before, after = self._before(step)[-1].config, self.inputs.config
        lines = [f"step {step:,} begins a segment under another config: {'; '.join(self.changed)}"]
        if before.optimizer.learning_rate != after.optimizer.learning_rate or before.steps != after.steps:
            lines.append(describe_schedule(before, after, step))
        return lines

    def _before(self, step: int) -> tuple[Segment, ...]:
        # A run without a checkpoint has made no step of any segment: the first one's place in the data is what is left.
        return tuple(segment for segment in self.segments if segment.order.step < step) or self.segments[:1]


def open_change(workdir: Path, inputs: Inputs) -> Change | None:
    """Returns what changes when the run of a folder resumes with `inputs`; None where nothing does.

    Raises:
      UserError: there is no run, or it cannot change so.
    """
    fields = read_json(workdir)
    changed = changed_keys(fields, inputs.config, inputs.stores)
    if not changed:
        return None
    before, order = read_config(workdir), read_order(workdir)
    if order is None:
        raise UserError(f"{workdir / CONFIG_JSON}: does not say where in its data the run is (data_order)")
    check_changes(workdir, before, inputs.config, changed)
    return Change(workdir, inputs, (*read_earlier(workdir), Segment(before, order)), tuple(changed))


def in_order(workdir: Path | None, inputs: Inputs, beginning: StartingPoint | None) -> Inputs:
    """Returns a run's inputs where they are in the order of data: that of its folder, or of the run it begins from.

    Args:
      workdir: the run folder; None where there is none yet.
      inputs: of the run.
      beginning: what it begins from; it does not matter where a step was made.

    Raises:
      UserError: config.json is damaged.
    """
    order = read_order(workdir) if workdir is not None and is_begun(workdir) else None
    if order is not None:
        return dataclasses.replace(inputs, order=order, earlier=read_earlier(workdir))
    if beginning is None or beginning.segment is None:
        return inputs
    _check_same_data(inputs, beginning)
    return dataclasses.replace(inputs, order=next_order(inputs, beginning.segment, beginning.step, first_step=0))


def segments_of(workdir: Path | None, inputs: Inputs) -> list[Inputs]:
    """Returns the inputs of each segment of a run, begun or not, in the order of data in which it reads them.

    Args:
      workdir: the run folder; None where there is none yet.
      inputs: of its last segment.

    Raises:
      UserError: config.json is damaged, or what the run reads on after cannot be begun from.
    """
    begun = workdir is not None and is_begun(workdir)
    beginning = None
    if inputs.config.init_data and not begun:
        beginning = open_starting_point(inputs.config, inputs.stores[0])
    return all_segments(in_order(workdir, inputs, beginning))


def all_segments(inputs: Inputs) -> list[Inputs]:
    """Returns the inputs of each of a run's segments; `inputs` are those of the last one."""
    earlier = inputs.earlier
    return [*(_opened(segment, earlier[:number]) for number, segment in enumerate(earlier)), inputs]


def _opened(segment: Segment, earlier: tuple[Segment, ...]) -> Inputs:
    return dataclasses.replace(open_inputs(segment.config), order=segment.order, earlier=earlier)


def earlier_runs(run: Run, step: int) -> Iterator[tuple[Run, int]]:
    """Yields the run's segments that `step` lies before the end of, and where they end, but the last one.

    They are needed where checkpoints of later segments were damaged.
    """
    segments = (*run.inputs.earlier, run.inputs.segment)
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
    """Returns what summary.json says of a run's segments: from which step on which keys were others; {} for one."""
    if not inputs.earlier:
        return {}
    segments = (*inputs.earlier, inputs.segment)
    entries: list[dict[str, Any]] = [{"from_step": segments[0].order.step, "changed": []}]
    for before, after in itertools.pairwise(segments):
        changed = differences(to_plain(before.config), to_plain(after.config))
        entries.append({"from_step": after.order.step, "changed": changed})
    return {"segments": entries}


def told_config(text: str, inputs: Inputs) -> str:
    """Returns a run's gin text with its segments, if there are several, told above it; reports show it so."""
    told = [
        f"# from step {segment['from_step']:,} on: {'; '.join(segment['changed']) or 'as begun'}\n"
        for segment in described_segments(inputs).get("segments", [])
    ]
    return f"{''.join(told)}{text}"


def _check_same_data(inputs: Inputs, beginning: StartingPoint) -> None:
    there = beginning.segment
    where = f"RunConfig.init_data: {beginning.folder}"
    if there.config.seed != inputs.config.seed:
        raise UserError(
            f"{where} reads in the order of seed {there.config.seed}, this one in that of {inputs.config.seed}: "
            f"set RunConfig.seed = {there.config.seed} to read on after it"
        )
    if not set(inputs.source_names) & set(there.order.sources):
        raise UserError(f"{where} reads other stores: there is no place in this run's to read on from")
