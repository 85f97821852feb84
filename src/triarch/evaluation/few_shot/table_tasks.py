"""Multiple-choice tasks made from a table: the harness's own YAML, and its data as JSON lines."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from triarch import schema
from triarch.errors import UserError, nearest
from triarch.files import read_given, write_whole

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (*_DELIMITERS, ".jsonl")
_MOST_BYTES = 2**30
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class TableTask:
    """A task in a table, one question a row.

    Attributes:
      file: .csv or .tsv with a header, or .jsonl, in UTF-8.
      question: column of the prompt; a choice follows it after a space.
      choices: columns of the choices, or one column that holds a list of them (in a cell as JSON).
      answer: column of the right one: its text, its column's name, its letter (A, B, ...) or its number from 0 or 1,
        whichever of these fits every row.
    """

    file: Path
    question: str
    choices: tuple[str, ...]
    answer: str

    @property
    def name(self) -> str:
        """The task's name in the harness."""
        return re.sub(r"\W+", "_", self.file.stem).strip("_") or "task"

    def write(self, folder: Path) -> str:
        """Writes NAME.yaml and NAME.jsonl into `folder`, and returns how the answers were read.

        Raises:
          UserError: the file cannot be read, lacks a column, or a row has no question, choice or answer that fits.
        """
        rows = _read(self.file)
        for column in (self.question, *self.choices, self.answer):
            if column not in rows[0]:
                raise UserError(f"{self.file}: no column {column!r}{nearest(column, map(str, rows[0]))}")
        questions = [_text(self._cell(row, number, self.question)) for number, row in enumerate(rows, 1)]
        choices = [self._choices(row, number) for number, row in enumerate(rows, 1)]
        gold, told = self._gold(rows, choices)
        data = folder / f"{self.name}.jsonl"
        lines = [
            {"question": question, "choices": own, "gold": right}
            for question, own, right in zip(questions, choices, gold, strict=True)
        ]
        write_whole(data, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        write_whole(folder / f"{self.name}.yaml", self._definition(data))
        return told

    def _definition(self, data: Path) -> str:
        metrics = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")]
        fields = {
            "task": self.name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data.absolute())}},
            "output_type": "multiple_choice",
            "test_split": "test",
            "fewshot_split": "test",
            "doc_to_text": "{{question}}",
            "doc_to_target": "{{gold}}",
            "doc_to_choice": "{{choices}}",
            "metric_list": metrics,
            "metadata": {"version": 1.0, "fields": ["question", "choices", "gold"]},
        }
        return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)

    def _cell(self, row: Row, number: int, column: str) -> Any:
        value = row.get(column)
        if value is None or _text(value) == "":
            raise UserError(f"{self.file}: row {number} has no {column!r}")
        return value

    def _choices(self, row: Row, number: int) -> list[str]:
        if len(self.choices) > 1:
            return [_text(self._cell(row, number, column)) for column in self.choices]
        value = self._cell(row, number, self.choices[0])
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                value = None
        if not isinstance(value, list) or len(value) < 2:
            raise UserError(
                f"{self.file}: row {number}: expected {self.choices[0]!r} to hold a list of choices, as "
                '["yes", "no"]; or name several columns, --choices=COL,COL'
            )
        return [_text(choice) for choice in value]

    def _gold(self, rows: Sequence[Row], choices: Sequence[list[str]]) -> tuple[list[int], str]:
        """Returns the number of each row's right choice, and how its answers were read."""
        answers = [_text(self._cell(row, number, self.answer)) for number, row in enumerate(rows, 1)]
        readings: dict[str, Callable[[str, list[str]], int | None]] = {
            "texts of choices": lambda answer, own: own.index(answer) if own.count(answer) == 1 else None,
            "names of columns": lambda answer, own: _place(answer, self.choices if len(self.choices) > 1 else ()),
            "letters": lambda answer, own: _place(answer.upper(), _LETTERS[: len(own)]),
            "numbers from 0": lambda answer, own: int(answer) if answer.isdecimal() else None,
            "numbers from 1": lambda answer, own: int(answer) - 1 if answer.isdecimal() else None,
        }
        failed: dict[str, int] = {}
        for told, reading in readings.items():
            gold = [reading(answer, own) for answer, own in zip(answers, choices, strict=True)]
            fits = [right is not None and 0 <= right < len(own) for right, own in zip(gold, choices, strict=True)]
            if all(fits):
                return [int(right) for right in gold if right is not None], told
            failed[told] = fits.index(False)
        row = max(failed.values())  # What fits the most rows is what was meant.
        raise UserError(
            f"{self.file}: row {row + 1}: {self.answer!r} is {answers[row][:40]!r}, and its choices are "
            f"{', '.join(map(repr, choices[row]))[:120]}: expected the text, column, letter or number of one of them"
        )


def _read(path: Path) -> list[Row]:
    """Returns the rows of a table, at least one."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"--task_file={path}: unknown kind of file{nearest(path.suffix, SUFFIXES)}")
    try:
        text = read_given(path, _MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"--task_file={path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text: {error.reason} at byte {error.start}") from None
    rows = _json_lines(path, text) if path.suffix == ".jsonl" else _table(path, text)
    if not rows:
        raise UserError(f"{path}: holds no row")
    return rows


def _json_lines(path: Path, text: str) -> list[Row]:
    rows: list[Mapping[str, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        row = schema.parse(line, f"{path} line {number}", finite=False)
        if not isinstance(row, dict):
            raise UserError(f"{path} line {number}: expected an object, found a {type(row).__name__}")
        rows.append(row)
    return rows


def _table(path: Path, text: str) -> list[Row]:
    try:
        header, *lines = list(csv.reader(text.splitlines(keepends=True), delimiter=_DELIMITERS[path.suffix])) or [[]]
    except csv.Error as error:
        raise UserError(f"{path}: not a table: {error}") from None
    twice = {column for column in header if header.count(column) > 1}
    if twice:
        raise UserError(f"{path}: column {min(twice)!r} is there twice")
    lines = [line for line in lines if line]
    for number, line in enumerate(lines, 1):
        if len(line) != len(header):
            raise UserError(f"{path}: row {number} has {len(line)} cells, its header {len(header)}")
    return [dict(zip(header, line, strict=True)) for line in lines]


def _text(value: Any) -> str:
    return (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).strip()


def _place(name: str, names: Sequence[str]) -> int | None:
    return names.index(name) if name and name in names else None
