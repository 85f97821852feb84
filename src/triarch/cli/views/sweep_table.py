"""The live table of a sweep: what each run is doing, its loss, and the time left."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from rich.live import Live
from rich.table import Table

from triarch.cli.views.console import OutputConsole
from triarch.sweeps.runner import SweepProgress, described

_LINE_EVERY = 15.0  # seconds between lines where there is no terminal to redraw
_ROWS = 30  # chains that are shown at once
_TAIL = 4096  # bytes: more than a line of metrics


class SweepTable:
    """Redraws a table on a terminal; elsewhere prints a line when something changes, and now and then."""

    def __init__(self, title: str, output: Path):
        self._title = title
        self._output = output
        self._console = OutputConsole()
        self._live = Live(console=self._console, auto_refresh=False) if sys.stdout.isatty() else None
        self._last_counts = (0, 0)
        self._last_time = 0.0
        self._told: set[str] = set()

    def __enter__(self) -> SweepTable:
        print(self._title, flush=True)
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, progress: SweepProgress) -> None:
        """Shows the state of every chain."""
        if self._live:
            self._live.update(self._table(progress), refresh=True)
            return
        running = [
            f"{owner} {stage}{self._detail(owner, stage)}"
            for owner, (stage, state) in progress.states.items()
            if state == "running"
        ]
        self._print_failures(progress)
        line = f"{_summary(progress)}; {', '.join(running)}"
        changed = (progress.count("done"), progress.count("failed")) != self._last_counts
        if changed or time.monotonic() - self._last_time > _LINE_EVERY:
            print(line, flush=True)
            self._last_counts = progress.count("done"), progress.count("failed")
            self._last_time = time.monotonic()

    def _print_failures(self, progress: SweepProgress) -> None:
        new = {owner: failure for owner, failure in progress.failures.items() if owner not in self._told}
        for line in described(new):
            print(f"FAILED {line}", flush=True)
        self._told |= set(new)

    def _table(self, progress: SweepProgress) -> Table:
        table = Table(title=_summary(progress), title_justify="left")
        for column in ("run", "stage", "state", "progress"):
            table.add_column(column)
        for owner in _worth_showing(progress):
            stage, state = progress.states[owner]
            detail = self._detail(owner, stage) if state == "running" else ""
            if owner in progress.failures:
                detail = progress.failures[owner].reason
            table.add_row(owner, stage, state, detail)
        return table

    def _detail(self, owner: str, stage: str) -> str:
        if stage != "train":
            return ""
        last = _last_json(self._output / "runs" / owner / "metrics.jsonl")
        return f" step {last['step']} loss {last['loss']:.3f}" if last and "loss" in last else ""


def _worth_showing(progress: SweepProgress) -> list[str]:
    """Returns every chain if they fit on a screen, else what runs, what failed, and the next."""
    owners = list(progress.states)
    if len(owners) <= _ROWS:
        return owners
    order = {"running": 0, "failed": 1, "elsewhere": 2, "waiting": 3, "done": 4}
    return sorted(owners, key=lambda owner: order[progress.states[owner][1]])[:_ROWS]


def _summary(progress: SweepProgress) -> str:
    words = [f"{progress.count('done')}/{len(progress.states)} done"]
    for state, word in (("failed", "failed"), ("elsewhere", "in another sweep")):
        if count := progress.count(state):
            words.append(f"{count} {word}")
    left = progress.seconds_left()
    if left:
        words.append(f"about {_duration(left)} left")
    return ", ".join(words)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _last_json(path: Path) -> dict | None:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL))
            lines = file.read().splitlines()
        return json.loads(lines[-1]) if lines else None
    except (OSError, ValueError, RecursionError):
        return None
