"""Which runs of several groups are pairs, and the resamples that draw both of a pair together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

from triarch.errors import UserError
from triarch.scaling.fitting.bootstrap import paired_weights
from triarch.scaling.fitting.request import Request
from triarch.scaling.laws.hyperparameters import cells_of
from triarch.scaling.tables.columns import Columns, read_columns
from triarch.scaling.tables.table import Table

# Of each law that counts rows; log_linear has as many as its inputs and one more.
PARAMETERS = {"chinchilla": 5, "power": 2, "data_constrained": 7, "downstream": 3, "hyperparameters": 3}


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Groups of runs, each with its partners.

    Attributes:
      tables: the rows of each group that have a partner in every other; all where no pairs were asked for.
      weights: float64[bootstraps, rows] by group (cells, not rows, for the learning-rate law), drawn together; None
        where laws draw their own, or where there are too few pairs.
      count: pairs that are resampled together; 0 where groups are resampled apart.
      warnings: sentences on what was left out.
    """

    tables: Mapping[str, Table]
    weights: Mapping[str, np.ndarray] | None
    count: int
    warnings: tuple[str, ...]


def pair(tables: Mapping[str, Table], request: Request) -> Pairs:
    """Pairs the runs of groups by the request's pair column.

    A pair of the learning-rate law is a cell, one N and D, of each group: those that share a value of the column.

    Raises:
      UserError: fewer than two values are shared, or a value ties two cells of one group.
    """
    if request.pair is None:
        return Pairs(tables, None, 0, ())
    keys = {name: own.text(request.pair) for name, own in tables.items()}
    if request.law == "hyperparameters":
        keys = _cell_keys(tables, keys, request)
    common = set.intersection(*(set(own) for own in keys.values()))
    if len(common) < 2:
        raise UserError(
            f"{request.pair}: {len(common)} values are shared by all of {', '.join(tables)}: nothing to pair"
        )
    kept, warnings = {}, []
    for name, own in tables.items():
        rows = [index for index, key in enumerate(keys[name]) if key in common]
        if len(rows) < len(own):
            gone = sorted(set(range(len(own))) - set(rows))
            warnings.append(f"{name}, {own.rows(gone)}: no partner by {request.pair} in every group; left out")
        kept[name] = own.select(rows)
        keys[name] = [keys[name][index] for index in rows]
    if not request.bootstraps:
        return Pairs(kept, None, 0, tuple(warnings))
    if request.law in ("isoflop", "envelope"):
        return Pairs(kept, None, len(common), tuple(warnings))
    columns = [read_columns(own, request) for own in kept.values()]
    values = [_inputs(one, request) for one in columns]
    drawn_by = list(keys.values())
    if request.law == "hyperparameters":
        # Its resamples draw cells: each stands for all its runs.
        first = [np.unique(one, axis=0, return_index=True) for one in values]
        drawn_by = [[own[row] for row in rows] for own, (_, rows) in zip(drawn_by, first, strict=True)]
        values = [cells for cells, _ in first]
    parameters = PARAMETERS.get(request.law, values[0].shape[1] + 1)
    drawn = paired_weights(drawn_by, values, request.bootstraps, parameters - len(request.fixed), request.seed)
    if drawn is None:
        warnings.append(f"too few pairs by {request.pair} for {parameters} parameters: groups are resampled apart")
        return Pairs(kept, None, 0, tuple(warnings))
    return Pairs(kept, dict(zip(kept, drawn, strict=True)), len(common), tuple(warnings))


def _inputs(columns: Columns, request: Request) -> np.ndarray:
    if request.law in ("power", "log_linear"):
        return np.column_stack(list(columns.several["x"].values()))
    if request.law == "downstream":
        return columns.values["loss"][:, None]
    roles = ("params", "tokens", "unique_tokens")
    return np.column_stack([columns.values[role] for role in roles if role in columns.values])


def _cell_keys(
    tables: Mapping[str, Table], keys: Mapping[str, Sequence[str]], request: Request
) -> dict[str, list[str]]:
    """Returns one key for all runs of a cell: one of those that it shares runs by, in any group.

    A pair column may name single runs, "1b-lr3-bs64": cells of which any run is paired are paired.
    """
    joined: DisjointSet[str] = DisjointSet()
    labels = {name: cells_of(read_columns(own, request).values) for name, own in tables.items()}
    for name, own in keys.items():
        first: dict[int, str] = {}
        for label, key in zip(labels[name], own, strict=True):
            joined.add(key)
            joined.merge(key, first.setdefault(label, key))
    cells = {name: [joined[key] for key in own] for name, own in keys.items()}
    for name, own in cells.items():
        if len(set(own)) < len(set(labels[name])):
            raise UserError(
                f"{request.pair}: its values tie several sizes and numbers of tokens of {name} together, expected each"
                " to stand for one"
            )
    return cells
