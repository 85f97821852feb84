"""Which rows are points of one run: these err together, so that an interval must resample runs, not rows."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from triarch.errors import UserError
from triarch.scaling.fitting.bootstrap import paired_weights
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.requests.reading import read_columns
from triarch.scaling.requests.request import FitRequest
from triarch.scaling.tables.roles import PARAMS
from triarch.scaling.tables.table import Table, parse_number

# What a request calls rows of which each is a run of its own.
NO_RUNS = "none"
RUN_NAME = re.compile(r"(?:wandb|training)?[ _.-]?(?:runs?|trial|experiment)(?:[ _.-]?(?:name|id))?", re.IGNORECASE)
STEP_NAME = re.compile(r"(?:global|training|train)?[ _.-]?(?:steps?|iter|iters|iterations?|updates?)", re.IGNORECASE)
SIZE_NAME = re.compile(rf"(?:{PARAMS.usual})", re.IGNORECASE)
# Rows of one size whose steps rise are taken for a curve from so many on, if they are about as far apart.
SHORTEST_CURVE = 5
UNEVEN = 3.0


@dataclasses.dataclass(frozen=True)
class Runs:
    """The run of each row.

    Attributes:
      keys: a name for each row.
      column: what told it.
      found: whether nobody asked for it.
    """

    keys: tuple[str, ...]
    column: str
    found: bool

    @property
    def count(self) -> int:
        return len(set(self.keys))

    def warnings(self) -> list[str]:
        """Returns what to say of runs that nobody asked for."""
        if not self.found:
            return []
        return [
            f"rows of one curve ({self.column}) err together: intervals resample the {self.count} runs whole;"
            f" --run_column names the run of each row, --run_column={NO_RUNS} takes each row for a run of its own"
        ]


def runs_of(table: Table, request: FitRequest) -> Runs | None:
    """Returns the runs that the rows belong to; None where each row is one, or the law does not resample rows.

    Raises:
      UserError: the column asked for names one run.
    """
    if (
        request.run == NO_RUNS
        or request.last_of is not None
        or (request.run is None and not request.law.resamples_rows)
    ):
        return None
    if not request.law.resamples_rows:
        raise UserError(f"fit --law={request.law.name} resamples no rows: it has no use for --run_column")
    if request.run is not None:
        keys = tuple(table.text(request.run))
        if len(set(keys)) < 2:
            raise UserError(
                f"{table.name}: {request.run} names one run, {keys[0]!r}: intervals resample runs and need two or more"
            )
        return Runs(keys, request.run, False)
    steps = next((name for name in table.columns if STEP_NAME.fullmatch(name)), None)
    size = request.columns.get("params") or next((name for name in table.columns if SIZE_NAME.fullmatch(name)), None)
    for name in table.columns:
        keys = tuple(table.text(name)) if RUN_NAME.fullmatch(name) else ()
        if keys and _are_curves(keys, table, size):
            return Runs(keys, f"of one {name}", True)
    found = _rising(table, size, steps) if steps and size else None
    return Runs(found, f"rising {steps} at one {size}", True) if found else None


def by_run(table: Table, request: FitRequest, options: FitOptions, runs: Runs | None) -> tuple[FitOptions, list[str]]:
    """Returns options whose resamples draw whole runs of a table, and warnings; as they are where rows are runs."""
    if runs is None or not options.bootstraps:
        return options, []
    units = request.law.units(read_columns(table, request))
    assert units is not None  # Laws that resample otherwise have no runs of rows.
    drawn = paired_weights([runs.keys], [units.values], options.bootstraps, 1, options.seed)
    if drawn is None:
        return dataclasses.replace(options, bootstraps=0), [f"{runs.count} runs: no intervals can be drawn"]
    return dataclasses.replace(options, weights=drawn[0], freedom=runs.count - 1), runs.warnings()


def _are_curves(keys: Sequence[str], table: Table, size: str | None) -> bool:
    """Returns whether most names stand for several rows, all of one size."""
    count = len(set(keys))
    if not 2 <= count <= len(keys) / 2:
        return False
    return size is None or len(set(zip(keys, table.text(size), strict=True))) == count


def _rising(table: Table, size: str, steps: str) -> tuple[str, ...] | None:
    """Returns a name for each row's curve: rows one after another of one size whose steps rise; None if none do."""
    numbers = [parse_number(cell) for cell in table.cells(steps)]
    if any(number is None for number in numbers):
        return None
    at, sizes = np.array(numbers), table.text(size)
    begins = [index == 0 or sizes[index] != sizes[index - 1] or at[index] <= at[index - 1] for index in range(len(at))]
    curve = np.cumsum(begins)
    count = int(curve[-1])
    if count < 2 or len(at) < SHORTEST_CURVE * count:
        return None
    gaps = [np.diff(at[curve == number]) for number in range(1, count + 1)]
    if any(len(gap) and gap.max() > UNEVEN * np.median(gap) for gap in gaps):
        return None
    return tuple(str(number) for number in curve)
