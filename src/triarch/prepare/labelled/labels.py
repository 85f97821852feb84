"""From what files say of labels to numbers: classes counted from 0, or values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from triarch.data.manifest import CLASSES, TOKEN_CLASSES, VALUES, StoreLabels
from triarch.errors import nearest
from triarch.prepare.corpora.documents import BadRecordError

# Of a token that has no label, as of the second of a word's tokens.
NO_LABEL = -100
TRAIN = "train"
_MOST_CLASSES = 10_000


@dataclasses.dataclass(frozen=True)
class LabelReader:
    """Reads the labels of rows.

    Attributes:
      field: that holds them.
      labels: what they are.
    """

    field: str
    labels: StoreLabels

    def number(self, raw: Any, place: str) -> int | float:
        """Returns a label as a number.

        Raises:
          BadRecordError: it is missing, or none of these.
        """
        if self.labels.kind == VALUES:
            return _value(raw, self.field, place)
        name = _name(raw, self.field, place)
        names = self.labels.names or ()
        if name in names:
            return names.index(name)
        if name.isdecimal() and int(name) < len(names) and not all(one.lstrip("-").isdecimal() for one in names):
            return int(name)
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise BadRecordError(
            "unknown label", place, f"label {name!r} in {self.field!r}: expected one of {shown}{nearest(name, names)}"
        )

    def numbers(self, raw: Sequence[Any], place: str) -> list[int]:
        """Returns the labels of a row's words, see `number`."""
        return [int(self.number(one, place)) for one in raw]


def find_labels(
    raw: Mapping[str, Sequence[tuple[Any, str]]], field: str, regression: bool, names: Sequence[str] | None
) -> LabelReader:
    """Returns the reader of the labels of splits.

    Args:
      raw: of each split what its rows have for a label, a list of such where words have labels, and the rows' places.
      field: that holds them, for messages.
      regression: whether labels are numbers.
      names: of the classes in their order; None: those of the training split, numbers by size, others by alphabet.

    Raises:
      BadRecordError: a label is missing, or a number with a fraction where there are classes; or there is one class.
    """
    training = raw.get(TRAIN) or next(iter(raw.values()))
    of_words = bool(training) and isinstance(training[0][0], list | tuple)
    if regression:
        if of_words:
            raise BadRecordError("not a number", training[0][1], f"field {field!r} is a list, expected a number")
        return LabelReader(field, StoreLabels(VALUES))
    kind = TOKEN_CLASSES if of_words else CLASSES
    if names is not None:
        return LabelReader(field, StoreLabels(kind, tuple(names)))
    found = _found_names(_flat(training), field)
    everywhere = _found_names((item for split in raw.values() for item in _flat(split)), field)
    # A class that training lacks is no error where numbers say how many there are.
    numbered = sorted(int(name) for name in everywhere) if all(map(_is_whole, everywhere)) else None
    if len(found) < 2:
        count = sum(1 for _ in _flat(training))
        only = f" ({next(iter(found))!r})" if found else ""
        raise BadRecordError("one class", field, f"one class only{only} in {count:,} labels: expected at least two")
    if numbered is not None and numbered[0] < 0:
        place = next(place for one, place in (item for split in raw.values() for item in _flat(split))
                     if _name(one, field, place) == str(numbered[0]))  # fmt: skip
        raise BadRecordError("negative label", place, f"label {numbered[0]} in {field!r}: expected 0 or more")
    ordered = list(map(str, numbered)) if numbered is not None else sorted(found)
    if len(ordered) > _MOST_CLASSES:
        raise BadRecordError("too many classes", field, f"{len(ordered):,} classes: give --regression for numbers")
    return LabelReader(field, StoreLabels(kind, tuple(ordered)))


def class_names_of(raw: Any, field: str, place: str) -> set[str]:
    """Returns the classes of a row, as text.

    Raises:
      BadRecordError: it has none, or what is no class.
    """
    return _found_names(_flat([(raw, place)]), field)


def as_array(numbers: Sequence[int | float], kind: str) -> np.ndarray:
    """Returns labels of texts as a store holds them."""
    return np.array(numbers, np.float32 if kind == VALUES else np.int32)


def _flat(items: Iterable[tuple[Any, str]]) -> Iterable[tuple[Any, str]]:
    for raw, place in items:
        yield from ((one, place) for one in raw) if isinstance(raw, list | tuple) else [(raw, place)]


def _found_names(items: Iterable[tuple[Any, str]], field: str) -> set[str]:
    return {_name(raw, field, place) for raw, place in items}


def _name(raw: Any, field: str, place: str) -> str:
    """Returns a class as text: a name, or a whole number."""
    if raw is None or raw == "" or (isinstance(raw, float) and math.isnan(raw)):
        raise BadRecordError("no label", place, f"field {field!r} has no label")
    if isinstance(raw, bool):
        return str(int(raw))
    if isinstance(raw, int):
        return str(raw)
    if isinstance(raw, float) or (isinstance(raw, str) and _is_fraction(raw)):
        if isinstance(raw, float) and raw.is_integer():
            return str(int(raw))
        told = f"field {field!r} is {raw}, a number where classes are expected: give --regression to learn numbers"
        raise BadRecordError("not a class", place, told)
    if not isinstance(raw, str):
        raise BadRecordError("not a class", place, f"field {field!r} is a {type(raw).__name__}, expected a class")
    return raw.strip()


def _value(raw: Any, field: str, place: str) -> float:
    try:
        value = float(raw)
    except (TypeError, ValueError):
        told = f"field {field!r} has no label"
        if raw not in (None, ""):
            told = f"field {field!r} is {raw!r}, expected a number"
        raise BadRecordError("not a number", place, told) from None
    if not math.isfinite(value):
        raise BadRecordError("not a number", place, f"field {field!r} is {raw}, expected a finite number")
    return value


def _is_whole(name: str) -> bool:
    return name.lstrip("-").isdecimal()


def _is_fraction(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return not _is_whole(text.strip()) and text.strip().lower() not in ("nan", "inf", "infinity", "-inf", "-infinity")
