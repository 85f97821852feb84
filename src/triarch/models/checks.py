"""Checks of a config's fields: what their annotations promise, and what else must hold, named in one line."""

from __future__ import annotations

import functools
import math
import numbers
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, cast

from triarch.errors import UserError, nearest

# Of an array's dimension, and of the counter of steps: they are int32.
MOST_SIZE = 2**31 - 1


def require(config: Any, field: str, condition: Any, expectation: str) -> None:
    """Raises UserError "CLASS.FIELD = VALUE expectation" unless a condition holds."""
    if not condition:
        raise UserError(f"{type(config).__name__}.{field} = {getattr(config, field)!r} {expectation}")


def check_annotations(config: Any) -> None:
    """Raises UserError for a word that is no choice of its field, or a number that is not whole or not finite."""
    for field, options in _options(cast(Any, type(config))).items():
        words = [word for option in options if typing.get_origin(option) is Literal for word in typing.get_args(option)]
        value = getattr(config, field)
        if words and value not in words and not (float in options and isinstance(value, int | float)):
            raise UserError(f"{type(config).__name__}.{field} = {value!r}{nearest(str(value), words)}")
    for field, options in _options(cast(Any, type(config))).items():
        value = getattr(config, field)
        if isinstance(value, str) and any(typing.get_origin(option) is Literal for option in options):
            continue
        if value is None and type(None) in options:
            continue
        for option, (fits, expectation) in _KINDS.items():
            if option in options:
                require(config, field, fits(value), expectation)
                break


def check_positive(config: Any, fields: Iterable[str]) -> None:
    """Raises UserError for a field that is set and not above 0."""
    for field in fields:
        require(config, field, getattr(config, field) is None or getattr(config, field) > 0, "must be positive")


def check_not_negative(config: Any, fields: Iterable[str]) -> None:
    """Raises UserError for a field below 0."""
    for field in fields:
        require(config, field, (getattr(config, field) or 0) >= 0, "must not be negative")


def check_at_most(config: Any, limits: Mapping[str, int]) -> None:
    """Raises UserError for a field above its limit."""
    for field, most in limits.items():
        require(config, field, (getattr(config, field) or 0) <= most, f"must be at most {most:,}")


def is_finite(value: Any) -> bool:
    """Returns whether a value is a number, and finite."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any) -> bool:
    """Returns whether a value is a whole number."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


# A field may allow words or None besides.
_KINDS: dict[type, tuple[Callable[[Any], bool], str]] = {
    float: (is_finite, "must be a finite number"),
    bool: (lambda value: isinstance(value, bool), "must be True or False"),
    int: (is_whole, "must be a whole number"),
}


@functools.cache
def _options(cls: type) -> dict[str, tuple[Any, ...]]:
    """Returns the types that each field may have."""
    unions = typing.Union, types.UnionType
    hints = typing.get_type_hints(cls).items()
    return {name: typing.get_args(hint) if typing.get_origin(hint) in unions else (hint,) for name, hint in hints}
