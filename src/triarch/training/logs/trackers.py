"""Where the numbers of a run go: JSON lines always, TensorBoard and Weights & Biases where the config asks for them.

A tracker is told each logged line once. Of a run that resumes from an earlier step than it had logged, later numbers
take the place of those before.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from triarch import schema
from triarch.errors import UserError
from triarch.files import read_regular, write_whole

if TYPE_CHECKING:
    from triarch.training.config import RunConfig

TENSORBOARD = "tensorboard"
WANDB = "wandb"
# Beside the run: which run of Weights & Biases it is, so that it stays one run there however often it resumes.
WANDB_FILE = "wandb.json"
_MOST_BYTES = 2**16

Line = Mapping[str, Any]


class Tracker(Protocol):
    """Takes the lines of a log."""

    def write(self, line: Line) -> None:
        """Takes one line: JSON scalars by name, "step" among them."""
        ...

    def sync(self) -> None:
        """Makes sure that what was written outlives this process."""
        ...

    def close(self) -> None:
        """Writes out everything."""
        ...


def render(line: Line) -> str:
    """Returns a line as JSON; raises ValueError for what is infinite or NaN."""
    return json.dumps(line, allow_nan=False) + "\n"


class JsonLines:
    """Appends to a file; a line is on disk whole, or cut short by a crash."""

    def __init__(self, path: Path):
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, line: Line) -> None:
        """Appends one line.

        Raises:
          OSError: the disk is full.
        """
        data = render(line).encode()
        written = os.write(self._file, data)
        while written < len(data):
            written += os.write(self._file, data[written:])

    def sync(self) -> None:
        """Makes sure that all lines survive a crash of the machine."""
        os.fsync(self._file)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


class TensorBoard:
    """Writes events below a folder."""

    def __init__(self, folder: Path, restored_step: int | None = None):
        """Opens the events of a run; of one that resumes from `restored_step` later ones are struck out."""
        from tensorboardX import SummaryWriter  # Its import is slow, and evaluations of a log need none of it.

        self._writer = SummaryWriter(str(folder), purge_step=None if restored_step is None else restored_step + 1)

    def write(self, line: Line) -> None:
        """Adds a scalar for each number and a text for each text."""
        for name, value in line.items():
            if name == "step" or value is None:
                continue
            add = self._writer.add_text if isinstance(value, str) else self._writer.add_scalar
            add(name, value, line["step"])

    def sync(self) -> None:
        """Hands all events to the system."""
        self._writer.flush()

    def close(self) -> None:
        """Closes the file of events."""
        self._writer.close()


class WeightsAndBiases:
    """Logs to a project of Weights & Biases, or to `wandb/` beside the run where WANDB_MODE=offline.

    What goes wrong there after the first line ends the logging there, not the run.
    """

    def __init__(self, workdir: Path, project: str, config: Mapping[str, Any]):
        """Opens the run's own run there, which is made when it is new.

        Raises:
          UserError: wandb is not installed or cannot be begun with.
        """
        try:
            import wandb
        except ImportError:
            raise UserError(
                f"RunConfig.wandb_project = {project!r}: wandb is not installed (pip install 'triarch[wandb]')"
            ) from None
        identity = _identity(workdir / WANDB_FILE, project)
        if identity is None:
            identity = secrets.token_hex(8)
            write_whole(workdir / WANDB_FILE, json.dumps({"project": project, "id": identity}) + "\n")
        settings = wandb.Settings(silent=True, console="off")
        try:
            self._run: Any = wandb.init(
                project=project,
                id=identity,
                name=workdir.resolve().name,
                dir=str(workdir),
                resume="allow",
                config=dict(config),
                settings=settings,
            )
            self._run.define_metric("*", step_metric="step")
        except Exception as error:
            reason = str(error).split("\n")[0][:200]
            raise UserError(
                f"RunConfig.wandb_project = {project!r}: {reason} (WANDB_MODE=offline logs to {workdir / WANDB})"
            ) from None

    def write(self, line: Line) -> None:
        """Logs the numbers against "step", which may go back where a run resumes."""
        if self._run is None:
            return
        try:
            self._run.log({name: value for name, value in line.items() if value is not None})
        except Exception as error:
            print(f"triarch: Weights & Biases: {error}; nothing more is logged there", file=sys.stderr)
            self._run = None

    def sync(self) -> None:
        """Does nothing: another process writes."""

    def close(self) -> None:
        """Waits until all is written or sent."""
        if self._run is not None:
            self._run.finish()


def _identity(path: Path, project: str) -> str | None:
    """Returns which run of the project a run folder is; None if it has none yet."""
    if not path.exists():
        return None
    found = schema.parse(read_regular(path, _MOST_BYTES, path.parent).decode(errors="replace"), str(path))
    known = isinstance(found, dict) and found.get("project") == project and isinstance(found.get("id"), str)
    return found["id"] if known else None


def open_trackers(config: RunConfig, workdir: Path, restored_step: int) -> list[Tracker]:
    """Returns the trackers that a config asks for beside metrics.jsonl.

    Raises:
      UserError: one is not installed, or cannot be begun with.
    """
    trackers: list[Tracker] = []
    if config.tensorboard:
        trackers.append(TensorBoard(workdir / TENSORBOARD, restored_step))
    if config.wandb_project is not None:
        from triarch.training.record.config_classes import to_plain

        trackers.append(WeightsAndBiases(workdir, config.wandb_project, to_plain(config)))
    return trackers
