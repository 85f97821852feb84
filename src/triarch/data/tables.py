"""Tables of whole numbers as Parquet files: written block by block, read at random by number or by a rising column."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from triarch.errors import UserError

MISSING = -1
# A document of a split: where it comes from (see `triarch.prepare.corpora.origins.Origin`; a range of bytes is half
# open), how many tokens its inputs have, 0 but in pairs, how many all of it, ends included, and how many the split's
# documents before it have in the store.
DOCUMENT_COLUMNS = ("source", "record", "byte_start", "byte_end", "inputs", "tokens", "first_token")
# A run of a document's tokens in a packed example: which example and document of the split, the first token's place in
# the document, how many tokens.
PIECE_COLUMNS = ("example", "document", "token_start", "tokens")
# Decoded row groups that stay in memory: about 1 MB each.
_KEPT_GROUPS = 64


class TableFormat:
    """Parquet files of int64 columns; -1 becomes null.

    Each block is a row group, so that a reader can find a row without reading the others. One column may hold the
    numbers of names, which are written in their place.
    """

    suffix = ".parquet"
    block_records = 2**14

    def __init__(self, columns: Sequence[str], names: Mapping[str, int] | None = None):
        """A table of `columns`; where there are `names`, numbered from 0 on, the first one holds numbers of names."""
        self._columns = tuple(columns)
        self._names = names

    def write(self, path: Path, blocks: Iterator[bytes], record_bytes: int) -> None:
        """Writes rows of int64 side by side."""
        named = [] if self._names is None else self._columns[:1]
        schema = pa.schema([(name, pa.string() if name in named else pa.int64()) for name in self._columns])
        encodings = {name: "DELTA_BINARY_PACKED" for name in self._columns if name not in named}
        with pyarrow.parquet.ParquetWriter(
            path,
            schema,
            compression="zstd",
            use_dictionary=list(named),
            column_encoding=encodings,
        ) as writer:
            names = strings(self._names or ())
            for block in blocks:
                columns = np.frombuffer(block, np.int64).reshape(-1, len(self._columns)).T
                arrays = [names.take(whole_numbers(numbers)) for numbers in columns[: len(named)]]
                arrays += [whole_numbers(values) for values in columns[len(named) :]]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


class ParquetTable:
    """Rows of one or more Parquet files in a row; memory does not grow with them, beyond their footers.

    Attributes:
      names: what the numbers in the column of names stand for, as far as they were read.
    """

    def __init__(self, paths: Iterable[Path], key: str, named: str | None = None):
        """The rows of the files at `paths`; the column `key` never falls from row to row.

        Raises:
          UserError: a file cannot be read.
        """
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._key = key
        self._named = named
        self._groups: list[tuple[Path, pyarrow.parquet.ParquetFile, int]] = []
        self._kept: collections.OrderedDict[int, dict[str, np.ndarray]] = collections.OrderedDict()
        self._columns: list[str] = []
        rows, keys = [0], []
        for path in paths:
            file = _opened(path, named)
            metadata = file.metadata
            self._columns = file.schema_arrow.names
            column = self._columns.index(key)
            for index in range(metadata.num_row_groups):
                group = metadata.row_group(index)
                self._groups.append((path, file, index))
                rows.append(rows[-1] + group.num_rows)
                keys.append(group.column(column).statistics.min)
        self._ends = np.array(rows, np.int64)
        self._keys = np.array(keys, np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def num_stretches(self) -> int:
        """Into how many parts the rows are to be cut so that all of one part stays in memory once it is decoded."""
        return -(-len(self._groups) // (_KEPT_GROUPS // 2)) or 1

    def first_at(self, keys: np.ndarray) -> np.ndarray:
        """Returns int64[keys]: for each key the first row whose key is not less; `len(self)` where there is none."""
        groups = np.maximum(np.searchsorted(self._keys, keys) - 1, 0)
        found = np.zeros(len(keys), np.int64)
        for group, places in _grouped(groups):
            found[places] = self._ends[group] + np.searchsorted(self._group(group)[self._key], keys[places])
        return found

    def rows(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the columns of rows `numbers`, each int64[numbers]."""
        groups = np.searchsorted(self._ends, numbers, side="right") - 1
        columns = {name: np.zeros(len(numbers), np.int64) for name in self._columns}
        for group, places in _grouped(groups):
            for name, values in self._group(group).items():
                columns[name][places] = values[numbers[places] - self._ends[group]]
        return columns

    def _group(self, number: int) -> dict[str, np.ndarray]:
        if number not in self._kept:
            if len(self._kept) >= _KEPT_GROUPS:
                self._kept.popitem(last=False)
            path, file, index = self._groups[number]
            try:
                columns = file.read_row_group(index)
            except (pa.ArrowException, OSError) as error:
                raise UserError(f"{path}: damaged: {str(error).splitlines()[0]}; prepare the store again") from None
            self._kept[number] = {name: self._values(name, columns.column(name)) for name in columns.column_names}
        self._kept.move_to_end(number)
        return self._kept[number]

    def _values(self, name: str, column: pa.ChunkedArray) -> np.ndarray:
        parts = []
        for chunk in column.chunks:
            if name == self._named:
                numbers = [self._number(value) for value in chunk.dictionary.to_pylist()]
                parts.append(np.array(numbers, np.int64)[chunk.indices.to_numpy()])
            else:
                values = np.frombuffer(chunk.buffers()[1], np.int64)[chunk.offset : chunk.offset + len(chunk)]
                parts.append(np.where(chunk.is_valid().to_numpy(zero_copy_only=False), values, MISSING))
        return np.concatenate(parts)

    def _number(self, name: str) -> int:
        if name not in self._numbers:
            self._numbers[name] = len(self.names)
            self.names.append(name)
        return self._numbers[name]


def _opened(path: Path, named: str | None) -> pyarrow.parquet.ParquetFile:
    try:
        return pyarrow.parquet.ParquetFile(path, read_dictionary=[named] if named else None, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read: {str(error).splitlines()[0]}; prepare the store again") from None


# Both are made of their buffers, for `pyarrow.array` imports pandas to look at what it is given.
def whole_numbers(values: np.ndarray) -> pa.Array:
    """Returns int64 `values` with null for -1."""
    there = np.packbits(values != MISSING, bitorder="little")
    return pa.Array.from_buffers(pa.int64(), len(values), [pa.py_buffer(there), pa.py_buffer(values.copy())])


def strings(values: Iterable[str]) -> pa.Array:
    """Returns `values`, of less than 2 GiB in all."""
    encoded = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))


def _grouped(groups: np.ndarray) -> Iterator[tuple[Any, np.ndarray]]:
    """Yields each group once, rising, with the places that are in it."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    for places in np.split(order, starts[1:]) if len(order) else ():
        yield int(groups[places[0]]), places
