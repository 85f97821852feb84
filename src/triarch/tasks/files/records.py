"""What each format's lines or rows say: texts, or what is wrong with them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

from triarch.errors import nearest
from triarch.tasks.documents import BadRecordError
from triarch.tasks.files.lines import Line, decoded, numbered_lines
from triarch.tasks.origins import NONE, Origin

_LINE_ENDS = b"\r\n"


@dataclasses.dataclass(frozen=True)
class Fields:
    """Which fields of a record make a document: `text`, and `inputs` if it is an example of inputs and targets."""

    text: str
    inputs: str | None = None

    @property
    def names(self) -> list[str]:
        """All of them, inputs first."""
        return [self.text] if self.inputs is None else [self.inputs, self.text]


class Record(NamedTuple):
    """A record's texts and where they stand."""

    text: str
    inputs: str | None
    origin: Origin


Records = Iterator[Record | BadRecordError]


def json_records(path: str, raw: IO[bytes], fields: Fields) -> Records:
    """Yields one record a line of JSON, and the error of each line that is none; blank lines are none of both.

    Raises:
      BadRecordError: the file is cut short or damaged.
    """
    for number, start, line in numbered_lines(path, raw):
        line = line.rstrip(_LINE_ENDS)
        if not line or line.isspace():
            continue
        try:
            record = _parsed(path, number, line)
            texts = [checked_text(record, name, f"{path}:{number}") for name in fields.names]
        except BadRecordError as error:
            yield error
            continue
        yield Record(texts[-1], None if fields.inputs is None else texts[0], (path, number, start, start + len(line)))


def text_records(path: str, raw: IO[bytes], unit: str) -> Records:
    """Yields the whole "file", each "line" or each "paragraph" (lines between blank ones).

    Raises:
      BadRecordError: the file is cut short or damaged.
    """
    lines = numbered_lines(path, raw)
    for group in {"file": _whole, "line": _each, "paragraph": _paragraphs}[unit](lines):
        first, start, content = group[0] if group else (NONE, 0, b"")
        if len(group) > 1:
            content = b"".join(line for _, _, line in group)
        if unit != "file":
            content = content.rstrip(_LINE_ENDS)
        try:
            text = content.decode()
        except UnicodeDecodeError:
            yield _undecodable(path, group)
            continue
        yield Record(text, None, (path, first, start, start + len(content)))


def _undecodable(path: str, lines: Iterable[Line]) -> BadRecordError:
    """Returns the error of the first of `lines` that is not UTF-8."""
    try:
        for number, _, line in lines:
            decoded(path, number, line)
    except BadRecordError as error:
        return error
    raise AssertionError("every line is UTF-8")


def checked_text(record: Mapping[str, Any], name: str, place: str) -> str:
    """Returns the field `name` of `record`.

    Raises:
      BadRecordError: it is missing, no string, or cannot be written as UTF-8.
    """
    if name not in record:
        raise BadRecordError("field missing", place, f"no field {name!r}{nearest(name, record)}")
    text = record[name]
    if not isinstance(text, str):
        kind = "null" if text is None else type(text).__name__
        raise BadRecordError("not a string", place, f"field {name!r} is {kind}, expected a string")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            message = f"field {name!r}: lone surrogate at character {error.start}"
            raise BadRecordError("lone surrogate", place, message) from None
    return text


def _parsed(path: str, number: int, line: bytes) -> dict[str, Any]:
    place = f"{path}:{number}"
    text = decoded(path, number, line)
    try:
        record = json.loads(text.removeprefix("\ufeff") if number == 1 else text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadRecordError("not JSON", place, f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise BadRecordError("not an object", place, f"expected a JSON object, found {type(record).__name__}")
    return record


def _whole(lines: Iterable[Line]) -> Iterator[Sequence[Line]]:
    yield list(lines)


def _each(lines: Iterable[Line]) -> Iterator[Sequence[Line]]:
    for line in lines:
        yield (line,)


def _paragraphs(lines: Iterable[Line]) -> Iterator[Sequence[Line]]:
    paragraph: list[Line] = []
    for line in lines:
        if line[-1].strip():
            paragraph.append(line)
        elif paragraph:
            yield paragraph
            paragraph = []
    if paragraph:
        yield paragraph
