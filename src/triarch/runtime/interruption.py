"""Ending a run in good order when it is told to stop."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import jax
from jax.experimental import multihost_utils

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Within this context SIGTERM and SIGINT ask for a stop after the current step; a second one stops at once.

    With several hosts the notice may reach only one of them: jax.distributed, which listens for SIGTERM itself there,
    lets all agree on the step to stop after; SIGINT is handed on to it.
    """

    def __init__(self) -> None:
        self._asked = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            alone = jax.process_count() == 1
            handlers = dict.fromkeys(_SIGNALS, self._ask) if alone else {signal.SIGINT: self._hand_on}
            self._previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def due(self, step: int) -> bool:
        """Returns whether to stop after `step`; all hosts get the same answer."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._asked

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        self._restore()

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        os.kill(os.getpid(), signal.SIGTERM)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
