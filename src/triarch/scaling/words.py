"""Numbers in words, for sentences, tables and axes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def short_number(value: float, _position: object = None) -> str:
    """Returns 1.2B for 1.2e9; powers of ten beyond a trillion as 3e15."""
    if value == 0:
        return "0"
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value:.2g}" if abs(value) >= 1e15 else f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"


def power_of_ten(value: float, _position: object = None) -> str:
    """Returns 10¹², 3×10¹² or 2.5×10¹², for a tick."""
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".replace(".0e", "e").split("e")
    power = "10" + str(int(exponent)).translate(SUPERSCRIPTS)
    return power if mantissa == "1" else f"{mantissa}\N{MULTIPLICATION SIGN}{power}"


def signed(value: float) -> str:
    """Returns three decimals with a true minus sign."""
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


def join(parts: Iterable[str]) -> str:
    """Returns "a, b and c"."""
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def duration(seconds: float) -> str:
    """Returns 42 s, 3 min 5 s or 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"


def four_decimals(value: float) -> str:
    """Returns 0.1234; where that would be many digits, 3.2×10¹⁵."""
    return f"{value:.4f}" if abs(value) < 1e4 else scientific(value)


def scientific(value: float) -> str:
    """Returns 3.2×10¹⁵."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}\N{MULTIPLICATION SIGN}10{str(int(exponent)).translate(SUPERSCRIPTS)}"


def file_name(text: str) -> str:
    """Returns the text with what file names are better without as hyphens."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)
