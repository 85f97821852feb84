"""A progress bar with time left, on stderr, where there is a terminal to draw on."""

from __future__ import annotations

from types import TracebackType

import rich.console
import rich.progress


class Progress:
    """One evaluation after another, each with a bar over the rows it computes."""

    def __init__(self, show: bool):
        """A progress display; nothing is drawn unless `show` and stderr is a terminal."""
        console = rich.console.Console(stderr=True)
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.TaskProgressColumn(),
            rich.progress.TextColumn("left"),
            rich.progress.TimeRemainingColumn(),
            console=console,
            disable=not (show and console.is_terminal),
        )
        self._task: rich.progress.TaskID | None = None

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def start(self, description: str, rows: int) -> None:
        """Begins an evaluation of `rows` rows."""
        self._task = self._bar.add_task(description, total=rows)

    def advance(self, rows: int) -> None:
        """Notes that `rows` more are done."""
        assert self._task is not None
        self._bar.advance(self._task, rows)
