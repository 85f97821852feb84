"""The process behind `triarch sweep`: runs verbs one after another, as told on its standard input."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import queue
import sys
import threading
from typing import TextIO, cast

from triarch.cli.main import main


def serve(requests: TextIO, answers: TextIO) -> None:
    """Runs a verb for every line {"arguments": [...], "log": PATH} and answers {"status": N}, until the input ends.

    When it ends in the middle of a verb, the sweep is gone, perhaps killed, and this process ends at once: another
    sweep may be about to take the run up.
    """
    waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    busy = threading.Event()

    def listen() -> None:
        for line in requests:
            waiting.put(line)
        if busy.is_set():
            os._exit(1)
        waiting.put(None)

    threading.Thread(target=listen, daemon=True).start()
    while (line := waiting.get()) is not None:
        request = json.loads(line)
        busy.set()
        status = _run(request["arguments"], request["log"])
        busy.clear()
        answers.write(json.dumps({"status": status}) + "\n")
        answers.flush()


def _run(arguments: list[str], log: str) -> int:
    """Returns the exit status of one verb whose output, that of libraries included, is appended to `log`."""
    with open(log, "a", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            return main(arguments)
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            gc.collect()


if __name__ == "__main__":
    cast(io.TextIOWrapper, sys.stdout).reconfigure(line_buffering=True)
    own_answers = os.fdopen(os.dup(1), "w")
    with contextlib.suppress(KeyboardInterrupt):  # Between two verbs; the sweep has the same from the terminal.
        serve(sys.stdin, own_answers)
