"""Rows of TSV, CSV, JSON lines, Parquet and Arrow files as they are, whatever the types of their fields."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet

from triarch.errors import UserError, nearest
from triarch.prepare.corpora.documents import BadRecordError
from triarch.prepare.corpora.files import storage
from triarch.prepare.corpora.files.lines import MOST_BYTES, Line, check_length, decoded, numbered_lines
from triarch.prepare.corpora.files.objects import json_rows
from triarch.prepare.corpora.files.tables import arrow_batches
from triarch.prepare.corpora.origins import Origin, named, place

DELIMITERS = {".tsv": "\t", ".csv": ","}
SUFFIXES = (*storage.SUFFIXES, *(kind + packed for kind in DELIMITERS for packed in ("", *storage.COMPRESSED)))


@dataclasses.dataclass(frozen=True)
class Row:
    """A row's values by field, and where it stands."""

    values: Mapping[str, Any]
    origin: Origin

    @property
    def place(self) -> str:
        """File and record, for messages."""
        return place(self.origin)


def rows(path: str, names: Sequence[str], columns: Sequence[str] = ()) -> Iterator[Row | BadRecordError]:
    """Yields the rows of a file, and the error of each that is none.

    Args:
      path: of a file whose name ends in one of `SUFFIXES`.
      names: fields that every row must have.
      columns: of a TSV or CSV file that does not begin with its columns' names.

    Raises:
      UserError: it cannot be read, or is of another kind.
    """
    plain = path.removesuffix(".gz").removesuffix(".zst")
    delimiter = next((DELIMITERS[suffix] for suffix in DELIMITERS if plain.endswith(suffix)), None)
    if not plain.endswith((*SUFFIXES,)) or plain.endswith(".txt"):
        kinds = ", ".join(f"*{suffix}" for suffix in (*DELIMITERS, ".jsonl", ".parquet", ".arrow"))
        raise UserError(f"{path}: rows are read from {kinds} (all but the last two also .gz or .zst)")
    with storage.opened(path) as raw:
        try:
            if plain.endswith(storage.TABLE_FORMATS):
                yield from _of_table(path, raw, names)
            elif delimiter is not None:
                yield from _delimited(path, raw, names, columns, delimiter)
            else:
                yield from _of_json(path, raw, names)
        except BadRecordError as error:
            yield error


def _of_json(path: str, raw: IO[bytes], names: Sequence[str]) -> Iterator[Row | BadRecordError]:
    for origin, found in json_rows(path, raw):
        try:
            if isinstance(found, BadRecordError):
                raise found
            _check_names(found, names, place(origin), "field")
        except BadRecordError as error:
            yield error
        else:
            yield Row(found, origin)


def _delimited(
    path: str, raw: IO[bytes], names: Sequence[str], columns: Sequence[str], delimiter: str
) -> Iterator[Row | BadRecordError]:
    """Yields rows; of TSV quotes are text, as GLUE's files have them, of CSV they hold line ends and commas."""
    csv.field_size_limit(MOST_BYTES)
    quoting: Any = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    reader = csv.reader(_texts(path, numbered_lines(path, raw)), delimiter=delimiter, quoting=quoting, strict=True)
    header = list(columns)
    first = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            # What follows a quote that never ends is no row of its own.
            raise BadRecordError("not CSV", f"{path}:{first}", f"not a row: {error}") from None
        number, first = first, reader.line_num + 1
        if cells is None:
            return
        if not cells:
            continue
        if not header:
            header = cells
            _check_names(header, names, f"{path}:{number}", "column")
            continue
        if columns:
            _check_names(header, names, f"{path}:{number}", "column")
        if len(cells) != len(header):
            told = f"has {len(cells)} cells, expected {len(header)}: {', '.join(header)}"
            yield BadRecordError("wrong number of cells", f"{path}:{number}", told)
            continue
        yield Row(dict(zip(header, cells, strict=True)), named(path, number))


def _texts(path: str, lines: Iterator[Line]) -> Iterator[str]:
    for number, _, line in lines:
        check_length(path, number, len(line))
        yield decoded(path, number, line)


def _of_table(path: str, raw: IO[bytes], names: Sequence[str]) -> Iterator[Row | BadRecordError]:
    number = 0
    try:
        for batch in _batches(path, raw, names):
            for values in batch.to_pylist():
                number += 1
                yield Row(values, named(path, number))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise BadRecordError("damaged file", path, f"cut short or damaged after row {number}: {reason}") from None


def _batches(path: str, raw: IO[bytes], names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    if path.endswith(".parquet"):
        file = pyarrow.parquet.ParquetFile(raw)
        _check_names(file.schema_arrow.names, names, path, "column")
        yield from file.iter_batches(columns=list(names))
        return
    schema, batches = arrow_batches(raw)
    _check_names(schema.names, names, path, "column")
    for batch in batches:
        chosen = batch.select(list(names))
        # Offsets beyond the column's bytes would end the process.
        chosen.validate(full=True)
        yield chosen


def _check_names(found: Any, names: Sequence[str], where: str, kind: str) -> None:
    for name in names:
        if name not in found:
            listed = f" (there are {', '.join(found)})" if kind == "column" else ""
            raise BadRecordError("field missing", where, f"no {kind} {name!r}{nearest(name, found)}{listed}")
