"""A progress bar with time left, on stderr, where there is a terminal to draw on."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import rich.console
import rich.progress


class Progress:
    """One phase of work after another; each with a bar, or a spinner where its size is unknown."""

    def __init__(self, show: bool):
        """A progress display; nothing is drawn unless `show` and stderr is a terminal."""
        console = rich.console.Console(stderr=True)
        self._bar = rich.progress.Progress(
            rich.progress.SpinnerColumn(),
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.TaskProgressColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("left"),
            rich.progress.TimeRemainingColumn(),
            console=console,
            disable=not (show and console.is_terminal),
        )
        self._task: rich.progress.TaskID | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def start(self, description: str, size: int | None) -> None:
        """Begins a phase of `size` units; the one before is done."""
        if self._task is not None:
            self._bar.stop_task(self._task)
        self._task = self._bar.add_task(description, total=size)

    def advance(self, units: int) -> None:
        """Notes that `units` more are done."""
        assert self._task is not None
        self._bar.advance(self._task, units)
