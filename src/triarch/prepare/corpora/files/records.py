"""What each format's lines or rows say: texts, or what is wrong with them."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, NamedTuple

from triarch.errors import nearest
from triarch.prepare.corpora.documents import BadRecordError
from triarch.prepare.corpora.files.lines import Line, check_length, decoded, is_too_long, numbered_lines, undecodable
from triarch.prepare.corpora.origins import NONE, Origin

_LINE_ENDS = b"\r\n"


@dataclasses.dataclass(frozen=True)
class Fields:
    """Which fields of a record make a document: `text`, and `inputs` if it is an example of inputs and targets.

    `id` is the field that names a record, where there is one; None where names are of no use.
    """

    text: str
    inputs: str | None = None
    id: str | None = None

    @property
    def names(self) -> list[str]:
        """All of them, inputs first."""
        return [self.text] if self.inputs is None else [self.inputs, self.text]


class TextRecord(NamedTuple):
    """A record's texts and where they stand."""

    text: str
    inputs: str | None
    origin: Origin
    id: str | None = None


Records = Iterator[TextRecord | BadRecordError]


def json_records(path: str, raw: IO[bytes], fields: Fields) -> Records:
    """Yields one record a line of JSON, and the error of each line that is none; blank lines are none of both.

    Raises:
      BadRecordError: the file is cut short or damaged.
    """
    for number, start, line in numbered_lines(path, raw):
        if not line or line.isspace():
            continue
        held = [line]
        del line
        yield _json_record(path, number, start, held, fields)


def _json_record(path: str, number: int, start: int, held: list[bytes], fields: Fields) -> TextRecord | BadRecordError:
    """Returns the record of the line in `held`, which is taken out: parsing a long one takes memory enough."""
    line = held.pop()
    try:
        check_length(path, number, len(line))
        text, end = decoded(path, number, line), start + len(line)
        del line
        end -= len(text)
        text = text.rstrip("\r\n")
        end += len(text)
        record = parsed(path, number, text)
        del text
        texts = [checked_text(record, name, f"{path}:{number}") for name in fields.names]
        own_id = id_of(record, fields)
    except BadRecordError as error:
        return error
    return TextRecord(texts[-1], None if fields.inputs is None else texts[0], (path, number, start, end), own_id)


def text_records(path: str, raw: IO[bytes], unit: str) -> Records:
    """Yields the whole "file", each "line" or each "paragraph" (lines between blank ones); Windows' line ends as "\\n".

    Raises:
      BadRecordError: the file is cut short or damaged.
    """
    lines = numbered_lines(path, raw)
    for first, start, content in {"file": _whole, "line": _each, "paragraph": _paragraphs}[unit](lines):
        try:
            check_length(path, first, len(content))
            text = content.decode().replace("\r\n", "\n")
        except BadRecordError as error:
            yield error
        except UnicodeDecodeError as error:
            yield undecodable(path, first, error)
        else:
            end = start + len(content)
            del content
            yield TextRecord(text, None, (path, first, start, end))
            del text


def id_of(record: Mapping[str, Any], fields: Fields) -> str | None:
    """Returns what `record` calls itself: a string or a whole number."""
    own_id = None if fields.id is None else record.get(fields.id)
    return str(own_id) if isinstance(own_id, str | int) else None


def checked_text(record: Mapping[str, Any], name: str, place: str) -> str:
    """Returns the field `name` of `record`.

    Raises:
      BadRecordError: it is missing, no string, or cannot be written as UTF-8.
    """
    if name not in record:
        raise BadRecordError("field missing", place, f"no field {name!r}{nearest(name, record)}")
    return checked_string(record[name], name, place)


def checked_string(text: Any, name: str, place: str) -> str:
    """Returns what a field, or a part of one, holds.

    Raises:
      BadRecordError: it is no string, or cannot be written as UTF-8.
    """
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


def parsed(path: str, number: int, text: str) -> dict[str, Any]:
    """Returns the object of a line of JSON.

    Raises:
      BadRecordError: it is none.
    """
    place = f"{path}:{number}"
    try:
        record = _loaded(text)
    except RecursionError:
        raise BadRecordError("nested too deeply", place, "JSON nested too deeply to be read") from None
    except json.JSONDecodeError as error:
        raise BadRecordError("not JSON", place, f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise BadRecordError("not an object", place, f"expected a JSON object, found {type(record).__name__}")
    return record


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # An integer of more digits than Python converts; no field that is asked for is a number.
        return json.loads(text, parse_int=lambda digits: 0)


# Of each document of a text file: the number of its first line, the offset of its first byte, its bytes.
def _whole(lines: Iterable[Line]) -> Iterator[Line]:
    yield _joined(lines)


def _each(lines: Iterable[Line]) -> Iterator[Line]:
    return ((number, start, line.rstrip(_LINE_ENDS)) for number, start, line in lines)


def _paragraphs(lines: Iterable[Line]) -> Iterator[Line]:
    for blank, group in itertools.groupby(lines, lambda line: not line[-1].strip()):
        if not blank:
            number, start, content = _joined(group)
            yield number, start, content.rstrip(_LINE_ENDS)


def _joined(lines: Iterable[Line]) -> Line:
    """Returns all lines as one, or enough of them that they are too long, which `check_length` refuses."""
    first, first_start = NONE, 0
    # Millions of short lines side by side would take ten times their bytes.
    content = io.BytesIO()
    for number, start, line in lines:
        if first == NONE:
            first, first_start = number, start
        if not is_too_long(content.tell()):
            content.write(line)
    return first, first_start, content.getvalue()
