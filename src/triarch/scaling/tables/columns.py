"""The numbers of a table that a request needs: chosen, read, worked out where they follow from others, and checked."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from triarch.errors import MOST_LISTED, UserError, nearest
from triarch.scaling.checks import data_checks
from triarch.scaling.fitting.request import FROM_FLOPS, LAWS, SEVERAL, Request
from triarch.scaling.tables.table import Table, is_empty, parse_number

# How published tables call what the roles stand for; used to ask, never to guess.
USUAL_NAMES = {
    "params": r"n|[mb]?params?|parameters?|model.?size|size",
    "tokens": r"d|tokens?|data.?size|samples.?seen",
    "loss": r"l|loss|losses|nll|nats|ppl|perplexity|cross.?entropy",
    "flops": r"c|g?flops?|compute|budget",
    "unique_tokens": r"u|unique",
    "x": r"c|n|d|g?flops?|compute|params?|parameters?|tokens?",
    "y": r"acc|accuracy|score",
    "run": r"run|name|id|experiment|model",
    "learning_rate": r"lr|learning.?rate",
    "batch": r"bs|bsz|gbs|gbsz|batch",
}
# Which of three follows from the others by C = 6 N D.
TRAINING_FLOPS = 6.0
PERPLEXITY = re.compile(r"ppl|perplex", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Columns:
    """The numbers of a request's rows.

    Attributes:
      table: the rows.
      values: float64[rows] by role, in units of one; roles with several columns hold the first.
      several: for roles that may name several columns, all of them by name.
      warnings: what looks wrong in them.
    """

    table: Table
    values: Mapping[str, np.ndarray]
    several: Mapping[str, Mapping[str, np.ndarray]]
    warnings: tuple[str, ...]

    def numbers(self) -> list[int]:
        """Returns each row's number in its file."""
        return [self.table.number(index) for index in range(len(self.table))]


def chosen_rows(table: Table, request: Request) -> tuple[Table, list[str]]:
    """Returns the rows a request is about, and warnings on those left out for an empty cell.

    Raises:
      UserError: a column that the law needs is not named or not there, or no row is left.
    """
    _check_named(table, request)
    for column, relation, value in request.where:
        table = table.where(column, relation, value)
    if not request.skip_empty:
        return table, []
    empty = sorted({index for name in _named(request) for index in _empty(table, name)})
    if not empty:
        return table, []
    if len(empty) == len(table):
        raise UserError(f"{table.name}: every row has an empty cell in {', '.join(_named(request))}")
    kept = table.select(sorted(set(range(len(table))) - set(empty)))
    return kept, [f"{table.rows(empty)}: left out, a cell is empty or not finite"]


def read_columns(table: Table, request: Request) -> Columns:
    """Reads and checks the columns that a request names; of N, D and C = 6 N D, one not named follows from the others.

    Raises:
      UserError: a column is missing (the nearest is named), or a cell is not what its column needs (its row is named).
    """
    values: dict[str, np.ndarray] = {}
    several: dict[str, dict[str, np.ndarray]] = {}
    for role, given in request.columns.items():
        if not given or role == "run":
            continue
        unit = request.units.get(role, 1.0)
        shares = request.law == "downstream" and role == "y"
        read = {name: unit * table.numbers(name, positive=not shares, minimum_rows=2) for name in request.names(role)}
        values[role] = next(iter(read.values()))
        if role in SEVERAL:
            several[role] = read
    warnings = []
    if "loss" in values:
        values["loss"] = _in_nats(table, request, values["loss"])
        if request.loss_in != "perplexity" and PERPLEXITY.search(request.columns["loss"]):
            name = request.columns["loss"]
            warnings.append(f"{name} sounds like perplexities, and laws are of losses: give --loss_in=perplexity")
    for role, other in (("params", "tokens"), ("tokens", "params")):
        if role in LAWS[request.law][0] and role not in values:
            values[role] = values["flops"] / (TRAINING_FLOPS * values[other])
            warnings.append(f"no --{role}_column: {role} are FLOPs / (6 {other})")
    return Columns(table, values, several, (*warnings, *_warnings(table, request, values)))


def _in_nats(table: Table, request: Request, loss: np.ndarray) -> np.ndarray:
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


def _named(request: Request) -> list[str]:
    named = [name for role, given in request.columns.items() if given for name in request.names(role)]
    return list(dict.fromkeys([*named, *(name for name in (request.group, request.pair) if name)]))


def _check_named(table: Table, request: Request) -> None:
    missing = request.missing()
    if missing:
        role, flops = missing[0], ""
        if request.law in FROM_FLOPS and missing in (["params"], ["tokens"]):
            flops = " (or --flops_column, which it then follows from)"
        told = _usual(role, table.columns)
        raise UserError(f"fit --law={request.law} needs --{role}_column=NAME{flops}; {table.name} has {told}")
    for role, given in request.columns.items():
        for name in request.names(role) if given else ():
            if name not in table.columns:
                hint = nearest(name, table.columns)
                raise UserError(f"{table.name}: no column {name!r}{hint}; name it with --{role}_column")


def _usual(role: str, columns: Sequence[str]) -> str:
    """Returns the columns that are called what a role is usually called; if none is all of them, or the first many."""
    usual = re.compile(rf"(?:^|[^a-z])(?:{USUAL_NAMES[role]})(?:$|[^a-z])")
    # "numParams" and "num_params" alike are words.
    alike = [name for name in columns if usual.search(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())]
    shown = alike or list(columns)
    more = f" and {len(shown) - MOST_LISTED} more" if len(shown) > MOST_LISTED else ""
    return ", ".join(map(repr, shown[:MOST_LISTED])) + more


def _empty(table: Table, name: str) -> list[int]:
    found = []
    for index, cell in enumerate(table.cells(name)):
        number = parse_number(cell)
        if is_empty(cell) or (number is not None and not math.isfinite(number)):
            found.append(index)
    return found


def _warnings(table: Table, request: Request, values: Mapping[str, np.ndarray]) -> list[str]:
    given = [role for role in ("params", "tokens", "flops") if request.columns.get(role)]
    known = {role: (request.names(role)[0], values[role]) for role in given}
    return [*data_checks.duplicates(table, _named(request)), *data_checks.units(table, known)]
