"""A plan is chosen by an estimate; its first step shows whether it fits, and where it does not the next is tried."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax

from triarch.training.choosing.choice import Choice
from triarch.training.choosing.cost import Option

T = TypeVar("T")
# What compilers say, on all processes alike; that devices have no room is seen by one of them alone.
_BY_COMPILER = ("compil", "memory space hbm")


class Refused(Exception):
    """There was no memory for a plan; the message is the first line of what said so."""

    def __init__(self, option: Option, reason: str):
        super().__init__(reason)
        self.option = option


class Trial:
    """What a run chose, until its first step shows that it fits."""

    def __init__(self, choice: Choice):
        """A choice whose plan may be refused, unless the config said all of it, or it is a processor's."""
        self._choice = choice
        self._is_over = not choice.left_open or choice.machine.platform == "cpu"

    def after_step(self, metrics: Any) -> None:
        """Waits for the first step, whose memory is that of all."""
        if not self._is_over:
            jax.block_until_ready(metrics)
            self._is_over = True

    def check(self, error: BaseException) -> None:
        """Raises Refused where an error, which is one of memory, came before the first step was made."""
        text = str(error)
        if not self._is_over and (jax.process_count() == 1 or any(word in text.lower() for word in _BY_COMPILER)):
            raise Refused(self._choice.option, (text.splitlines() or [type(error).__name__])[0][:200]) from None


def first_that_fits(attempt: Callable[[Sequence[Option]], T], say: Callable[[str], None]) -> T:
    """Returns what an attempt does under a plan that is not refused.

    Args:
      attempt: called with the plans that were refused before.
      say: called with a line about each.

    Raises:
      UserError: no smaller plan is left.
    """
    refused: list[Option] = []
    while True:
        try:
            return attempt(refused)
        except Refused as refusal:
            refused.append(refusal.option)
            say(f"{refusal.option}: does not fit ({refusal}); trying the next plan")
        gc.collect()  # The arrays of what was refused.
