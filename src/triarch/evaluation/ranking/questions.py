"""Questions with their choices, from files of rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triarch import schema
from triarch.errors import UserError, nearest
from triarch.files import read_given

_MOST_BYTES = 2**30
_INPUTS = ("inputs", "inputs_pretokenized", "prompt", "question", "source")
_CHOICES = ("choices", "options", "answer_choices")
_TARGETS = ("targets", "targets_pretokenized", "target", "answer", "label", "completion")
_TASKS = ("_task_name", "task_name", "task", "template")
_CLUSTER, _ITEM = "cluster", "item"


@dataclasses.dataclass(frozen=True)
class Question:
    """A question of which one choice is right.

    Attributes:
      inputs: what is read.
      choices: what may follow, two or more.
      right: which one does.
      task: that it is of.
      cluster: of tasks; the task's own name where the row names none.
      item: what it is about, which other questions may be about too; None where the row does not say.
    """

    inputs: str
    choices: tuple[str, ...]
    right: int
    task: str
    cluster: str
    item: str | None = None


def read_questions(file: Path, limit: int | None = None) -> list[Question]:
    """Returns the questions of a file of JSON lines.

    A row has inputs, a list of choices, and the right one, by its text or its number from 0 on; it may name its task,
    its cluster of tasks, and its item: the text, say, that several templates ask about. Tasks are called after the file
    where rows name none.

    Args:
      file: of rows.
      limit: the first so many of each task; None for all.

    Raises:
      UserError: naming file and line, where a row is none.
    """
    try:
        lines = read_given(file, _MOST_BYTES).split(b"\n")
    except OSError as error:
        raise UserError(f"--rank_file={file}: cannot be read: {error.strerror}") from None
    found: list[Question] = []
    counts: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{file}:{number}"
        row = schema.parse(line, where, finite=False)
        if not isinstance(row, dict):
            raise UserError(f"{where}: expected an object, found {type(row).__name__}")
        question = _question(row, where, file.name.partition(".")[0])
        counts[question.task] = counts.get(question.task, 0) + 1
        if limit is None or counts[question.task] <= limit:
            found.append(question)
    if not found:
        raise UserError(f"--rank_file={file}: holds no question")
    return found


def _question(row: Mapping[str, Any], where: str, name: str) -> Question:
    inputs, choices, target = (_field(row, names, where) for names in (_INPUTS, _CHOICES, _TARGETS))
    if not isinstance(inputs, str):
        raise UserError(f"{where}: inputs are {type(inputs).__name__}, expected a text")
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(one, str) and one for one in choices):
        raise UserError(f"{where}: expected choices to be a list of two texts or more")
    if len(set(choices)) < len(choices):
        raise UserError(f"{where}: a choice is there twice")
    if isinstance(target, str) and target.strip() in [one.strip() for one in choices]:
        right = [one.strip() for one in choices].index(target.strip())
    elif isinstance(target, int) and not isinstance(target, bool) and 0 <= target < len(choices):
        right = target
    else:
        shown = ", ".join(map(repr, choices))[:120]
        raise UserError(f"{where}: the right choice is {target!r}, expected one of {shown}, or its number from 0 on")
    task = next((row[key] for key in _TASKS if isinstance(row.get(key), str) and row[key]), name)
    cluster, item = (row[name] if isinstance(row.get(name), str) and row[name] else None for name in (_CLUSTER, _ITEM))
    return Question(inputs, tuple(choices), right, task, cluster or task, item)


def _field(row: Mapping[str, Any], names: tuple[str, ...], where: str) -> Any:
    for name in names:
        if row.get(name) is not None:
            return row[name]
    raise UserError(f"{where}: no field {names[0]!r}{nearest(names[0], list(row))}")
