"""The course of a run: what it reads from its first step to its last, over all stages of its config."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from triarch.data.source_order import SourceOrder
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.training.config import RunConfig
from triarch.training.inputs import Inputs, fresh_order, mixture_phases, next_order, open_inputs
from triarch.training.phases.stages import PhaseStage, phase_starts, stages, whole_stages
from triarch.training.record.segments import PHASE_STARTS, Segment, history, optimizer_shapes


@dataclasses.dataclass(frozen=True)
class Course:
    """A run's config as it is written, and what follows from it.

    Attributes:
      config: of the run, which may have phases.
      opened: the stores and objective of each phase, by its name.
      order: of the data, where the config's first step that is made begins in it.
      recorded: the run's segments before, under configs it had then.
    """

    config: RunConfig
    opened: Mapping[str, Inputs]
    order: SourceOrder
    recorded: tuple[Segment, ...] = ()

    @property
    def stores(self) -> tuple[TokenStore, ...]:
        """The stores of all phases, in the order of their first use."""
        found = {str(store.path): store for inputs in self.opened.values() for store in inputs.stores}
        return tuple(found.values())

    @property
    def inputs(self) -> Inputs:
        """What the last stage reads, after all others."""
        return self._then(self._first(self.order), self.recorded)

    @property
    def first(self) -> Inputs:
        """What the first stage that is made reads, by itself."""
        return self._first(self.order)

    def going_on(self, order: SourceOrder, recorded: tuple[Segment, ...]) -> Course:
        """Returns the course of a run that begins, or resumes under this config, where `order` does."""
        return dataclasses.replace(self, order=order, recorded=recorded)

    def after(self, before: tuple[Segment, ...], step: int, first_step: int | None = None) -> Course:
        """Returns the course that continues from `step` after other segments, at their place in the data.

        Args:
          before: the segments, the last of which makes the step before.
          step: of theirs.
          first_step: what this run calls it; None: the same, and the segments are its own.
        """
        begin = step if first_step is None else first_step
        order = next_order(self._at(begin), before[-1], step, first_step)
        return self.going_on(order, before if first_step is None else ())

    def record(self) -> dict[str, Any]:
        """Returns what config.json holds of it beside the config."""
        starts = phase_starts(self.config)
        return history(self.order, self.recorded) | ({PHASE_STARTS: starts} if starts else {})

    def _first(self, order: SourceOrder) -> Inputs:
        return dataclasses.replace(self._at(order.step), order=order)

    def _at(self, step: int) -> Inputs:
        """Returns what the stage of `step` reads; its order is that of a run of its own."""
        stage = next(stage for stage in stages(self.config) if step < stage.end or stage.end == self.config.steps)
        return self._of(stage, step)

    def _of(self, stage: PhaseStage, step: int) -> Inputs:
        """Returns what a stage reads from `step` on; only at its first step may its optimizer be fresh."""
        fresh = stage.fresh_optimizer and step == stage.first_step
        return dataclasses.replace(
            self.opened[stage.phase], config=stage.config, phase=stage.phase, fresh_optimizer=fresh
        )

    def _then(self, inputs: Inputs, earlier: tuple[Segment, ...]) -> Inputs:
        begun = inputs.order.step
        for stage in stages(self.config):
            if begun < stage.first_step:
                earlier = (*earlier, inputs.segment)
                following = self._of(stage, stage.first_step)
                order = next_order(following, earlier[-1], stage.first_step)
                inputs = dataclasses.replace(following, order=order)
        return dataclasses.replace(inputs, earlier=earlier)


def open_course(config: RunConfig) -> Course:
    """Opens the stores of a run, of all its phases; touches no device.

    Raises:
      UserError: as `open_inputs`, of a phase with its name; its vocabulary is another than that of the first, or the
        optimizer keeps something else of a step.
    """
    opened: dict[str, Inputs] = {}
    for stage in whole_stages(config):
        try:
            inputs = open_inputs(stage.config)
            if opened:
                _check_alike(next(iter(opened.values())), inputs)
        except UserError as error:
            if not stage.phase:
                raise
            raise UserError(f"{error} (of phase {stage.phase!r})") from None
        opened[stage.phase] = inputs
    stage = stages(config)[0]
    first, stores = stage.config, opened[stage.phase].stores
    order = fresh_order(stores, first.data.train_split, mixture_phases(first), first.batch_size)
    return Course(config, opened, order)


def _check_alike(first: Inputs, other: Inputs) -> None:
    """Raises UserError unless two phases read one vocabulary and keep the same state."""
    ours, theirs = first.stores[0], other.stores[0]
    if ours.manifest.vocabulary != theirs.manifest.vocabulary:
        raise UserError(
            f"{theirs.path}: its vocabulary is not that of {ours.path}, which the first phase reads: prepare it again "
            f"with --vocabulary_from={ours.path}"
        )
    if optimizer_shapes(first.config) != optimizer_shapes(other.config):
        raise UserError(
            f"what {type(other.config.optimizer).__name__} keeps of a step has another shape than in the first phase"
        )
