"""What malloc keeps of freed memory, given back before it adds up."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_GROWTH = 4 / 3
_SETTLING_STEPS = 3
_STATM = Path("/proc/self/statm")


class FreedMemory:
    """Gives freed memory back to the system each time the process has grown by a third; does nothing where it cannot.

    On a CPU the temporaries of a step are one block, often of gigabytes, that malloc keeps between steps. A small
    allocation may come to lie in its place: the next step then needs a new block, and the old one would stay for good.
    """

    def __init__(self):
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if _STATM.exists() else None
        self._settling = _SETTLING_STEPS
        self._usual = 0

    def after_step(self) -> None:
        """Looks at the process once a step."""
        if self._trim is None:
            return
        if self._settling:
            # What steps use is only known when they have touched it: anew, if it was given back with the rest.
            self._settling -= 1
            self._usual = _resident_bytes()
        elif _resident_bytes() > self._usual * _GROWTH:
            self._trim(ctypes.c_size_t(0))
            self._settling = _SETTLING_STEPS


def _resident_bytes() -> int:
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
