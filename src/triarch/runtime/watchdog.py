"""Says so when a step takes much longer than the ones before: a host that hangs is silent otherwise."""

from __future__ import annotations

import collections
import statistics
import threading
import time
from collections.abc import Callable
from types import TracebackType

from triarch.readable import duration
from triarch.runtime import multihost

_LOOK_SECONDS = 5.0
_REMEMBERED = 32
# Compilation stands before the first of these steps, and evaluation and saving within others.
_FIRST_STEPS = 3
_FIRST_PATIENCE = 1800.0
_LEAST_PATIENCE = 120.0
_TIMES_USUAL = 10.0


class Watchdog:
    """Watches, from a thread of its own, how long ago the last step began.

    Its patience is ten times the usual time of a step, two minutes at least and half an hour for the first steps, which
    wait for compilation; after each word it is twice as long.
    """

    def __init__(self, say: Callable[[str], None]):
        """A watchdog that calls `say` with one line when a step takes too long, and another when it has ended."""
        self._say = say
        self._usual: collections.deque[float] = collections.deque(maxlen=_REMEMBERED)
        self._step = 0
        self._began = time.monotonic()
        self._barked = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watchdog")

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()

    def at_step(self, step: int) -> None:
        """Notes that this process has begun `step`."""
        multihost.at_step(step)
        now = time.monotonic()
        self._usual.append(now - self._began)
        if self._barked:
            self._say(f"step {step} began after {duration(now - self._began)}")
        self._step, self._began, self._barked = step, now, 0

    def complaint(self, now: float) -> str | None:
        """Returns what to say at the time `now`, if anything; each time its patience becomes longer."""
        waited = now - self._began
        if waited < self._patience() * 2**self._barked:
            return None
        self._barked += 1
        usual = f", one usually takes {_short(statistics.median(self._usual))}" if self._is_used() else ""
        behind = multihost.behind()
        return f"no end of step {self._step} for {duration(waited)}{usual}{f'; {behind}' if behind else ''}"

    def _is_used(self) -> bool:
        return len(self._usual) > _FIRST_STEPS

    def _patience(self) -> float:
        if not self._is_used():
            return _FIRST_PATIENCE
        return max(_LEAST_PATIENCE, _TIMES_USUAL * statistics.median(self._usual))

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            text = self.complaint(time.monotonic())
            if text is not None:
                self._say(text)


def _short(seconds: float) -> str:
    return f"{seconds:.2g}s" if seconds < 10 else duration(seconds)
