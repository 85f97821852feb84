"""Tables at random access are what a plain search in all rows says."""

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triarch.data import tables
from triarch.data.tables import ParquetTable, TableFormat
from triarch.errors import UserError


def _write(folder, rows, file_rows, names=None):
    """Files of `file_rows` rows each, in groups of 5."""
    paths = []
    for number, start in enumerate(range(0, len(rows), file_rows)):
        paths.append(folder / f"{number}.parquet")
        part = rows[start : start + file_rows]
        blocks = (part[at : at + 5].tobytes() for at in range(0, len(part), 5))
        TableFormat(["name", "key", "value"], names).write(paths[-1], blocks, 24)
    return paths


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    file_rows=st.integers(5, 40),
    asked=st.lists(st.integers(-2, 200)),
    kept=st.integers(1, 3),
)
def test_any_row_and_any_key(tmp_path_factory, steps, file_rows, asked, kept):
    keys = np.cumsum(steps)
    values = np.arange(len(keys)) % 7 - 1
    names = {f"name {number}": number for number in range(4)}
    rows = np.stack([keys % 4, keys, values], axis=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_KEPT_GROUPS", kept)
        table = ParquetTable(_write(tmp_path_factory.mktemp("table"), rows, file_rows, names), "key", "name")
        assert len(table) == len(rows)
        np.testing.assert_array_equal(table.first_at(np.array(asked, np.int64)), np.searchsorted(keys, asked))
        numbers = np.array([number % len(rows) for number in asked], np.int64)
        found = table.rows(numbers)
        np.testing.assert_array_equal(found["key"], keys[numbers])
        np.testing.assert_array_equal(found["value"], values[numbers])
        assert [table.names[name] for name in found["name"]] == [f"name {key % 4}" for key in keys[numbers]]


def test_a_table_is_plain_parquet(tmp_path):
    """Names as text, what is missing as null: for any other tool."""
    (path,) = _write(tmp_path, np.array([[1, 0, 5], [0, 2, -1]]), 9, {"a": 0, "b": 1})
    assert pyarrow.parquet.read_table(path).to_pylist() == [
        {"name": "b", "key": 0, "value": 5},
        {"name": "a", "key": 2, "value": None},
    ]


def test_nothing_is_asked_of_an_empty_table():
    table = ParquetTable([], "key")
    assert len(table) == 0 and table.rows(np.zeros(0, np.int64)) == {}


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"none\.parquet: cannot be read"):
        ParquetTable([tmp_path / "none.parquet"], "key")


def test_names_read_first_are_numbered_first(tmp_path):
    paths = _write(tmp_path, np.array([[0, 0, 0]] * 5 + [[1, 1, 1]] * 5), 5, {"a": 0, "b": 1})
    table = ParquetTable(paths, "key", "name")
    assert table.rows(np.array([7]))["name"].tolist() == [0] and table.names == ["b"]
    assert table.rows(np.array([7, 0]))["name"].tolist() == [0, 1] and table.names == ["b", "a"]
