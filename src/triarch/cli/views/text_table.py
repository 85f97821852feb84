"""Rows under a header as aligned text."""

from __future__ import annotations

import itertools
from collections.abc import Sequence


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], words: int, least: Sequence[int] = ()) -> str:
    """Returns lines in columns.

    Args:
      header: of the columns.
      rows: below it.
      words: how many columns are words (to the left); the others are numbers (to the right).
      least: characters that the first columns have at least, so that tables printed one by one stand alike.
    """
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    widths = [max(pair) for pair in itertools.zip_longest(widths, least, fillvalue=0)]
    justify = [str.ljust] * words + [str.rjust] * (len(widths) - words)
    cells = ([just(cell, width) for just, cell, width in zip(justify, line, widths, strict=True)] for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in cells)


def decimals(value: float | None, digits: int = 4) -> str:
    """Returns a number with `decimals` decimals, or a dash for none."""
    return "-" if value is None else f"{value:.{digits}f}"
