"""The numbers of a table that a request needs: chosen, read, worked out where they follow from others, and checked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from triarch.errors import MOST_LISTED, UserError, nearest
from triarch.scaling.checks import data_checks
from triarch.scaling.requests.request import FitRequest
from triarch.scaling.tables.columns import Columns
from triarch.scaling.tables.roles import Role
from triarch.scaling.tables.table import Table, is_empty, parse_number

# Which of three follows from the others by C = 6 N D.
TRAINING_FLOPS = 6.0
PERPLEXITY = re.compile(r"ppl|perplex", re.IGNORECASE)


def chosen_rows(table: Table, request: FitRequest) -> tuple[Table, list[str]]:
    """Returns the rows a request is about, and warnings on those left out for an empty cell.

    Raises:
      UserError: a column that the law needs is not named or not there, or no row is left.
    """
    _check_named(table, request)
    for conditions in request.where:
        table = table.where(*conditions)
    if request.last_of is not None:
        table = table.last_of(request.last_of)
    if not request.skip_empty:
        return table, []
    empty = sorted({row for name in _named(request) for row in _rows(table, name, is_empty)})
    endless = sorted({row for name in _named(request) for row in _rows(table, name, _is_endless)} - set(empty))
    if len(empty) + len(endless) == len(table):
        raise UserError(f"{table.name}: every row has an empty cell in {', '.join(_named(request))}")
    notes = [f"{table.rows(empty)}: left out, a cell is empty"] if empty else []
    notes += [f"{table.rows(endless)}: left out, a cell is not finite"] if endless else []
    return table.select(sorted(set(range(len(table))) - {*empty, *endless})) if notes else table, notes


def read_columns(table: Table, request: FitRequest) -> Columns:
    """Reads and checks the columns that a request names; of N, D and C = 6 N D, one not named follows from the others.

    Raises:
      UserError: a column is missing (the nearest is named), or a cell is not what its column needs (its row is named).
    """
    values: dict[str, np.ndarray] = {}
    several: dict[str, dict[str, np.ndarray]] = {}
    for name, given in request.columns.items():
        role = request.role(name)
        if not given or role.text:
            continue
        unit, positive = request.units.get(name, 1.0), role.positive
        read = {one: unit * table.numbers(one, positive=positive, minimum_rows=2) for one in request.names(name)}
        values[name] = next(iter(read.values()))
        if role.several:
            several[name] = read
    warnings = []
    if "loss" in values:
        values["loss"] = _in_nats(table, request, values["loss"])
        if request.loss_in != "perplexity" and PERPLEXITY.search(request.columns["loss"]):
            name = request.columns["loss"]
            warnings.append(f"{name} sounds like perplexities, and laws are of losses: give --loss_in=perplexity")
    for name, other in (("params", "tokens"), ("tokens", "params")):
        if name in request.law.roles() and name not in values:
            values[name] = values["flops"] / (TRAINING_FLOPS * values[other])
            warnings.append(f"no --{name}_column: {name} are FLOPs / (6 {other})")
    return Columns(table, request.columns, values, several, (*warnings, *_warnings(table, request, values)))


def _in_nats(table: Table, request: FitRequest, loss: np.ndarray) -> np.ndarray:
    if request.loss_in == "nats":
        return loss
    if request.loss_in == "bits":
        return loss * math.log(2.0)
    low = np.flatnonzero(loss <= 1.0)
    if len(low):
        raise UserError(
            f"{table.name}, {table.rows(list(low))}: a perplexity of {loss[low[0]]:g}, expected one above 1"
        )
    return np.log(loss)


def _named(request: FitRequest) -> list[str]:
    named = [name for role, given in request.columns.items() if given for name in request.names(role)]
    return list(dict.fromkeys([*named, *(name for name in (request.group, request.pair) if name)]))


def _check_named(table: Table, request: FitRequest) -> None:
    missing = request.missing()
    if missing:
        role, flops = request.role(missing[0]), ""
        if request.can_follow(missing):
            flops = " (or --flops_column, which it then follows from)"
        told = _usual(role, table.columns)
        raise UserError(f"fit --law={request.law.name} needs {role.flag}=NAME{flops}; {table.name} has {told}")
    for of_role, given in request.columns.items():
        for name in request.names(of_role) if given else ():
            if name not in table.columns:
                hint = nearest(name, table.columns)
                raise UserError(f"{table.name}: no column {name!r}{hint}; name it with {request.role(of_role).flag}")


def _usual(role: Role, columns: Iterable[str]) -> str:
    """Returns the columns that are called what a role is usually called; if none is all of them, or the first many."""
    usual = re.compile(rf"(?:^|[^a-z])(?:{role.usual or re.escape(role.name)})(?:$|[^a-z])")
    # "numParams" and "num_params" alike are words.
    alike = [name for name in columns if usual.search(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())]
    shown = alike or list(columns)
    more = f" and {len(shown) - MOST_LISTED} more" if len(shown) > MOST_LISTED else ""
    return ", ".join(map(repr, shown[:MOST_LISTED])) + more


def _rows(table: Table, name: str, test: Callable[[object], bool]) -> list[int]:
    return [index for index, cell in enumerate(table.cells(name)) if test(cell)]


def _is_endless(cell: object) -> bool:
    number = parse_number(cell)
    return number is not None and not math.isfinite(number)


def _warnings(table: Table, request: FitRequest, values: Mapping[str, np.ndarray]) -> list[str]:
    given = [role for role in ("params", "tokens", "flops") if request.columns.get(role)]
    known = {role: (request.names(role)[0], values[role]) for role in given}
    return [*data_checks.duplicates(table, _named(request)), *data_checks.units(table, known)]
