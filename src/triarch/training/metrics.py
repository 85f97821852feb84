"""What a run reports of itself: `metrics.jsonl`, one JSON object a logged step, and the same as TensorBoard events."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triarch import schema
from triarch.errors import UserError
from triarch.files import read_regular, write_whole

FILE_NAME = "metrics.jsonl"
TENSORBOARD = "tensorboard"
# A run that logs each of a million steps writes about 500 MB.
_MOST_BYTES = 2**32

Line = Mapping[str, Any]


class MetricsLog:
    """Appends to `metrics.jsonl`; a line is on disk whole or, after a crash in mid-write, dropped on resumption.

    Attributes:
      lines: all lines so far, oldest first.
    """

    def __init__(self, workdir: Path, restored_step: int, tensorboard: bool):
        """Opens the log of a run that goes on from `restored_step`: lines of later steps are dropped.

        Args:
          workdir: the run folder.
          restored_step: updates the restored state has seen; 0 for a new run.
          tensorboard: whether to write events below `tensorboard/`.
        """
        path = workdir / FILE_NAME
        self.lines: list[Line] = [line for line in read_lines(path) if line["step"] <= restored_step]
        write_whole(path, "".join(map(_render, self.lines)))
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._writer = None
        if tensorboard:
            from tensorboardX import SummaryWriter  # Its import is slow, and evaluations of a log need none of it.

            self._writer = SummaryWriter(str(workdir / TENSORBOARD), purge_step=restored_step + 1)

    def write(self, line: Line) -> None:
        """Appends one line; its values are JSON scalars, "step" among them, and none is infinite or NaN.

        Raises:
          OSError: the disk is full.
        """
        data = _render(line).encode()
        written = os.write(self._file, data)
        while written < len(data):
            written += os.write(self._file, data[written:])
        self.lines.append(dict(line))
        if self._writer is not None:
            for name, value in line.items():
                if name != "step" and value is not None:
                    self._writer.add_scalar(name, value, line["step"])

    def sync(self) -> None:
        """Makes sure that all lines survive a crash of the machine, and TensorBoard's events one of this process."""
        os.fsync(self._file)
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Writes out everything."""
        os.close(self._file)
        if self._writer is not None:
            self._writer.close()


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


def _render(line: Line) -> str:
    return json.dumps(line, allow_nan=False) + "\n"
