"""Tables as other people publish them: delimited text, JSON, JSON lines and Parquet, packed by gzip or not."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from triarch import schema
from triarch.errors import UserError, brief
from triarch.scaling.tables.table import Table, content, opening

_MOST_CELLS = 10**8
KINDS = "CSV, TSV, JSON lines, JSON or Parquet, or a folder of JSON objects"


def read_table(path: str | Path) -> Table:
    """Reads a table by what its name ends in, ".gz" aside.

    ".parquet", ".jsonl" and ".ndjson" (an object a line), ".json" (a list of objects; an object of columns, as pandas
    writes it; or an object of objects, whose names become the column "key"), or a folder of .json files, each an object
    and a row (the column "file" says which); anything else is delimited text. Objects within objects become columns
    such as "config.lr", lists of them such as "results.0.loss"; a row without a key has an empty cell.

    Raises:
      UserError: the file is missing or unreadable, or not what its name says.
    """
    path = Path(path)
    kind = path.name.removesuffix(".gz").rpartition(".")[2].lower()
    if path.is_dir():
        return _folder(path)
    if kind == "parquet":
        return _parquet(path)
    if kind in ("jsonl", "ndjson"):
        return _json_lines(path)
    if kind == "json":
        return _from_objects(str(path), _rows(path, _parsed(str(path), _text(path))))
    return Table.read_csv(path)


def _text(path: Path) -> str:
    with opening(path, KINDS):
        return content(path).decode("utf-8-sig")


def _parsed(name: str, text: str) -> object:
    return schema.parse(text, name, finite=False)  # A run that diverged has a loss of NaN.


def _folder(path: Path) -> Table:
    # Not those that are being written, nor what file systems put beside files.
    files = sorted(file for file in path.glob("*.json") if not file.name.startswith("."))
    if not files:
        raise UserError(f"{path}: a folder without .json files; expected {KINDS}")
    rows = []
    for file in files:
        found = _parsed(str(file), _text(file))
        if not isinstance(found, dict):
            raise UserError(f"{file}: expected an object, one run, not {_called(found)}")
        rows.append({"file": file.stem, **found})
    return _from_objects(str(path), rows)


def _json_lines(path: Path) -> Table:
    rows, numbers = [], []
    # Not `splitlines`: JSON has other characters that end lines for Python as they are.
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            found = _parsed(f"{path}, line {number}", line)
            if not isinstance(found, dict):
                raise UserError(f"{path}, line {number}: expected an object, one run, not {_called(found)}")
            rows.append(found)
            numbers.append(number)
    return _from_objects(str(path), rows, numbers)


def _rows(path: Path, found: object) -> list[Mapping[str, object]]:
    """Returns a JSON file's runs, an object each."""
    if isinstance(found, list) and all(isinstance(one, dict) for one in found):
        return found
    if isinstance(found, dict) and found:
        values = list(found.values())
        if all(isinstance(one, list) for one in values) and len({len(one) for one in values}) == 1:
            return [dict(zip(found, cells, strict=True)) for cells in zip(*values, strict=True)]
        if all(isinstance(one, dict) for one in values):
            # pandas numbers the rows of each column; what else names objects are runs.
            if all(key.isdigit() for one in values for key in one):
                keys = list(dict.fromkeys(key for one in values for key in one))
                return [{column: cells.get(key) for column, cells in found.items()} for key in keys]
            return [{"key": key, **one} for key, one in found.items()]
    raise UserError(f"{path}: expected a list of objects, one for each run, not {_called(found)}")


def _called(found: object) -> str:
    if isinstance(found, list):
        return "a list of other things"
    return "an object of other things" if isinstance(found, dict) else type(found).__name__


def _from_objects(name: str, rows: Sequence[Mapping[str, object]], lines: Sequence[int] = ()) -> Table:
    flat = [dict(_cells(name, row)) for row in rows]
    columns = dict.fromkeys(column for row in flat for column in row)
    if not columns:
        raise UserError(f"{name}: empty, expected an object for each run")
    return Table(name, {column: [row.get(column) for row in flat] for column in columns}, tuple(lines))


def _cells(table: str, row: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    seen: set[str] = set()
    for column, value in _flat(row):
        if column in seen:
            raise UserError(f"{table}: column {column!r} stands there twice, once as a key of an inner object")
        seen.add(column)
        yield column, value


def _flat(value: Any, before: str = "") -> Iterator[tuple[str, object]]:
    for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
        objects = isinstance(inner, list) and inner and all(isinstance(one, dict) for one in inner)
        if isinstance(inner, dict) or objects:
            yield from _flat(inner, f"{before}{name}.")
        else:
            yield f"{before}{name}", inner


def _parquet(path: Path) -> Table:
    import pyarrow
    from pyarrow import parquet

    with opening(path, KINDS):
        file = io.BytesIO(content(path))
        try:
            found = parquet.ParquetFile(file)
            # A few bytes can stand for any number of cells: Parquet packs what repeats.
            if (cells := found.metadata.num_rows * found.metadata.num_columns) > _MOST_CELLS:
                raise UserError(f"{path}: has {cells:,} cells, expected at most {_MOST_CELLS:,} of a table")
            table = found.read()
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError(f"{path}: not a Parquet table: {brief(error)}") from None
    while any(pyarrow.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    repeated = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if repeated:
        raise UserError(f"{path}: column {repeated[0]!r} stands there twice, or once as a field of a struct")
    with opening(path, KINDS):  # Texts are looked at here for the first time.
        return Table(str(path), {name: table[name].to_pylist() for name in table.column_names})
