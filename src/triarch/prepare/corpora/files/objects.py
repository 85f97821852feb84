"""Rows of JSON lines, Parquet and Arrow files as objects, whatever their fields are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO, Any

import pyarrow as pa

from triarch.prepare.corpora.documents import BadRecordError
from triarch.prepare.corpora.files import storage
from triarch.prepare.corpora.files.lines import check_length, decoded, numbered_lines
from triarch.prepare.corpora.files.records import parsed
from triarch.prepare.corpora.files.tables import batches_of
from triarch.prepare.corpora.origins import Origin, named, place

Found = Mapping[str, Any] | BadRecordError


def rows_of(path: str) -> Iterator[tuple[Origin, Found, int]]:
    """Yields each row of a file: where it stands, its fields or what is wrong with it, bytes read since the one before.

    Raises:
      UserError: the file cannot be read.
    """
    before = 0
    with storage.opened(path) as raw:
        try:
            for origin, found in _rows(path, raw):
                position = raw.tell()
                yield origin, found, position - before
                before = position
        except BadRecordError as error:
            yield named(path), error, 0


def _rows(path: str, raw: IO[bytes]) -> Iterator[tuple[Origin, Found]]:
    if path.endswith(storage.TABLE_FORMATS):
        return _table_rows(path, raw)
    return json_rows(path, raw)


def json_rows(path: str, raw: IO[bytes]) -> Iterator[tuple[Origin, Found]]:
    """Yields each line of JSON, blank ones left out: where it stands, its fields or what is wrong with it."""
    for number, start, line in numbered_lines(path, raw):
        if not line or line.isspace():
            continue
        end = start + len(line.rstrip(b"\r\n"))
        origin = (path, number, start, end)
        try:
            check_length(path, number, len(line))
            yield origin, parsed(path, number, decoded(path, number, line))
        except BadRecordError as error:
            yield origin, error


def _table_rows(path: str, raw: IO[bytes]) -> Iterator[tuple[Origin, Found]]:
    row = 0
    try:
        for batch in batches_of(path, raw):
            for index in range(batch.num_rows):
                row += 1
                origin = named(path, row)
                try:
                    yield origin, {name: batch.column(name)[index].as_py() for name in batch.schema.names}
                except UnicodeDecodeError as error:
                    text = f"not UTF-8: {error.reason} at byte {error.start} of a text"
                    yield origin, BadRecordError("not UTF-8", place(origin), text)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BadRecordError("damaged file", path, f"cut short or damaged after row {row}: {reason}") from None
