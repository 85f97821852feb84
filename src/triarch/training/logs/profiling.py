"""A trace of some steps: what each device and thread did when, by jax's profiler."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import jax

from triarch.errors import UserError

FOLDER = "profile"


class StepTrace:
    """Within this context, writes a trace of chosen steps; ended early, of those that were made."""

    def __init__(self, steps: range | None, workdir: Path, say: Callable[[str], None]):
        """A trace of `steps`, counted from 0, below `workdir`; none if None. `say` tells the user where it is."""
        self._steps = steps
        self._folder = workdir / FOLDER
        self._say = say
        self._running = False

    def check(self, first: int, end: int) -> None:
        """Raises UserError unless a run that makes steps `first` to `end` - 1 makes all of those to be traced."""
        steps = self._steps
        if steps is not None and first < end and not first <= steps.start < steps.stop <= end:
            raise UserError(f"--profile={steps.start}:{steps.stop}: the run makes steps {first} to {end - 1} now")

    def before(self, step: int) -> None:
        """Begins the trace if `step` is its first."""
        if self._steps is not None and step == self._steps.start:
            jax.profiler.start_trace(str(self._folder), create_perfetto_trace=True)
            self._running = True

    def after(self, step: int, results: Any) -> None:
        """Ends the trace if `step` was its last, once its `results` are computed."""
        if self._running and self._steps is not None and step + 1 == self._steps.stop:
            jax.block_until_ready(results)
            self._stop()

    def __enter__(self) -> StepTrace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._running:
            self._stop()

    def _stop(self) -> None:
        self._running = False
        jax.profiler.stop_trace()
        newest = max(self._folder.glob("plugins/profile/*"), default=self._folder)
        self._say(
            f"trace written to {newest}: open its perfetto_trace.json.gz at https://ui.perfetto.dev, or run "
            f"`tensorboard --logdir={self._folder}` (pip install tensorboard tensorboard-plugin-profile)"
        )
