"""Tables as others publish them: every kind gives the same runs, and a bad one is one line."""

import gzip
import json
import os

import numpy as np
import pytest

from triarch.errors import UserError
from triarch.scaling.tables.table_files import read_table

RUNS = [{"N": 1e6, "loss": 3.5, "config": {"lr": 0.01}}, {"N": 2e7, "loss": 3.25, "config": {"lr": 0.02}}]
FLAT = [{"N": run["N"], "loss": run["loss"], "config.lr": run["config"]["lr"]} for run in RUNS]


def delimited(mark):
    return "\n".join(mark.join(map(str, row)) for row in (FLAT[0], *(run.values() for run in FLAT))) + "\n"


def parquet(tmp_path):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(RUNS), tmp_path / "runs.parquet")
    return tmp_path / "runs.parquet"


TEXTS = {
    "runs.csv": delimited(","),
    "runs.tsv": delimited("\t"),
    "runs.txt": delimited(";"),
    "runs.csv.gz": delimited(","),
    "pandas.csv": "," + delimited(",").replace("\n1", "\n0,1").replace("\n2", "\n1,2"),
    "runs.jsonl": "\n\n".join(map(json.dumps, RUNS)),
    "runs.jsonl.gz": "\n".join(map(json.dumps, RUNS)) + "\n",
    "list.json": json.dumps(RUNS),
    "columns.json": json.dumps({name: [run[name] for run in RUNS] for name in RUNS[0]}),
    "pandas.json": json.dumps({name: {str(i): run[name] for i, run in enumerate(FLAT)} for name in FLAT[0]}),
    "named.json": json.dumps({"small": RUNS[0], "large": RUNS[1]}),
}


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", [*TEXTS, "runs.parquet", "folder"])
def test_every_kind_gives_the_same_runs(tmp_path, name):
    if name == "folder":
        path = tmp_path / name
        path.mkdir()
        for index, run in enumerate(RUNS):
            write(path, f"{index}.json", json.dumps(run))
        write(path, ".1.tmp.2.json", "{")
    else:
        path = parquet(tmp_path) if name.endswith("parquet") else write(tmp_path, name, TEXTS[name])
    table = read_table(path)
    for column in FLAT[0]:
        np.testing.assert_array_equal(table.numbers(column), [run[column] for run in FLAT])
    assert set(table.columns) - set(FLAT[0]) == {"folder": {"file"}, "named.json": {"key"}}.get(name, set())


def test_evaluations_of_a_run_are_columns(tmp_path):
    run = {"losses": [3.0, 2.0], "results": [{"on": "c4", "loss": 3.1}, {"on": "books", "loss": 3.3}], "none": []}
    table = read_table(write(tmp_path, "runs.jsonl", json.dumps(run)))
    assert list(table.columns) == ["losses", "results.0.on", "results.0.loss", "results.1.on", "results.1.loss", "none"]
    assert table.numbers("results.1.loss")[0] == 3.3


def test_a_key_some_runs_lack_is_an_empty_cell(tmp_path):
    table = read_table(write(tmp_path, "runs.jsonl", '{"N": 1}\n\n{"N": 2, "loss": 3}\n'))
    with pytest.raises(UserError, match=r"row 1 \(line 1\): loss is empty, expected a number above zero"):
        table.numbers("loss")
    assert table.row(1) == "row 2 (line 3)"
    assert table.text("loss") == ["", "3"] and len(table.where(("loss", "=", ""))) == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"N": 1}\n[1]\n', "line 2: expected an object, one run, not a list"),
        ("a.jsonl", '{"N": 1}\n{"N": \n', "line 2: not JSON"),
        ("a.jsonl", "\n", "empty, expected an object"),
        ("a.json", "3", "expected a list of objects, one for each run, not int"),
        ("a.json", '{"N": [1, 2], "loss": [1]}', "expected a list of objects, one for each run, not an object"),
        ("a.jsonl", '{"a.b": 1, "a": {"b": 2}}\n', r"column 'a\.b' stands there twice"),
        ("a.json", "[" * 100_000, "nested more than 64 levels deep"),
        ("a.json", "1" * 5_000, "an integer of 5,000 digits"),
        ("a.parquet", "N,loss\n1,2\n", "not a Parquet table"),
    ],
)
def test_what_is_no_such_table_is_one_line(tmp_path, name, text, message):
    with pytest.raises(UserError, match=message) as error:
        read_table(write(tmp_path, name, text))
    assert "\n" not in str(error.value)


def test_names_of_columns_hold_any_mark(tmp_path):
    table = read_table(write(tmp_path, "a.csv", '"loss; nats; mean",N\n3.5,1e6\n'))
    assert table.numbers("loss; nats; mean")[0] == 3.5 and table.numbers("N")[0] == 1e6


def test_a_parquet_table_with_a_name_twice_is_one_line(tmp_path):
    import pyarrow
    from pyarrow import parquet

    twice = pyarrow.Table.from_arrays([pyarrow.array([1.0])] * 2, names=["N", "N"])
    parquet.write_table(twice, tmp_path / "a.parquet")
    with pytest.raises(UserError, match="column 'N' stands there twice"):
        read_table(tmp_path / "a.parquet")


def test_a_field_of_a_struct_that_is_called_like_a_column_is_one_line(tmp_path):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"a.b": [1.0], "a": [{"b": 2.0}]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"column 'a\.b' stands there twice"):
        read_table(tmp_path / "a.parquet")


def test_only_line_feeds_end_lines_of_json(tmp_path):
    table = read_table(write(tmp_path, "a.jsonl", '{"name": "a\u2028b", "N": 1}\r\n{"name": "c", "N": 2}\r\n'))
    assert table.text("name") == ["a\u2028b", "c"] and list(table.numbers("N")) == [1, 2]


def test_a_run_that_diverged_has_a_loss_that_is_no_number(tmp_path):
    table = read_table(write(tmp_path, "a.json", '[{"N": 1, "loss": NaN}, {"N": 1e999, "loss": 2}]'))
    with pytest.raises(UserError, match="row 1: loss is nan, expected a number above zero"):
        table.numbers("loss")
    with pytest.raises(UserError, match="row 2: N is inf, expected a number above zero"):
        table.numbers("N")


def test_what_is_unpacked_is_no_larger_than_a_table_may_be(tmp_path, monkeypatch):
    monkeypatch.setattr("triarch.scaling.tables.table.MOST_BYTES", 100)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"N,loss\n" + b"1,2\n" * 23))
    assert len(read_table(tmp_path / "a.csv.gz")) == 23
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"N,loss\n" + b"1,2\n" * 24))
    with pytest.raises(UserError, match=r"a\.csv\.gz: holds more than 100 bytes unpacked"):
        read_table(tmp_path / "a.csv.gz")


def test_a_table_may_come_through_a_pipe(tmp_path):
    """A shell's <(...) is an open file; a FIFO that nobody writes would make reading wait for ever."""
    reading, writing = os.pipe()
    os.write(writing, b"N,loss\n1,2\n")
    os.close(writing)
    try:
        assert read_table(f"/dev/fd/{reading}").numbers("loss").tolist() == [2.0]
    finally:
        os.close(reading)
    os.mkfifo(tmp_path / "fifo.csv")
    with pytest.raises(UserError, match="is a FIFO, expected a regular file"):
        read_table(tmp_path / "fifo.csv")


def test_what_cannot_be_opened_is_one_line(tmp_path):
    (tmp_path / "half.csv.gz").write_bytes(gzip.compress(b"N,loss\n1,2\n" * 1000)[:-20])
    with pytest.raises(UserError, match="not a whole gzip file"):
        read_table(tmp_path / "half.csv.gz")
    with pytest.raises(UserError, match=r"no such file.*'half\.csv\.gz'"):
        read_table(tmp_path / "half.csv")
    with pytest.raises(UserError, match=r"without \.json files; expected CSV"):
        read_table(tmp_path)


def test_a_small_parquet_file_of_endless_cells(tmp_path, monkeypatch):
    path = parquet(tmp_path)
    assert len(read_table(path)) == 2
    monkeypatch.setattr("triarch.scaling.tables.table_files._MOST_CELLS", 5)
    with pytest.raises(UserError, match=r"runs\.parquet: has 6 cells, expected at most 5 of a table"):
        read_table(path)
