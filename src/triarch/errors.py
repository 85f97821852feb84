"""The one error a user is meant to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Names that fit on the one line of a message.
MOST_LISTED = 30


class UserError(Exception):
    """Bad input, described in one line: what is wrong, where, and the nearest right thing.

    The command line prints the message without a traceback and exits with status 1.
    """


def nearest(word: str, candidates: Iterable[str]) -> str:
    """Returns " (did you mean 'X'?)" for the candidate closest to `word`, or a list of all if none is close."""
    options = sorted(set(candidates))
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    if close:
        return f" (did you mean {close[0]!r}?)"
    more = f" and {len(options) - MOST_LISTED} more" if len(options) > MOST_LISTED else ""
    return f" (one of: {', '.join(options[:MOST_LISTED])}{more})" if options else ""
