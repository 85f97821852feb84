"""A process that runs one command of `triarch` after another, so that what they share is paid for once: starting
Python, importing jax, and reading compiled programs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

# What a worker runs: reads a request a line, {"arguments", "log"}; answers each with a line {"status"}.
COMMAND = (sys.executable, "-m", "triarch.cli.worker")
# After as many commands a fresh process takes over, whatever the old one may have gathered.
COMMANDS_A_PROCESS = 40


class WorkerDied(Exception):
    """The process ended in the middle of a command, as when the system is out of memory."""


class Worker:
    """One such process at a time, started when first needed and pinned to `cores`."""

    def __init__(self, cores: set[int], compilation_cache: Path, command: Sequence[str] = COMMAND):
        """A worker that keeps compiled programs in `compilation_cache`; empty `cores` pins it to none."""
        self._cores = cores
        self._command = list(command)
        self._environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(compilation_cache.absolute()),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        self._process: subprocess.Popen | None = None
        self._served = 0
        self._lock = threading.Lock()

    def run(self, arguments: Sequence[str], log: Path) -> int:
        """Runs one command, its output appended to `log`; returns its exit status.

        Raises:
          WorkerDied: the process did not live to answer.
        """
        with self._lock:
            process = self._ready()
        request = json.dumps({"arguments": list(arguments), "log": str(log)})
        try:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(request + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        self._served += 1
        if not answer:
            self.close()
            raise WorkerDied(_ending(process.returncode))
        return json.loads(answer)["status"]

    def interrupt(self) -> None:
        """Asks the command under way to stop where it can be taken up again; may be called from any thread."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Ends the process, if there is one, and waits for it."""
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait()
            self._process.stdout.close()
            self._process = None

    def _ready(self) -> subprocess.Popen:
        if self._process is not None and (self._served >= COMMANDS_A_PROCESS or self._process.poll() is not None):
            self.close()
        if self._process is None:
            # The child inherits the affinity of the thread that starts it.
            if self._cores:
                os.sched_setaffinity(0, self._cores)
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment
            )
            self._served = 0
        return self._process


def _ending(status: int) -> str:
    if status < 0:
        hint = " (out of memory?)" if -status == signal.SIGKILL else ""
        return f"its process was ended by {signal.Signals(-status).name}{hint}"
    return f"its process ended with status {status}"
