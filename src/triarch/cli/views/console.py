"""A console on standard output that leaves it to the program to end when its reader has left."""

from __future__ import annotations

import rich.console


class OutputConsole(rich.console.Console):
    """Raises BrokenPipeError where the reader has left, where rich's own ends the process with status 1."""

    def on_broken_pipe(self) -> None:
        raise  # What rich is handling as it asks.
