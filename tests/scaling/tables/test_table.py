"""Tables: what is read, and what is said about a bad one."""

import math

import numpy as np
import pytest

from triarch.errors import UserError
from triarch.scaling.tables.table import Table


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


@pytest.mark.parametrize(
    ("cell", "number"), [("70M", 70e6), ("1.4B", 1.4e9), ("6.9b", 6.9e9), ('"350,000,000"', 350e6), ("20 k", 2e4)]
)
def test_sizes_as_people_write_them(tmp_path, cell, number):
    assert Table.read_csv(write(tmp_path, f"N,loss\n{cell},2\n")).numbers("N")[0] == pytest.approx(number, rel=1e-15)


@pytest.mark.parametrize("text", ["N;loss\n1;3,214\n", "N\tloss\n1\t3,214\n", "N,loss\n1,1.4X\n", "N,loss\n1,True\n"])
def test_what_may_be_another_number_is_not_guessed(tmp_path, text):
    with pytest.raises(UserError, match=r"row 1 \(line 2\): loss is .*, expected a number above zero"):
        Table.read_csv(write(tmp_path, text)).numbers("loss")


def test_rows_by_relation_keep_their_numbers(tmp_path):
    table = Table.read_csv(write(tmp_path, "name,N\na,1e6\nb,2M\nc,\nb,3e6\n"))
    for relation, value, numbers in [
        ("=", "2000000", [2]), ("!=", "2e6", [1, 3, 4]), ("<", "2M", [1]), ("<=", "2e6", [1, 2]), (">", "1e6", [2, 4]),
        (">=", "3e6", [4]),
    ]:  # fmt: skip
        chosen = table.where(("N", relation, value))
        assert [chosen.number(index) for index in range(len(chosen))] == numbers
    assert len(table.where(("name", "!=", "b"))) == 2
    with pytest.raises(UserError, match="no row has N > '1e9'"):
        table.where(("N", ">", "1e9"))
    with pytest.raises(UserError, match="expected a number to compare with"):
        table.where(("N", "<", "big"))


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
    with pytest.raises(UserError, match="is a folder, expected a regular file"):
        Table.read_csv(tmp_path)


def test_rows_in_memory(tmp_path):
    table = Table.from_rows([{"N": 1, "loss": 2.5}, {"N": 2, "loss": 2.0}], "memory")
    np.testing.assert_array_equal(table.numbers("loss"), [2.5, 2.0])
    with pytest.raises(UserError, match=r"memory, row 2: no column 'loss'"):
        Table.from_rows([{"N": 1, "loss": 2.5}, {"N": 2, "lost": 2.0}], "memory")
    with pytest.raises(UserError, match="2 rows, at least 3 are needed"):
        table.numbers("N", minimum_rows=3)
