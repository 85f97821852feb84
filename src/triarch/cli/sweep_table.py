"""The live table of a sweep: what each run is doing, its loss, and the time left."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from triarch.sweeps.runner import Progress

_LINE_EVERY = 15.0  # seconds between lines where there is no terminal to redraw


class SweepTable:
    """Redraws a table on a terminal; elsewhere prints a line when something changes, and now and then."""

    def __init__(self, title: str, output: Path):
        self._title = title
        self._output = output
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False) if sys.stdout.isatty() else None
        self._last_line = ""
        self._last_time = 0.0

    def __enter__(self) -> SweepTable:
        print(self._title, flush=True)
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Shows the state of every chain."""
        if self._live:
            self._live.update(self._table(progress), refresh=True)
            return
        finished = sum(state in ("done", "failed") for _, state in progress.states.values())
        running = [
            f"{owner} {stage}{self._detail(owner, stage)}"
            for owner, (stage, s) in progress.states.items()
            if s == "running"
        ]
        line = f"{finished}/{len(progress.states)} done{_time_left(progress, finished)}; {', '.join(running)}"
        changed = [word for word in line.split() if word.isalpha()] != [
            w for w in self._last_line.split() if w.isalpha()
        ]
        if changed or time.monotonic() - self._last_time > _LINE_EVERY:
            print(line, flush=True)
            self._last_line, self._last_time = line, time.monotonic()

    def _table(self, progress: Progress) -> Table:
        finished = sum(state in ("done", "failed") for _, state in progress.states.values())
        table = Table(
            title=f"{finished}/{len(progress.states)} done{_time_left(progress, finished)}", title_justify="left"
        )
        for column in ("run", "stage", "state", "progress"):
            table.add_column(column)
        for owner, (stage, state) in progress.states.items():
            table.add_row(owner, stage, state, self._detail(owner, stage) if state == "running" else "")
        return table

    def _detail(self, owner: str, stage: str) -> str:
        if stage != "train":
            return ""
        last = _last_json(self._output / "runs" / owner / "metrics.jsonl")
        return f" step {last['step']} loss {last['loss']:.3f}" if last and "loss" in last else ""


def _time_left(progress: Progress, finished: int) -> str:
    if not finished:
        return ""
    left = (time.monotonic() - progress.started) / finished * (len(progress.states) - finished)
    return f", about {left:.0f} s left" if left else ""


def _last_json(path: Path) -> dict | None:
    try:
        lines = path.read_text().splitlines()
        return json.loads(lines[-1]) if lines else None
    except (OSError, ValueError):
        return None
