"""Times and numbers as people read them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Returns a time as "45s", "12m05s", "3h20m" or "2d04h"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"{seconds // 86400}d{seconds % 86400 // 3600:02}h"


def shortened(number: float) -> str:
    """Returns a number with three digits or so: "950", "12.3k", "1.68G"."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return f"{number:.3g}"
