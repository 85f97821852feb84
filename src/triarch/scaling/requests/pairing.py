"""Which runs of several groups are pairs, and the resamples that draw both of a pair together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from scipy.cluster.hierarchy import DisjointSet

from triarch.errors import UserError
from triarch.scaling.fitting.bootstrap import is_few, paired_weights
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.requests.reading import read_columns
from triarch.scaling.requests.request import FitRequest
from triarch.scaling.requests.runs import Runs, by_run, runs_of
from triarch.scaling.tables.table import Table


@dataclasses.dataclass(frozen=True)
class PairedRuns:
    """Groups of runs, each with its partners.

    Attributes:
      tables: the rows of each group that have a partner in every other; all where no pairs were asked for.
      options: of each group's fit: with resamples of its own, or with those that draw pairs together.
      count: pairs that are resampled together; 0 where groups are resampled apart.
      warnings: sentences on what was left out.
    """

    tables: Mapping[str, Table]
    options: Mapping[str, FitOptions]
    count: int
    warnings: tuple[str, ...]


def pair(tables: Mapping[str, Table], request: FitRequest) -> PairedRuns:
    """Pairs the runs of groups by the request's pair column.

    A pair of the learning-rate law is a cell, one N and D, of each group: those that share a value of the column.

    Raises:
      UserError: fewer than two values are shared, or a value ties two cells of one group.
    """
    options, law = request.options, request.law
    apart = {name: options.for_group(index) for index, name in enumerate(tables)}
    runs = {name: runs_of(own, request) for name, own in tables.items()}
    if request.pair is None:
        found = {name: by_run(own, request, apart[name], runs[name]) for name, own in tables.items()}
        notes = [f"{name}: {note}" for name, (_, warnings) in found.items() for note in warnings]
        return PairedRuns(tables, {name: own for name, (own, _) in found.items()}, 0, tuple(notes))
    keys = law.pair_keys(request.pair, tables, lambda own: read_columns(own, request))
    keys = _with_runs(keys, runs)
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
    columns = {name: read_columns(own, request) for name, own in kept.items()}
    of_all = {name: law.units(own) for name, own in columns.items()}
    units = {name: own for name, own in of_all.items() if own is not None}
    if len(units) < len(of_all):
        together = {name: dataclasses.replace(options, keys=keys[name]) for name in kept}
        return PairedRuns(kept, together, len(common) if options.bootstraps else 0, tuple(warnings))
    if not options.bootstraps:
        return PairedRuns(kept, apart, 0, tuple(warnings))
    drawn_by = [[keys[name][row] for row in own.rows] for name, own in units.items()]
    parameters = law.num_parameters(next(iter(columns.values())))
    values = [own.values for own in units.values()]
    if all(len(set(own)) == len(own) and is_few(rows, parameters) for own, rows in zip(drawn_by, values, strict=True)):
        together = {name: dataclasses.replace(options, keys=own) for name, own in zip(kept, drawn_by, strict=True)}
        return PairedRuns(kept, together, len(common), tuple(warnings))
    drawn = paired_weights(drawn_by, values, options.bootstraps, parameters - len(options.fixed), options.seed)
    if drawn is None:
        warnings.append(f"too few pairs by {request.pair} for {parameters} parameters: groups are resampled apart")
        return PairedRuns(kept, apart, 0, tuple(warnings))
    freedom = None if all(own is None for own in runs.values()) else len(common) - 1
    together = {
        name: dataclasses.replace(options, weights=own, freedom=freedom) for name, own in zip(kept, drawn, strict=True)
    }
    return PairedRuns(kept, together, len(common), tuple(warnings))


def _with_runs(keys: Mapping[str, list[str]], runs: Mapping[str, Runs | None]) -> dict[str, list[str]]:
    """Returns one key for all rows of a run, of those that pair its rows."""
    joined: DisjointSet[str] = DisjointSet()
    for name, own in keys.items():
        first: dict[str, str] = {}
        for place, key in enumerate(own):
            joined.add(key)
            if (found := runs[name]) is not None:
                joined.merge(key, first.setdefault(found.keys[place], key))
    return {name: [joined[key] for key in own] for name, own in keys.items()}
