"""Plain tables, column by column: whatever is wrong with one is said with its file, column and row."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import gzip
import io
import math
import operator
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from triarch.errors import UserError, nearest
from triarch.files import read_given

MAX_NAMED_ROWS = 5
MOST_BYTES = 2**30
MOST_WHOLE = 2**53
TABLE_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
RELATIONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
SHORT_NUMBER = re.compile(r"([0-9]*\.?[0-9]+) ?([kKmMbBgGtT])")
MAGNITUDES = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
EMPTY = ("", "-", "--", "na", "n/a", "<na>", "null", "none")
QUOTED = re.compile(r'"[^"]*"')
GROUPED_NUMBER = re.compile(r"[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?")


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of equal length.

    Attributes:
      name: what messages call the table (a path, as a rule).
      columns: cells by column name; text as read, or whatever objects the rows held.
      lines: the line of the file each row ends on; empty for a table that came from memory.
      origin: for rows selected from another table, what number (from 0) each had there; empty for a whole table.
    """

    name: str
    columns: Mapping[str, Sequence[object]]
    lines: tuple[int, ...] = ()
    origin: tuple[int, ...] = ()

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, object]], name: str = "table") -> Table:
        """Builds a table from dicts; every row must hold the columns of the first.

        Raises:
          UserError: a row lacks a column.
        """
        names = list(rows[0]) if rows else []
        for number, row in enumerate(rows, start=1):
            for column in names:
                if column not in row:
                    raise UserError(f"{name}, row {number}: no column {column!r}{nearest(column, row)}")
        return cls(name, {column: [row[column] for row in rows] for column in names})

    @classmethod
    def read_csv(cls, path: str | Path) -> Table:
        """Reads a delimited UTF-8 file with a header line, packed by gzip where its name ends in ".gz".

        Fields are set apart by commas, or by the tabs or semicolons of a header that has more of them. A column without
        a name (the row numbers that pandas writes) is left out.

        Raises:
          UserError: the file is missing, unreadable, empty, not UTF-8, two columns have one name, or a row has another
            number of fields.
        """
        path = Path(path)
        with opening(path, "a comma-separated table"):
            return _parse(str(path), content(path).decode("utf-8-sig"))

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def row(self, index: int) -> str:
        """Returns how messages call a row: "row 3 (line 4)", rows counted from 1 without the header."""
        number = self.number(index)
        return f"row {number} (line {self.lines[index]})" if self.lines else f"row {number}"

    def number(self, index: int) -> int:
        """Returns a row's number in the table it came from, counted from 1."""
        return (self.origin[index] if self.origin else index) + 1

    def rows(self, indices: Sequence[int]) -> str:
        """Returns how messages call several rows, the first few of them by number."""
        named = ", ".join(str(self.number(index)) for index in indices[:MAX_NAMED_ROWS])
        more = len(indices) - MAX_NAMED_ROWS
        return f"row{'s' if len(indices) > 1 else ''} {named}" + (f" and {more} more" if more > 0 else "")

    def select(self, indices: Sequence[int]) -> Table:
        """Returns some of the rows; messages call them by their numbers here."""
        return Table(
            self.name,
            {column: [cells[index] for index in indices] for column, cells in self.columns.items()},
            tuple(self.lines[index] for index in indices) if self.lines else (),
            tuple(self.number(index) - 1 for index in indices),
        )

    @classmethod
    def from_frame(cls, frame: Any, name: str = "frame") -> Table:
        """Builds a table from a `pandas.DataFrame`, whose missing cells are empty.

        Raises:
          UserError: two columns have one name.
        """
        names = [".".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in frame.columns]
        if repeated := sorted({one for one in names if names.count(one) > 1}):
            raise UserError(f"{name}: column {repeated[0]!r} stands there twice")
        columns = {}
        for place, one in enumerate(names):
            cells, missing = frame.iloc[:, place], frame.iloc[:, place].isna()
            columns[one] = [None if gone else cell for cell, gone in zip(cells.tolist(), missing, strict=True)]
        return cls(name, columns)

    def where(self, *conditions: tuple[str, str, str]) -> Table:
        """Returns the rows of which a cell is in a relation to a value, in one condition or another.

        Args:
          conditions: a column; "=" or "!=" (as text, or as numbers where both are), or "<", "<=", ">" or ">=" (as
            numbers; cells that are none are in none of these); and the value to compare with.

        Raises:
          UserError: no such column, no number to compare with, or no such row; the nearest value is named.
        """
        chosen = sorted({row for condition in conditions for row in self._meeting(*condition)})
        if not chosen:
            column, relation, value = conditions[0]
            hint = nearest(value.strip(), set(self.text(column))) if relation == "=" else ""
            said = " or ".join(f"{column} {relation} {value.strip()!r}" for column, relation, value in conditions)
            raise UserError(f"{self.name}: no row has {said}{hint}")
        return self.select(chosen)

    def last_of(self, column: str) -> Table:
        """Returns the last row of each value of a column, such as the end of each run. Raises UserError as `cells`."""
        last = {cell: row for row, cell in enumerate(self.text(column))}
        return self.select(sorted(last.values()))

    def _meeting(self, column: str, relation: str, value: str) -> list[int]:
        cells, value = self.text(column), value.strip()
        if relation not in ("=", "!="):
            limit = parse_number(value)
            if limit is None:
                raise UserError(f"{column}{relation}{value}: expected a number to compare with")
            compare = RELATIONS[relation]
            numbers = [parse_number(cell) for cell in cells]
            return [i for i, number in enumerate(numbers) if number is not None and compare(number, limit)]
        return [i for i, cell in enumerate(cells) if _same(cell, value) == (relation == "=")]

    def cells(self, column: str) -> Sequence[object]:
        """Returns the cells of a column as they are.

        Raises:
          UserError: no such column; the nearest one is named.
        """
        if column not in self.columns:
            raise UserError(f"{self.name}: no column {column!r}{nearest(column, self.columns)}")
        return self.columns[column]

    def text(self, column: str) -> list[str]:
        """Returns a column as stripped strings, "" where nothing is. Raises UserError as `cells` does."""
        return ["" if cell is None else str(cell).strip() for cell in self.cells(column)]

    def numbers(
        self,
        column: str,
        *,
        positive: bool = True,
        least: float = -math.inf,
        optional: bool = False,
        minimum_rows: int = 1,
    ) -> np.ndarray:
        """Returns a column as float64[rows].

        Args:
          column: its name.
          positive: whether every value must be above zero (a law takes logarithms).
          least: the least value that is allowed otherwise.
          optional: whether an empty cell is allowed and reads as NaN.
          minimum_rows: how many rows there must be.

        Raises:
          UserError: no such column, too few rows, or a cell that is not such a number; its row is named.
        """
        cells = self.cells(column)
        if len(cells) < minimum_rows:
            raise UserError(f"{self.name}: {len(cells)} rows, at least {minimum_rows} are needed")
        expected = "a finite number" if math.isinf(least) else f"a number from {least:g} on"
        if positive:
            least, expected = math.ulp(0.0), "a number above zero"
        values = [self._number(column, i, cell, least, expected, optional) for i, cell in enumerate(cells)]
        return np.array(values, np.float64)

    def whole_numbers(self, column: str) -> np.ndarray:
        """Returns a column of whole numbers from 0 on as int64[rows]. Raises UserError as `numbers` does."""
        values = self.numbers(column, positive=False, least=0.0)
        for index, value in enumerate(values):
            if value != int(value) or value > MOST_WHOLE:
                where, cell = f"{self.name}, {self.row(index)}", self.cells(column)[index]
                raise UserError(f"{where}: {column} is {cell!r}, expected a whole number from 0 to {MOST_WHOLE:,}")
        return values.astype(np.int64)

    def _number(self, column: str, index: int, cell: object, least: float, expected: str, optional: bool) -> float:
        if optional and is_empty(cell):
            return math.nan
        value = parse_number(cell)
        if value is None or not math.isfinite(value) or value < least:
            shown = "empty" if is_empty(cell) else repr(cell)
            raise UserError(f"{self.name}, {self.row(index)}: {column} is {shown}, expected {expected}")
        return value


@contextlib.contextmanager
def opening(path: Path, expected: str) -> Iterator[None]:
    """Turns what goes wrong in reading a file into a UserError that names it, and what was expected to be there."""
    try:
        yield
    except FileNotFoundError:
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        alike = [name for name in siblings if name.removesuffix(".gz").endswith(TABLE_SUFFIXES)]
        raise UserError(f"{path}: no such file{nearest(path.name, alike)}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); expected {expected}") from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path}: not a whole gzip file: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def content(path: Path) -> bytes:
    """Returns what a table's file holds, unpacked where its name ends in ".gz".

    Raises:
      UserError: it is no file, or too large for a table, packed or not.
      OSError: it cannot be read.
    """
    packed = read_given(path, MOST_BYTES)
    if path.suffix != ".gz":
        return packed
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
        unpacked = file.read(MOST_BYTES + 1)
    if len(unpacked) > MOST_BYTES:
        raise UserError(f"{path}: holds more than {MOST_BYTES:,} bytes unpacked, too many for a table")
    return unpacked


def parse_number(cell: Any) -> float | None:
    """Returns a cell's number, or None: 1.4e9, "1.4e9", or "1.4B" as model sizes are written (k, M, B or G, and T)."""
    if isinstance(cell, bool):
        return None
    try:
        return float(cell)
    except OverflowError:  # An integer too large for any float.
        return math.inf
    except (TypeError, ValueError):
        found = SHORT_NUMBER.fullmatch(str(cell).strip())
    return float(found[1]) * MAGNITUDES[found[2].lower()] if found else None


def is_empty(cell: object) -> bool:
    """Returns whether a cell holds nothing, or says so as spreadsheets and R do."""
    return cell is None or str(cell).strip().lower() in EMPTY


def _same(cell: str, value: str) -> bool:
    if cell == value:
        return True
    numbers = parse_number(cell), parse_number(value)
    return None not in numbers and numbers[0] == numbers[1]


def _parse(name: str, text: str) -> Table:
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise UserError(f"{name}, line {line}: not a comma-separated table: it holds a NUL character")
    first = QUOTED.sub("", text.lstrip("\r\n").split("\n", 1)[0])
    # A comma wins a tie: names of columns hold other marks more often than commas.
    delimiter = max(",\t;", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        records = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise UserError(f"{name}, line {reader.line_num}: not a comma-separated table: {error}") from None
    header = [cell.strip() for cell in records[0][1]] if records else []
    if not any(header):
        raise UserError(f"{name}: empty, expected a header line with column names")
    repeated = sorted({column for column in header if column and header.count(column) > 1})
    if repeated:
        raise UserError(f"{name}: column {repeated[0]!r} stands twice in the header")
    rows, lines = [], []
    for line, row in records[1:]:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise UserError(f"{name}, line {line}: {len(row)} fields, the header has {len(header)}")
        # Where commas are not what sets fields apart, one within a number may as well be a decimal comma.
        rows.append([_ungrouped(cell) for cell in row] if delimiter == "," else row)
        lines.append(line)
    columns = {column: [row[i] for row in rows] for i, column in enumerate(header) if column}
    return Table(name, columns, tuple(lines))


def _ungrouped(cell: str) -> str:
    """Returns a number such as 350,000,000 without its commas; any other cell as it is."""
    return cell.replace(",", "") if "," in cell and GROUPED_NUMBER.fullmatch(cell.strip()) else cell
