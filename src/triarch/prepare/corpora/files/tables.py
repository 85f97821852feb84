"""Rows of Parquet and Arrow files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from triarch.errors import nearest
from triarch.prepare.corpora.documents import BadRecordError
from triarch.prepare.corpora.files.records import Fields, Records, TextRecord, checked_text, id_of
from triarch.prepare.corpora.origins import Origin, named, place

_BATCH_ROWS = 256
_BYTES = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}
# What the rows of a batch may take, on average, and what is read of a column at a time.
_BATCH_BYTES = 2**24


def table_records(path: str, raw: IO[bytes], fields: Fields) -> Records:
    """Yields one record a row, numbered from 1, and the error of each row that is none.

    Raises:
      BadRecordError: the file is damaged, lacks a column, or has one that holds no text.
    """
    row = 0
    try:
        for batch in _batches(path, raw, fields):
            columns = {name: batch.column(name) for name in _columns(batch.schema, fields)}
            for index in range(batch.num_rows):
                row += 1
                yield _record(named(path, row), {name: column[index] for name, column in columns.items()}, fields)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise BadRecordError("damaged file", path, f"cut short or damaged after row {row}: {reason}") from None


def _record(origin: Origin, values: dict[str, pa.Scalar], fields: Fields) -> TextRecord | BadRecordError:
    try:
        record = {name: value.as_py() for name, value in values.items()}
        texts = [checked_text(record, name, place(origin)) for name in fields.names]
    except UnicodeDecodeError as error:
        return BadRecordError("not UTF-8", place(origin), f"not UTF-8: {error.reason} at byte {error.start} of a text")
    except BadRecordError as error:
        return error
    return TextRecord(texts[-1], None if fields.inputs is None else texts[0], origin, id_of(record, fields))


def _columns(schema: pa.Schema, fields: Fields) -> list[str]:
    if fields.id is None or fields.id not in schema.names or fields.id in fields.names:
        return fields.names
    return [*fields.names, fields.id]


def _batches(path: str, raw: IO[bytes], fields: Fields) -> Iterator[pa.RecordBatch]:
    if path.endswith(".parquet"):
        file = pyarrow.parquet.ParquetFile(raw, buffer_size=_BATCH_BYTES)
        _check_schema(path, file.schema_arrow, fields)
        for group in range(file.num_row_groups):
            yield from file.iter_batches(_rows_a_batch(file, group), [group], _columns(file.schema_arrow, fields))
        return
    schema, batches = arrow_batches(raw)
    _check_schema(path, schema, fields)
    for batch in batches:
        for name in fields.names:
            _check_offsets(batch.column(batch.schema.get_field_index(name)))
        yield batch


def batches_of(path: str, raw: IO[bytes]) -> Iterator[pa.RecordBatch]:
    """Yields the rows of all columns, a few at a time.

    Raises:
      ArrowException: the file is damaged.
    """
    if path.endswith(".parquet"):
        file = pyarrow.parquet.ParquetFile(raw, buffer_size=_BATCH_BYTES)
        for group in range(file.num_row_groups):
            yield from file.iter_batches(_rows_a_batch(file, group), [group])
        return
    for batch in arrow_batches(raw)[1]:
        batch.validate(full=True)
        yield batch


def arrow_batches(raw: IO[bytes]) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    """Returns the columns of an Arrow file, and its rows, not yet validated.

    Raises:
      ArrowException: the file is damaged.
    """
    # What Hugging Face's `save_to_disk` writes is a stream; `pyarrow.ipc.new_file` writes the other kind.
    is_file = raw.read(6) == b"ARROW1"
    raw.seek(0)
    reader = pyarrow.ipc.open_file(raw) if is_file else pyarrow.ipc.open_stream(raw)
    batches = (reader.get_batch(number) for number in range(reader.num_record_batches)) if is_file else reader
    return reader.schema, batches


def _check_offsets(column: pa.Array) -> None:
    """Raises ArrowInvalid where a text is said to lie outside the column's bytes: reading it would end the process."""
    if isinstance(column, pa.DictionaryArray):
        _check_offsets(column.dictionary)
        column = column.indices
    # As bytes: whether a text is UTF-8 is a matter of its row.
    column.view(_BYTES.get(column.type, column.type)).validate(full=True)


def _rows_a_batch(file: pyarrow.parquet.ParquetFile, group: int) -> int:
    """Returns how many rows of a group are read at a time: few long ones."""
    metadata = file.metadata.row_group(group)
    return min(max(1, _BATCH_BYTES * metadata.num_rows // max(1, metadata.total_byte_size)), _BATCH_ROWS)


def _check_schema(path: str, schema: pa.Schema, fields: Fields) -> None:
    for name in fields.names:
        if name not in schema.names:
            raise BadRecordError("field missing", path, f"no column {name!r}{nearest(name, schema.names)}")
        kind = schema.field(name).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            raise BadRecordError("not a string", path, f"column {name!r} is {kind}, expected string")
