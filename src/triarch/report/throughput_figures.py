"""Figures of measured generation, from the file that `benchmarks/generation_throughput.py --json` writes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.ticker

from triarch import schema
from triarch.errors import UserError, nearest
from triarch.scaling.figures.style import SERIES, Panel, new_axes, styled
from triarch.scaling.words import short_number
from triarch.schema import Anything

THROUGHPUT = "generation_throughput.json"
_RATES = {
    "prefill_tokens_per_second": ("Prefill", "prompt tokens a second"),
    "decode_tokens_per_second": ("Decode", "new tokens a second"),
}
_COLUMNS = ("parameters", "flops", "cache_bytes", *_RATES, "new_tokens_per_second")
_KEYS = ("machine", "batch", "prompt", "new_tokens", "sides")


def throughput_panels(path: Path) -> tuple[list[Panel], str]:
    """Returns a figure of each phase of generation, and what was measured, in a sentence; nothing without the file.

    Raises:
      UserError: the file is misshapen.
    """
    if not path.exists():
        return [], ""
    fields = _read(path)
    sides = fields["sides"]
    measured = (
        f"Greedy generation of {fields['new_tokens']} tokens after prompts of {fields['prompt']}, {fields['batch']} at"
        f" a time, in float32 on {fields['machine']}. FLOPs, in the data, are of one example's forward pass in the"
        " paper convention; cache bytes are of all examples."
    )
    return [_panel(column, sides) for column in _RATES], measured


def _panel(column: str, sides: Mapping[str, Mapping[str, Any]]) -> Panel:
    title, label = _RATES[column]
    names = list(sides)
    with styled():
        figure, axes = new_axes(f"{title}, measured", label, "")
        rates = [sides[name][column] for name in names]
        bars = axes.barh(names, rates, color=SERIES[0], height=0.6)
        axes.bar_label(bars, [short_number(rate) for rate in rates], padding=3, fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
        axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(short_number))
    rows = [(name, *("" if sides[name].get(c) is None else sides[name][c] for c in _COLUMNS)) for name in names]
    return Panel(f"throughput-{title.lower()}", f"{title}: {label}", figure, ("side", *_COLUMNS), rows)


def _read(path: Path) -> dict[str, Any]:
    try:
        fields = schema.read(path, Anything(), home=schema.ANYWHERE)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    for key in _KEYS:
        if not isinstance(fields, dict) or key not in fields:
            raise UserError(f"{path}: no key {key!r}{nearest(key, fields if isinstance(fields, dict) else ())}")
    if not isinstance(fields["sides"], dict) or not fields["sides"]:
        raise UserError(f"{path}: 'sides' is no object of what was measured")
    for name, side in fields["sides"].items():
        for column in _RATES:
            value = side.get(column) if isinstance(side, dict) else None
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise UserError(f"{path}: {column} of {name!r} is {value!r}, expected a number above zero")
    return fields
