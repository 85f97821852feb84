"""Tables: what is read, and what is said about a bad one."""

import math

import numpy as np
import pytest

from triarch.errors import UserError
from triarch.scaling.table import Table


def write(tmp_path, text, name="runs.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_reads_quotes_blank_lines_byte_order_marks_and_spaces(tmp_path):
    table = Table.read_csv(write(tmp_path, b'\xef\xbb\xbf"N", loss ,name\r\n1e6,3.5,"a, b"\r\n\r\n 2E7 ,3,c\r\n'))
    np.testing.assert_array_equal(table.numbers("N"), [1e6, 2e7])
    np.testing.assert_array_equal(table.numbers("loss"), [3.5, 3.0])
    assert table.text("name") == ["a, b", "c"]
    assert len(table) == 2


def test_a_missing_column_names_the_nearest(tmp_path):
    table = Table.read_csv(write(tmp_path, "params,tokens,loss\n1,2,3\n"))
    with pytest.raises(UserError, match=r"runs\.csv: no column 'param'.*'params'"):
        table.numbers("param")


@pytest.mark.parametrize(
    ("cell", "shown"),
    [("abc", "'abc'"), ("-2", "'-2'"), ("nan", "'nan'"), ("inf", "'inf'"), ("", "empty"), ("0", "'0'")],
)
def test_a_bad_cell_names_its_row_and_line(tmp_path, cell, shown):
    table = Table.read_csv(write(tmp_path, f"N,loss\n1,2\n\n1,{cell}\n"))
    with pytest.raises(UserError, match=rf"row 2 \(line 4\): loss is {shown}, expected a number above zero"):
        table.numbers("loss")


def test_zero_and_below_are_numbers_where_allowed(tmp_path):
    table = Table.read_csv(write(tmp_path, "x,y\n-1,\n0,2\n"))
    np.testing.assert_array_equal(table.numbers("x", positive=False), [-1, 0])
    optional = table.numbers("y", optional=True)
    assert math.isnan(optional[0]) and optional[1] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty, expected a header"),
        ("a,b,a\n1,2,3\n", "column 'a' stands twice"),
        ("a,b\n1,2,3\n", "line 2: 3 fields, the header has 2"),
        (b"a,b\n\xff\xfe,2\n", "not UTF-8"),
        ('a,b\n"1,2\n', "not a comma-separated table"),
    ],
)
def test_a_misshapen_file_is_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        Table.read_csv(write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_a_missing_file_names_the_nearest(tmp_path):
    write(tmp_path, "a\n1\n", "results.csv")
    with pytest.raises(UserError, match=r"no such file.*'results\.csv'"):
        Table.read_csv(tmp_path / "result.csv")
    with pytest.raises(UserError, match="cannot be read"):
        Table.read_csv(tmp_path)


def test_rows_in_memory(tmp_path):
    table = Table.from_rows([{"N": 1, "loss": 2.5}, {"N": 2, "loss": 2.0}], "memory")
    np.testing.assert_array_equal(table.numbers("loss"), [2.5, 2.0])
    with pytest.raises(UserError, match=r"memory, row 2: no column 'loss'"):
        Table.from_rows([{"N": 1, "loss": 2.5}, {"N": 2, "lost": 2.0}], "memory")
    with pytest.raises(UserError, match="2 rows, at least 3 are needed"):
        table.numbers("N", minimum_rows=3)
