"""SLURM: runs as the elements of a job array, on machines that share a file system."""

from __future__ import annotations

import getpass
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from triarch.errors import UserError
from triarch.sweeps.fleets.base import NoAnswer, Task, call, need, new_file, reason

_WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")
_ENDED = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "REVOKED", "TIMEOUT",
)  # fmt: skip
_OURS = ("array", "job-name", "open-mode", "output", "error", "parsable", "wrap")


class Slurm:
    """`sbatch` and `squeue`; options are those of sbatch: partition, time, gres, account, ..."""

    name = "slurm"
    most_tasks = 1000  # Elements of an array, under SLURM's own default limit.

    def __init__(self, folder: Path, options: Mapping[str, str]):
        """Writes scripts and logs to `folder`.

        Raises:
          UserError: an option is one that triarch sets.
        """
        self._folder = folder.absolute()
        self._options = dict(options)
        for name in options:
            if name in _OURS:
                raise UserError(f"--fleet_option={name}: triarch sets this option of sbatch")

    def check(self) -> None:
        for program in ("sbatch", "squeue"):
            need(self.name, program, "start this where SLURM takes jobs, on a login node")

    def submit(self, tasks: Sequence[Task]) -> dict[str, str]:
        cases = "\n".join(
            f"  {index}) exec {shlex.join((sys.executable, '-m', 'triarch', *task.arguments))} ;;"
            for index, task in enumerate(tasks)
        )
        text = (
            f'#!/bin/bash\ncd {shlex.quote(str(Path.cwd()))} || exit 1\ncase "$SLURM_ARRAY_TASK_ID" in\n{cases}\nesac\n'
        )
        script = new_file(self._folder, ".sh", text)
        try:
            result = call(
                (
                    "sbatch",
                    "--parsable",
                    "--job-name=triarch",
                    f"--array=0-{len(tasks) - 1}",
                    "--requeue",
                    "--open-mode=append",
                    f"--output={self._folder / '%A_%a.txt'}",
                    *(f"--{name}={value}" if value else f"--{name}" for name, value in self._options.items()),
                    str(script),
                )
            )
        except NoAnswer as error:
            raise UserError(f"--fleet=slurm: {error}") from None
        number = result.stdout.strip().splitlines()[-1].partition(";")[0] if result.stdout.strip() else ""
        if result.returncode != 0 or not number.isdigit():
            raise UserError(f"--fleet=slurm: sbatch refuses {script}: {reason(result)}")
        return {task.owner: f"{number}_{index}" for index, task in enumerate(tasks)}

    def living(self) -> dict[str, str]:
        # Of the user, not of these jobs: squeue fails for a number that it has forgotten.
        result = call(("squeue", "--noheader", "--array", f"--user={getpass.getuser()}", "--format=%i|%T"))
        if result.returncode != 0:
            raise NoAnswer(f"squeue: {reason(result)}")
        found = {}
        for line in result.stdout.splitlines():
            job, _, state = line.strip().partition("|")
            if state and state not in _ENDED:
                found[job] = "waiting" if state in _WAITING else "running"
        return found

    def log(self, job: str) -> str:
        return str(self._folder / f"{job}.txt")
