"""One line that says how a run is doing."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TextIO

from triarch.readable import duration, shortened

_TERMINAL_SECONDS = 0.2
_LOG_SECONDS = 10.0


class StatusLine:
    """Shows measures, speed and time left: in place on a terminal, as a line now and then elsewhere."""

    def __init__(self, total_steps: int, enabled: bool = True, stream: TextIO | None = None):
        """Shows progress towards `total_steps` on `stream`, standard error by default; nothing unless `enabled`."""
        self._total_steps = total_steps
        self._enabled = enabled
        self._stream = sys.stderr if stream is None else stream
        self._in_place = self._stream.isatty()
        self._shown_at = -float("inf")
        self._width = 0

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        if self._enabled:
            self._end_line()
            print(text, file=self._stream, flush=True)

    def update(
        self,
        step: int,
        measures: Mapping[str, float],
        tokens_per_second: float | None,
        mfu: float | None,
        step_tokens: int,
    ):
        """Shows the state after `step` updates of `step_tokens` tokens each, unless it was shown a moment ago.

        Args:
          step: updates made.
          measures: the loss and the objective's other measures, by name.
          tokens_per_second: read; None where it is not known yet.
          mfu: model FLOPs utilisation; None where the devices' peak is unknown.
          step_tokens: tokens of a step.
        """
        now = time.monotonic()
        pause = _TERMINAL_SECONDS if self._in_place else _LOG_SECONDS
        if not self._enabled or (now - self._shown_at < pause and step < self._total_steps):
            return
        self._shown_at = now
        text = self._render(step, measures, tokens_per_second, mfu, step_tokens)
        if self._in_place:
            self._stream.write("\r" + text.ljust(self._width))
            self._stream.flush()
            self._width = len(text)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leaves the cursor on a fresh line."""
        self._end_line()

    def _render(
        self, step: int, measures: Mapping[str, float], rate: float | None, mfu: float | None, step_tokens: int
    ) -> str:
        parts = [f"step {step}/{self._total_steps}", *(f"{name} {value:.4f}" for name, value in measures.items())]
        if rate:
            parts.append(f"{shortened(rate)} tokens/s")
            if mfu is not None:
                parts.append(f"MFU {mfu:.1%}")
            parts.append(f"{duration((self._total_steps - step) * step_tokens / rate)} left")
        return "  ".join(parts)

    def _end_line(self) -> None:
        if self._width:
            self._stream.write("\n")
            self._stream.flush()
            self._width = 0
