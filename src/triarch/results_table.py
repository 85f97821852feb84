"""Tables of a study as columns of arrays, with or without pandas."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from triarch.errors import UserError, nearest


class Results(dict[str, np.ndarray]):
    """Columns by name, each an array of as many values as there are rows: int64, float64 (NaN for none) or text."""

    @property
    def num_rows(self) -> int:
        return len(next(iter(self.values()), ()))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields each row as plain values by column."""
        for values in zip(*(column.tolist() for column in self.values()), strict=True):
            yield dict(zip(self, values, strict=True))

    def where(self, **conditions: Any) -> Results:
        """Returns the rows whose columns have these values.

        Raises:
          UserError: there is no such column.
        """
        for name in conditions:
            if name not in self:
                raise UserError(f"no column {name!r}{nearest(name, self)}")
        chosen = np.ones(self.num_rows, bool)
        for name, value in conditions.items():
            chosen &= self[name] == value
        return Results({name: column[chosen] for name, column in self.items()})

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame`.

        Raises:
          UserError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UserError("pandas is not installed (pip install pandas); the columns are numpy arrays") from None
        return pandas.DataFrame(dict(self))


def read_results(study: str | os.PathLike[str], table: str = "results") -> Results:
    """Returns a table of a study's folder.

    Args:
      study: the folder that `triarch sweep --output` made.
      table: name of a CSV file there, below it (as "analysis/tasks"), without ".csv": "results" has a row for each run,
        "evaluations" one for each run and domain.

    Raises:
      UserError: there is no such table, or a row has too many or too few cells.
    """
    folder = Path(study)
    path = folder / f"{table}.csv"
    if not path.is_file():
        if not folder.is_dir():
            siblings = [sibling.name for sibling in folder.parent.glob("*/")]
            raise UserError(f"{folder}: no such study{nearest(folder.name, siblings)}")
        known = [found.relative_to(folder).with_suffix("").as_posix() for found in sorted(folder.glob("**/*.csv"))]
        raise UserError(f"{folder}: no table {table!r}{nearest(table, known)}")
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise UserError(f"{path} line {number}: {len(row)} cells, expected {len(header)}")
    return Results({name: _column([row[place] for row in rows]) for place, name in enumerate(header)})


def _column(cells: list[str]) -> np.ndarray:
    for kind, convert in ((np.int64, int), (np.float64, lambda cell: float(cell) if cell else np.nan)):
        try:
            return np.array([convert(cell) for cell in cells], kind)
        except (ValueError, OverflowError):
            continue
    return np.array(cells, np.str_)
