"""Keeps Orbax's own account of a failed save, hundreds of lines, out of the one line a user is to read."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Within this context Orbax logs nothing: whatever goes wrong there reaches the caller as an exception anyway."""
    logger = logging.getLogger("absl")
    previous_hook = sys.unraisablehook

    def from_elsewhere(record: logging.LogRecord) -> bool:
        return "orbax" not in record.pathname

    def hook(unraisable: Any) -> None:
        # Writes still under way when one has failed end on an event loop that is gone.
        if "Event loop is closed" not in str(unraisable.exc_value):
            previous_hook(unraisable)

    logger.addFilter(from_elsewhere)
    sys.unraisablehook = hook
    try:
        yield
    finally:
        logger.removeFilter(from_elsewhere)
        sys.unraisablehook = previous_hook
