"""Rows under a header as aligned text."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    """Returns lines in columns, the first `words` of them words (to the left), the others numbers (to the right)."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    justify = [str.ljust] * words + [str.rjust] * (len(widths) - words)
    cells = ([just(cell, width) for just, cell, width in zip(justify, line, widths, strict=True)] for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in cells)


def decimals(value: float | None, digits: int = 4) -> str:
    """Returns a number of so many decimals, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"
