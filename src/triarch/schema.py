"""JSON from files that anyone may have written: read within limits, and checked against a schema before it is used.

A schema is a value of the classes below. `read` takes one and returns the file's value, or raises one line that names
file and key, what was expected and the nearest known key:

    VOCABULARY = Record({"kind": Text(("bytes", "sentencepiece")), "size": Whole(1, 2**27)})
    fields = read(folder / "manifest.json", VOCABULARY)
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from triarch.errors import UserError, nearest
from triarch.files import read_regular

# Far above what any file needs that is read as JSON: a manifest of 100,000 files has 15 MB, the longest integer in
# tokenizers' files 31 digits ("model_max_length"), and no file nests more than about ten levels.
MOST_BYTES = 2**26
MOST_DIGITS = 64
MOST_LEVELS = 64
# The home of a file that the user named.
ANYWHERE = Path("/")
# A name of the file system's is at most this long.
_MOST_NAME_BYTES = 255
# Sizes of files and counts of tokens: every double is exact up to it.
_MOST_WHOLE = 2**53
_MOST_FLOAT = sys.float_info.max
_MOST_SHOWN = 60
_HEX = re.compile("[0-9a-f]+")
_HALF = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


class Kind(Protocol):
    """What a value must be."""

    @property
    def expected(self) -> str:
        """Describes it, for a message."""
        ...

    def faults(self, value: Any, key: str) -> Iterator[str]:
        """Yields what is wrong with `value`, which stands at `key`; nothing if it is right."""
        ...


class _Plain:
    """A kind of value that holds no others."""

    expected: str

    def fits(self, value: Any) -> bool:
        """Whether `value` is of this kind."""
        raise NotImplementedError

    def faults(self, value: Any, key: str) -> Iterator[str]:
        if not self.fits(value):
            yield f"{key or 'the value'} = {_shown(value)}: expected {self.expected}"


@dataclasses.dataclass(frozen=True)
class Anything(_Plain):
    """Any JSON."""

    expected: str = "any value"

    def fits(self, value: Any) -> bool:
        return True


@dataclasses.dataclass(frozen=True)
class Whole(_Plain):
    """A whole number from `least` to `most`."""

    least: int = 0
    most: int = _MOST_WHOLE

    @property
    def expected(self) -> str:
        return f"a whole number from {self.least:,} to {self.most:,}"

    def fits(self, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.least <= value <= self.most


@dataclasses.dataclass(frozen=True)
class Number(_Plain):
    """A finite number, whole or not."""

    expected: str = "a number"

    def fits(self, value: Any) -> bool:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and abs(value) <= _MOST_FLOAT


@dataclasses.dataclass(frozen=True)
class Flag(_Plain):
    """true or false."""

    expected: str = "true or false"

    def fits(self, value: Any) -> bool:
        return isinstance(value, bool)


@dataclasses.dataclass(frozen=True)
class Text(_Plain):
    """A string without NUL that can be written as UTF-8, one of `choices` where there are any."""

    choices: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        return f"one of {', '.join(map(repr, self.choices))}" if self.choices else "a text"

    def fits(self, value: Any) -> bool:
        return _is_text(value) and (not self.choices or value in self.choices)

    def faults(self, value: Any, key: str) -> Iterator[str]:
        if _is_text(value) and not self.fits(value):
            yield f"unknown {key} {_shown(value)}{nearest(value[:_MOST_SHOWN], self.choices)}"
        else:
            yield from super().faults(value, key)


@dataclasses.dataclass(frozen=True)
class Digest(_Plain):
    """A hash in hexadecimal, of `digits` digits."""

    digits: int = 64

    @property
    def expected(self) -> str:
        return f"{self.digits} hexadecimal digits"

    def fits(self, value: Any) -> bool:
        return isinstance(value, str) and len(value) == self.digits and _HEX.fullmatch(value) is not None


@dataclasses.dataclass(frozen=True)
class FileName(_Plain):
    """The name of a file of the folder, or with `below` also of a folder in it: "a/b"; never one that leaves it."""

    below: bool = False

    @property
    def expected(self) -> str:
        return f"the name of a file {'below' if self.below else 'of'} this folder"

    def fits(self, value: Any) -> bool:
        if not _is_text(value):
            return False
        parts = value.split("/")
        whole = PurePosixPath(value).as_posix() == value and ".." not in parts and value not in ("", ".")
        short = all(len(part.encode()) <= _MOST_NAME_BYTES for part in parts)
        return whole and short and not value.startswith("/") and (self.below or len(parts) == 1)


@dataclasses.dataclass(frozen=True)
class OrNull:
    """null, or a value of `kind`."""

    kind: Kind

    @property
    def expected(self) -> str:
        return f"{self.kind.expected} or null"

    def faults(self, value: Any, key: str) -> Iterator[str]:
        if value is not None:
            yield from self.kind.faults(value, key)


@dataclasses.dataclass(frozen=True)
class Items:
    """A list of `kind`, of at least `least` and at most `most` values."""

    kind: Kind
    least: int = 0
    most: int | None = None

    @property
    def expected(self) -> str:
        if self.least == self.most:
            return f"a list of {self.least} values"
        return f"a list of {self.least} or more values" if self.least else "a list"

    def faults(self, value: Any, key: str) -> Iterator[str]:
        if not isinstance(value, list) or len(value) < self.least or len(value) > (self.most or len(value)):
            yield f"{key or 'the value'} = {_shown(value)}: expected {self.expected}"
            return
        for number, item in enumerate(value):
            yield from self.kind.faults(item, f"{key}[{number}]")


@dataclasses.dataclass(frozen=True)
class MapOf:
    """An object from any names of kind `names` to values of `kind`, of at least `least`."""

    kind: Kind
    least: int = 0
    names: Kind = dataclasses.field(default_factory=Text)

    @property
    def expected(self) -> str:
        return f"an object with {self.least} or more entries" if self.least else "an object"

    def faults(self, value: Any, key: str) -> Iterator[str]:
        if not isinstance(value, dict) or len(value) < self.least:
            yield f"{key or 'the value'} = {_shown(value)}: expected {self.expected}"
            return
        for name, item in value.items():
            yield from self.names.faults(name, f"a key of {key}" if key else "a key")
            yield from self.kind.faults(item, _under(key, name))


@dataclasses.dataclass(frozen=True)
class Record:
    """An object of these keys.

    Attributes:
      keys: what stands under each; those of kind `OrNull` may be absent.
      others: whether keys that are not listed are passed over.
    """

    keys: Mapping[str, Kind]
    others: bool = False
    expected: str = "an object"

    def faults(self, value: Any, key: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{key or 'the value'} = {_shown(value)}: expected {self.expected}"
            return
        place = f"{key}: " if key else ""
        strange = [name for name in value if name not in self.keys]
        for name, kind in self.keys.items():
            if name in value:
                yield from kind.faults(value[name], _under(key, name))
            elif not isinstance(kind, OrNull):
                yield f"{place}no key {name!r}{_close(name, strange)}: expected {kind.expected}"
        if strange and not self.others:
            yield f"{place}unknown key {_shown(strange[0])}{nearest(strange[0][:_MOST_SHOWN], self.keys)}"


def check(value: Any, kind: Kind, where: str) -> Any:
    """Returns `value` if it is of `kind`.

    Raises:
      UserError: it is not; `where` names the file.
    """
    fault = next(kind.faults(value, ""), None)
    if fault is not None:
        raise UserError(f"{where}: {fault}")
    return value


def parse(text: str | bytes, where: str, finite: bool = True) -> Any:
    """Returns what JSON in UTF-8 holds, with or without a byte order mark.

    Args:
      text: the JSON.
      where: names the file, and the line where there are several.
      finite: whether NaN and infinities are refused; measurements may hold them.

    Raises:
      UserError: it is not JSON, nests deeper than `MOST_LEVELS`, or holds a number that is refused, an integer of more
        than `MOST_DIGITS` digits, or half of a surrogate pair.
    """
    number = _finite if finite else float
    try:
        text = text if isinstance(text, str) else text.decode("utf-8-sig")
        value = json.loads(text, parse_int=_integer, parse_float=number, parse_constant=number)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 text (byte {error.start})") from None
    except RecursionError:
        raise UserError(f"{where}: not read: JSON nested more than {MOST_LEVELS} levels deep") from None
    except ValueError as error:
        raise UserError(f"{where}: not JSON: {error}") from None
    if _is_deeper(value, MOST_LEVELS):
        raise UserError(f"{where}: not read: JSON nested more than {MOST_LEVELS} levels deep")
    if _HALF.search(text) and not _is_encodable(value):
        raise UserError(f"{where}: not read: half a character (\\ud800 to \\udfff alone), which is not UTF-8")
    return value


def read(path: Path, kind: Kind, *, home: Path | None = None, most_bytes: int = MOST_BYTES) -> Any:
    """Returns the value of a JSON file of a folder that anyone may have written.

    Args:
      path: the file, or a link to it.
      kind: of the value.
      home: the folder that the file must not leave by way of a link, as in `files.check_regular`; None for the folder
        that it lies in. The user may name a link to anywhere: `ANYWHERE`.
      most_bytes: it may have.

    Raises:
      FileNotFoundError, NotADirectoryError: there is none.
      UserError: it cannot be read, is a link out of `home` or no regular file, is larger than `most_bytes`, is not
        JSON, or not of `kind`.
    """
    try:
        content = read_regular(path, most_bytes, path.parent if home is None else home)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    return check(parse(content, str(path)), kind, str(path))


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise UserError(f"not read: an integer of {len(digits):,} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise UserError(f"not read: {digits[:_MOST_SHOWN]} is no finite number")
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        layer = [inner for outer in layer if isinstance(outer, dict | list) for inner in _inner(outer)]
    return any(isinstance(value, dict | list) for value in layer)


def _inner(value: dict | list) -> list:
    return list(value.values()) if isinstance(value, dict) else value


def _is_encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_text(value: Any) -> bool:
    if not isinstance(value, str) or "\0" in value:
        return False
    return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)


def _shown(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _close(name: str, strange: list[str]) -> str:
    found = nearest(name, strange)
    return found if found.startswith(" (did you mean") else ""


def _under(key: str, name: str) -> str:
    name = name[:_MOST_SHOWN]
    return f"{key}.{name}" if key else name
