"""Laws fitted from Python: a law by name, and a table as it is at hand."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from triarch.errors import UserError, nearest
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.law import Law
from triarch.scaling.laws.registry import make
from triarch.scaling.requests.outcome import Outcome, fit_table
from triarch.scaling.requests.request import FitRequest
from triarch.scaling.tables.table import Table
from triarch.scaling.tables.table_files import read_table


def fit_data(
    data: Any, law: str | Law, columns: Mapping[str, str], settings: Mapping[str, Any] | None = None, **options: Any
) -> Outcome:
    """Fits a law to a table.

    Args:
      data: a `pandas.DataFrame`, a list of rows, columns by name, a `Table`, or the path of a file that
        `triarch fit` reads.
      law: its name, "chinchilla" for one, or a law with its settings.
      columns: what the columns are, as flags say: {"params": "num_params", "tokens": "D", "loss": "val_loss"}.
      settings: of a law given by name: {"formula": "E + A / N^alpha"}.
      options: as `FitRequest` and `FitOptions` have them: group, pair, run, bootstraps, fixed, ...

    Raises:
      UserError: an option that there is not, or what `triarch fit` refuses.
    """
    own = {field.name for field in dataclasses.fields(FitOptions)}
    asked = {field.name for field in dataclasses.fields(FitRequest)} - {"law", "columns", "options"}
    for name in options:
        if name not in own | asked:
            raise UserError(f"fit has no option {name!r}{nearest(name, own | asked)}")
    request = FitRequest(
        law=make(law, settings or {}) if isinstance(law, str) else law,
        columns=columns,
        options=FitOptions(**{name: value for name, value in options.items() if name in own}),
        **{name: value for name, value in options.items() if name in asked},
    )
    return fit_table(_table(data), request)


def _table(data: Any) -> Table:
    if isinstance(data, Table):
        return data
    if isinstance(data, str | os.PathLike):
        return read_table(os.fspath(data))
    if hasattr(data, "iloc"):
        return Table.from_frame(data)
    if isinstance(data, Mapping) or hasattr(data, "columns"):
        names = list(data.columns) if hasattr(data, "columns") else list(data)
        cells = {str(name): list(data[name]) for name in names}
        lengths = {name: len(column) for name, column in cells.items()}
        if len(set(lengths.values())) > 1:
            raise UserError(f"table: columns differ in length: {lengths}")
        return Table("table", cells)
    if isinstance(data, Sequence) and all(isinstance(row, Mapping) for row in data):
        return Table.from_rows(list(data))
    raise UserError(f"table: {type(data).__name__}: expected a DataFrame, columns, rows or the path of a file")
