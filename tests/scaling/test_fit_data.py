"""Laws fitted from Python, to tables as they are at hand."""

import numpy as np
import pytest

import triarch
from triarch.errors import UserError
from triarch.scaling.laws.power import Power
from triarch.scaling.tables.table import Table

X = np.geomspace(1e6, 1e9, 8)
COLUMNS = {"x": "N", "loss": "loss"}
OPTIONS = {"bootstraps": 0, "held_out": 0.0}


def data():
    return {"N": X.tolist(), "loss": (9 * X**-0.2).tolist(), "family": ["a", "b"] * 4}


def test_every_kind_of_table_gives_one_law(tmp_path):
    pandas = pytest.importorskip("pandas")
    columns = data()
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    path = tmp_path / "runs.csv"
    path.write_text("N,loss\n" + "\n".join(f"{row['N']!r},{row['loss']!r}" for row in rows))
    for one in (columns, rows, path, str(path), Table("mine", columns), pandas.DataFrame(columns)):
        outcome = triarch.fit(one, "power", COLUMNS, settings={"offset": "zero"}, **OPTIONS).outcome
        assert outcome.result["parameters"] == pytest.approx({"A": 9.0, "alpha": 0.2, "E": 0.0}, rel=1e-9)
    roles, settings = {"loss": "loss", "x": "", "N": "N"}, {"formula": "A / N^alpha"}
    fitted = triarch.fit(columns, "formula", roles, settings=settings, fixed={"A": 9.0}, **OPTIONS)
    fit = fitted.outcome.parts[0].fit
    assert fit.parameters == pytest.approx({"A": 9.0, "alpha": 0.2}, rel=1e-6)
    groups = triarch.fit(columns, Power("zero"), COLUMNS, group="family", **OPTIONS).outcome
    assert [part.group for part in groups.parts] == ["a", "b"]


def test_missing_cells_of_a_frame_are_empty():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"N": X, "loss": 9 * X**-0.2, "name": pandas.Series([None] * 8, dtype="string")})
    frame.loc[2, "loss"] = np.nan
    table = Table.from_frame(frame)
    assert table.cells("loss")[2] is None and table.cells("name") == [None] * 8
    with pytest.raises(UserError, match="row 3: loss is empty"):
        triarch.fit(frame, "power", COLUMNS, **OPTIONS)
    left = triarch.fit(frame, "power", COLUMNS, skip_empty=True, **OPTIONS).outcome
    assert left.result["num_points"] == 7 and left.result["warnings"][0] == "row 3: left out, a cell is empty"
    doubled = pandas.DataFrame([[1, 2]], columns=["N", "N"])
    with pytest.raises(UserError, match="column 'N' stands there twice"):
        Table.from_frame(doubled)
    assert list(Table.from_frame(pandas.DataFrame({("a", "b"): [1]})).columns) == ["a.b"]


def test_mistakes_are_one_line():
    with pytest.raises(UserError, match=r"fit has no option 'bootstrap' \(did you mean 'bootstraps'\?\)"):
        triarch.fit(data(), "power", COLUMNS, bootstrap=10)
    with pytest.raises(UserError, match=r"table: columns differ in length: \{'N': 2, 'loss': 1\}"):
        triarch.fit({"N": [1, 2], "loss": [3]}, "power", COLUMNS)
    with pytest.raises(UserError, match="no law 'powr'"):
        triarch.fit(data(), "powr", COLUMNS)
