"""What a fleet's engine is asked for: is it there, take these runs, which of them live."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from triarch.errors import UserError, nearest

_SECONDS = 120.0  # that an engine may take to answer


@dataclasses.dataclass(frozen=True)
class Task:
    """A run to be handed in: its owner's name, and the arguments of `triarch` that see it through."""

    owner: str
    arguments: tuple[str, ...]


class Engine(Protocol):
    """Takes tasks, and runs each on one machine when it likes.

    Attributes:
      name: as `--fleet` has it.
      most_tasks: that it takes at once, all of them or none.
    """

    name: str
    most_tasks: int

    def check(self) -> None:
        """Raises UserError unless the engine is here."""

    def submit(self, tasks: Sequence[Task]) -> dict[str, str]:
        """Hands tasks in; returns the job of each, by its owner.

        Raises:
          UserError: the engine refuses; names its reason.
        """

    def living(self) -> dict[str, str]:
        """Returns "waiting" or "running" for each job that has not ended.

        Raises:
          NoAnswer: the engine does not say, which may pass.
        """

    def log(self, job: str) -> str:
        """Returns where a job's output is: a file, or the command that shows it."""


class NoAnswer(Exception):
    """An engine that could not be asked just now."""


def call(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Runs an engine's own command to its end; its output is in the result.

    Raises:
      NoAnswer: it takes too long or cannot be started.
    """
    try:
        return subprocess.run(
            list(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoAnswer(f"{command[0]}: {error}") from None


def reason(result: subprocess.CompletedProcess[str]) -> str:
    """Returns the last line that a command printed, errors first."""
    lines = [line.strip() for line in (result.stderr or result.stdout).splitlines() if line.strip()]
    return lines[-1] if lines else f"ended with status {result.returncode}"


def need(engine: str, program: str, where: str) -> None:
    """Raises UserError unless `program` is on PATH."""
    if shutil.which(program) is None:
        raise UserError(f"--fleet={engine}: {program} is not on PATH: {where}")


def check_options(
    engine: str, options: Mapping[str, str], known: Collection[str], required: Sequence[str] = ()
) -> None:
    """Raises UserError for an option that the engine does not have, or one that is missing."""
    for name in options:
        if name not in known:
            raise UserError(
                f"--fleet_option={name}: --fleet={engine} has {', '.join(sorted(known))}{nearest(name, known)}"
            )
    for name in required:
        if name not in options:
            raise UserError(f"--fleet={engine} needs --fleet_option={name}=...")


def new_file(folder: Path, suffix: str, content: str) -> Path:
    """Writes what is handed in to a file of its own; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob(f"*{suffix}")))
    while True:
        path = folder / f"{number:04d}{suffix}"
        try:
            with open(path, "x") as file:
                file.write(content)
            os.chmod(path, 0o644)
            return path
        except FileExistsError:
            number += 1
