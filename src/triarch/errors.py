"""The one error a user is meant to read."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable

from triarch.disk import is_full
from triarch.memory import is_out_of_memory

# Names that fit on the one line of a message.
MOST_LISTED = 12
# Of a process that met a fault of triarch itself: EX_SOFTWARE of sysexits.h.
FAULT = 70
_MOST_CHARACTERS = 240
_FEW_LISTED = 5
_MOST_OF_A_NAME = 60


class UserError(Exception):
    """Bad input, described in one line: what is wrong, where, and the nearest right thing.

    The command line prints the message without a traceback and exits with status 1.
    """


class Stopped(KeyboardInterrupt):
    """SIGINT or SIGTERM: work ends where it can resume.

    Attributes:
      number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__()
        self.number = number


def exit_status(error: BaseException) -> int:
    """Returns the status of a process that `error` ends: 1 for its input or machine, 128 + a signal, else FAULT."""
    if isinstance(error, KeyboardInterrupt):
        return 128 + getattr(error, "number", signal.SIGINT)
    is_foreseen = isinstance(error, UserError | OSError) or is_out_of_memory(error) or is_full(error)
    return 1 if is_foreseen else FAULT


def nearest(word: str, candidates: Iterable[str]) -> str:
    """Returns " (did you mean 'X'?)" for the candidate closest to `word`, or a list if none is close.

    The list is of all, or of those most like `word`, where that would be a long line.
    """
    options = sorted(set(candidates))
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    if close:
        return f" (did you mean {_legible(close[0])!r}?)"
    listed = options
    if len(options) > MOST_LISTED or len(", ".join(options)) > _MOST_CHARACTERS:
        listed = difflib.get_close_matches(word, options, n=_FEW_LISTED, cutoff=0.0)
    more = f" and {len(options) - len(listed)} more" if len(options) > len(listed) else ""
    return f" (one of: {', '.join(map(_legible, listed))}{more})" if options else ""


def brief(said: object, most: int = 160) -> str:
    """Returns the first line of what a library says, cut where it would fill the screen."""
    line = next(iter(str(said).splitlines()), "")
    return line if len(line) <= most else f"{line[:most]}..."


def _legible(name: str) -> str:
    """Returns a name as a message shows it: names from damaged files may be long, and hold anything."""
    shown = name if name.isprintable() else ascii(name)[1:-1]
    return shown if len(shown) <= _MOST_OF_A_NAME else f"{shown[:_MOST_OF_A_NAME]}..."
