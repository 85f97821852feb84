"""What looks wrong in a table of runs before any law is fitted: said in warnings that name the rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from triarch.scaling.tables.table import Table

# A model of fewer parameters, or a run of fewer tokens, is taken for a column in thousands, millions or billions.
LEAST_PARAMS, LEAST_TOKENS = 1e4, 1e5
# FLOPs for each parameter and token: 2 for a forward pass, 6 for training, more where attention or a vocabulary weighs.
FLOPS_RATIO = (0.5, 60.0)
UNITS = ((1e3, "thousands"), (1e6, "millions"), (1e9, "billions"), (1e12, "trillions"))


def duplicates(table: Table, columns: list[str]) -> list[str]:
    """Returns a warning for each run that stands in the table more than once: same numbers in all given columns."""
    rows: dict[tuple, list[int]] = {}
    for index, cells in enumerate(zip(*(table.text(column) for column in columns), strict=True)):
        rows.setdefault(tuple(map(_number, cells)), []).append(index)
    repeated = [indices for indices in rows.values() if len(indices) > 1]
    if not repeated:
        return []
    shown = "; ".join(table.rows(indices) for indices in repeated[:5])
    more = f" and {len(repeated) - 5} more such" if len(repeated) > 5 else ""
    what = "the same run stands" if len(repeated) == 1 else f"{len(repeated)} runs stand"
    return [
        f"{what} in the table more than once ({shown}{more}): each copy counts, and intervals come out too narrow;"
        " remove the copies"
    ]


def units(table: Table, columns: Mapping[str, tuple[str, np.ndarray]]) -> list[str]:
    """Returns warnings on columns that seem to stand in other units.

    Args:
      table: names rows in messages.
      columns: "params", "tokens" and "flops", as far as known: the column's name and its values.
    """
    warnings = []
    for kind, least, usual in (("params", LEAST_PARAMS, 3e8), ("tokens", LEAST_TOKENS, 3e10)):
        if kind not in columns:
            continue
        name, values = columns[kind]
        small = np.flatnonzero(values < least)
        if len(small) == len(values):
            unit = min(UNITS, key=lambda one: abs(np.log(np.median(values) * one[0] / usual)))[1]
            warnings.append(
                f"{name} is {values.max():g} at most: in {unit}? Exponents do not depend on it, budgets in FLOPs do;"
                f" give its unit with --{kind}_unit"
            )
        elif len(small):
            warnings.append(f"{name}, {table.rows(list(small))}: below {least:g}, the others above; one unit for all?")
    if {"params", "tokens", "flops"} <= columns.keys():
        warnings += _flops(table, columns)
    return warnings


def _flops(table: Table, columns: Mapping[str, tuple[str, np.ndarray]]) -> list[str]:
    name, flops = columns["flops"]
    ratio = flops / (columns["params"][1] * columns["tokens"][1])
    odd = np.flatnonzero((ratio < FLOPS_RATIO[0]) | (ratio > FLOPS_RATIO[1]))
    if not len(odd):
        return []
    return [
        f"{name}, {table.rows(list(odd))}: {ratio[odd[0]]:.3g} FLOPs for each parameter and token, expected about 6"
        " (2 for the forward pass alone); are all columns in units of one?"
    ]


def _number(cell: str) -> object:
    try:
        return float(cell)
    except ValueError:
        return cell
