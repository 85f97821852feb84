"""Several processes that make up one run, always ended with the test."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.training import tiny


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("", 0))
        return sock.getsockname()[1]


@dataclasses.dataclass
class Group:
    """Processes by number; output goes to files, so that none waits for a reader."""

    processes: dict[int, subprocess.Popen]
    logs: dict[int, Path]

    def wait(self, seconds: float = 300.0) -> dict[int, int]:
        """Returns the exit status of each; fails if they take longer."""
        deadline = time.monotonic() + seconds
        return {number: one.wait(max(0.1, deadline - time.monotonic())) for number, one in self.processes.items()}

    def finish(self, seconds: float = 300.0) -> None:
        statuses = self.wait(seconds)
        assert set(statuses.values()) == {0}, (statuses, {number: self.said(number) for number in statuses})

    def said(self, number: int) -> str:
        return self.logs[number].read_text()

    def until(self, condition: Callable[[], bool], seconds: float = 300.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline
            ended = [number for number, one in self.processes.items() if one.poll() is not None]
            assert not ended, {number: self.said(number) for number in ended}
            time.sleep(0.05)


@contextlib.contextmanager
def running(
    code: str, commands: dict[int, list[object]], folder: Path, devices: int = 1, environment: dict | None = None
) -> Iterator[Group]:
    """Starts `code` with each command line, as the process of that number; kills what is left at the end."""
    group = Group({}, {})
    try:
        for number, command in commands.items():
            group.logs[number] = folder / f"{time.monotonic_ns()}-{number}.log"
            with open(group.logs[number], "w") as log:
                group.processes[number] = tiny.python(
                    code, *command, devices=devices, optimise=False, output=log, environment=environment
                )
        yield group
    finally:
        for process in group.processes.values():
            process.kill()
            process.wait()


def flags(number: int, count: int, port: int) -> list[str]:
    """Returns the flags that make a verb process `number` of `count`."""
    if count == 1:
        return []
    return [f"--coordinator=localhost:{port}", f"--num_processes={count}", f"--process_id={number}"]
