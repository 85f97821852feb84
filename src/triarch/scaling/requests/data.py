"""Laws fitted from Python: a law by name, and a table as it is at hand."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from triarch.errors import UserError, nearest
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.law import Law
from triarch.scaling.laws.registry import make
from triarch.scaling.requests.outcome import Outcome, fit_table
from triarch.scaling.requests.request import Request
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
      options: as `Request` and `FitOptions` have them: group, pair, run, bootstraps, fixed, ...

    Raises:
      UserError: an option that there is not, or what `triarch fit` refuses.
    """
    own = {field.name for field in dataclasses.fields(FitOptions)}
    asked = {field.name for field in dataclasses.fields(Request)} - {"law", "columns", "options"}
    for name in options:
        if name not in own | asked:
            raise UserError(f"fit_law has no option {name!r}{nearest(name, own | asked)}")
    request = Request(
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
    if isinstance(data, Mapping):
        lengths = {name: len(cells) for name, cells in data.items()}
        if len(set(lengths.values())) > 1:
            raise UserError(f"columns of different lengths: {lengths}")
        return Table("table", {name: list(cells) for name, cells in data.items()})
    if hasattr(data, "iloc"):
        return Table.from_frame(data)
    return Table.from_rows(list(data))
