"""What a run reports of itself: `metrics.jsonl`, one JSON object a logged step, and the same to other trackers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from triarch import schema
from triarch.errors import UserError
from triarch.files import read_regular, write_whole
from triarch.training.logs.trackers import JsonLines, Line, Tracker, render

FILE_NAME = "metrics.jsonl"
# A run that logs each of a million steps writes about 500 MB.
_MOST_BYTES = 2**32


class MetricsLog:
    """Appends to `metrics.jsonl`; a line is on disk whole or, after a crash in mid-write, dropped on resumption.

    Attributes:
      lines: all lines so far, oldest first.
    """

    def __init__(self, workdir: Path, restored_step: int, trackers: Sequence[Tracker] = ()):
        """Opens the log of a run that resumes from `restored_step`: lines of later steps are dropped.

        Args:
          workdir: the run folder.
          restored_step: updates the restored state has seen; 0 for a new run.
          trackers: that are told each line too; closed with the log.
        """
        path = workdir / FILE_NAME
        self.lines: list[Line] = [line for line in read_lines(path) if line["step"] <= restored_step]
        write_whole(path, "".join(map(render, self.lines)))
        self._trackers: tuple[Tracker, ...] = (JsonLines(path), *trackers)

    def write(self, line: Line) -> None:
        """Appends one line; its values are JSON scalars, "step" among them, and none is infinite or NaN.

        Raises:
          OSError: the disk is full.
        """
        for tracker in self._trackers:
            tracker.write(line)
        self.lines.append(dict(line))

    def sync(self) -> None:
        """Makes sure that all lines survive a crash of the machine, and other trackers' one of this process."""
        for tracker in self._trackers:
            tracker.sync()

    def close(self) -> None:
        """Writes out everything."""
        for tracker in self._trackers:
            tracker.close()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Returns the whole lines of a `metrics.jsonl`; a line cut short by a crash is left out."""
    try:
        content = read_regular(path, _MOST_BYTES, path.parent)
    except (FileNotFoundError, NotADirectoryError):
        return []
    lines = []
    for text in content.decode(errors="replace").splitlines():
        try:
            line = schema.parse(text, str(path))
        except UserError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines
