"""The order of a run's documents as JSON lines, CSV or Parquet: written as it comes, whole or not at all."""

from __future__ import annotations

import abc
import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from triarch.data.provenance import PART_NAMES
from triarch.data.tables import MISSING, strings, whole_numbers
from triarch.errors import UserError, nearest
from triarch.files import whole
from triarch.training.record.order import DataOrder, OrderPart

NAMED = ("store", "source", "part")
EXAMPLE_COLUMNS = ("step", "row", "epoch", "store", "example")
DOCUMENT_COLUMNS = (
    "document",
    "source",
    "record",
    "byte_start",
    "byte_end",
    "part",
    "token_start",
    "token_end",
    "document_tokens",
)


class OrderTable:
    """An `OrderPart` as columns: whole numbers, -1 for none, or numbers of names."""

    def __init__(self, order: DataOrder, stores: Sequence[str]):
        """The parts of `order`, whose stores are called `stores`."""
        self._names = {"store": stores, "source": order.names, "part": PART_NAMES}
        self.columns = EXAMPLE_COLUMNS + (DOCUMENT_COLUMNS if order.documents else ())
        self.named = [name for name in NAMED if name in self.columns]

    def names(self, column: str) -> Sequence[str]:
        """Returns the names that a column of `NAMED` holds numbers of."""
        return self._names[column]

    def values(self, part: OrderPart) -> dict[str, np.ndarray]:
        """Returns the columns of `part`."""
        return {name: getattr(part if name in EXAMPLE_COLUMNS else part.pieces, name) for name in self.columns}

    def rows(self, part: OrderPart) -> Iterator[dict[str, Any]]:
        """Yields the rows of `part`, None where there is nothing."""
        columns = {name: values.tolist() for name, values in self.values(part).items()}
        for name in self.named:
            columns[name] = [self._names[name][number] for number in columns[name]]
        for row in zip(*columns.values(), strict=True):
            yield {name: None if value == MISSING else value for name, value in zip(columns, row, strict=True)}


class OrderFile(abc.ABC):
    """A file that parts of an order are appended to."""

    def __init__(self, path: Path, table: OrderTable):
        self.path = path
        self.table = table

    @abc.abstractmethod
    def write(self, part: OrderPart) -> None:
        """Appends `part`."""

    @abc.abstractmethod
    def close(self) -> None:
        """Completes the file."""


class JsonLinesOrder(OrderFile):
    """One object a line."""

    def __init__(self, path: Path, table: OrderTable):
        super().__init__(path, table)
        self._file: IO[str] = path.open("w", encoding="utf-8")
        # A template, and strings encoded once each: `json.dumps` of every row would take four times as long.
        self._line = "{" + ", ".join(f'"{name}": %s' for name in table.columns) + "}\n"
        self._encoded: dict[str, list[str]] = {name: [] for name in NAMED}

    def write(self, part: OrderPart) -> None:
        columns = []
        for name, values in self.table.values(part).items():
            cells: Sequence[Any] = values.tolist()
            if name in NAMED:
                encoded = self._encoded[name]
                encoded += [json.dumps(text, ensure_ascii=False) for text in self.table.names(name)[len(encoded) :]]
                cells = [encoded[number] for number in cells]
            elif (values == MISSING).any():
                cells = ["null" if value == MISSING else value for value in cells]
            columns.append(cells)
        self._file.writelines(self._line % row for row in zip(*columns, strict=True))

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


class ArrowFile(OrderFile):
    """CSV or Parquet."""

    def __init__(self, path: Path, table: OrderTable, suffix: str):
        super().__init__(path, table)
        kinds = {name: pa.string() if name in NAMED else pa.int64() for name in table.columns}
        self._schema = pa.schema(list(kinds.items()))
        self._writer: Any = (
            pyarrow.csv.CSVWriter(path, self._schema)
            if suffix == ".csv"
            else pyarrow.parquet.ParquetWriter(path, self._schema, compression="zstd", use_dictionary=list(table.named))
        )

    def write(self, part: OrderPart) -> None:
        arrays = []
        for name, values in self.table.values(part).items():
            numbers = whole_numbers(values)
            if name in NAMED:
                used, places = np.unique(values, return_inverse=True)
                names = self.table.names(name)
                numbers = strings([names[number] for number in used.tolist()]).take(whole_numbers(places))
            arrays.append(numbers)
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


SUFFIXES = (".jsonl", ".csv", ".parquet")


def check_output(path: Path) -> None:
    """Raises UserError unless `path` has a suffix of `SUFFIXES` and its folder is there."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"--output={path}: unknown kind of file{nearest(path.suffix, SUFFIXES)}")
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"--output={path}: {'is a folder' if path.is_dir() else f'no folder {path.parent}'}")


@contextlib.contextmanager
def written(path: Path, table: OrderTable) -> Iterator[OrderFile]:
    """Gives a file to append to, which is at `path` once all went well."""
    with whole(path) as temporary:
        file = JsonLinesOrder(temporary, table) if path.suffix == ".jsonl" else ArrowFile(temporary, table, path.suffix)
        try:
            yield file
            file.close()
        except BaseException:
            with contextlib.suppress(OSError, pa.ArrowException):
                file.close()
            raise
