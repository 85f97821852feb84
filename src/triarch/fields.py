"""Fields of configs: what their annotations promise, checked in one place.

    @dataclasses.dataclass(frozen=True)
    class Sketch:
        width: PositiveInt
        rate: Annotated[float, Limits(above=0, most=1)] = 0.1
        kind: Literal["dense", "sparse"] = "dense"

`check(value)` raises one line that names class and field, what was expected, and the nearest word.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, cast

from triarch.errors import UserError, nearest
from triarch.registry import missing_members

# Of an array's dimension, and of the counter of steps: they are int32.
MOST_SIZE = 2**31 - 1
_MOST_CHARACTERS = 160


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of a number, in an annotation: `Annotated[float, Limits(least=0, below=1)]`.

    Attributes:
      least: the least that it may be.
      above: what it must be above.
      most: the most that it may be.
      below: what it must be below.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def hold(self, value: Any) -> bool:
        """Returns whether a number keeps to them."""
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def described(self, noun: str) -> str:
        """Returns "a number from 0 to 1" of the noun "a number"."""
        # The greatest number that an array can count says nothing of the field.
        most = None if self.most == MOST_SIZE else self.most
        if self.above == 0 and most is None and self.below is None:
            return "a positive number"
        start = f"above {_written(self.above)}" if self.above is not None else ""
        start = f"from {_written(self.least)}" if self.least is not None else start
        if self.below is None:
            if most is None:
                return f"{noun} {start}{' on' if self.least is not None else ''}"
            return f"{noun} {start} to {_written(most)}" if start else f"{noun} up to {_written(most)}"
        if not start:
            return f"{noun} below {_written(self.below)}"
        return f"{noun} {start} {'to' if self.least is not None else 'and'} below {_written(self.below)}"


Size = Annotated[int, Limits(least=1, most=MOST_SIZE)]
Count = Annotated[int, Limits(least=0, most=MOST_SIZE)]
Seed = Annotated[int, Limits(least=0, most=2**32 - 1)]
Positive = Annotated[float, Limits(above=0)]
NotNegative = Annotated[float, Limits(least=0)]
Share = Annotated[float, Limits(least=0, most=1)]
# Of moments, and of dropout: 1 would keep nothing of what comes.
BelowOne = Annotated[float, Limits(least=0, below=1)]


def check(config: Any, deep: bool = False, name: Callable[[str], str] | None = None) -> None:
    """Raises UserError, naming class and field, where a value is not what its field's annotation says.

    Args:
      config: a dataclass.
      deep: whether the dataclasses in its fields are checked, too.
      name: how a field is named in messages, by default "CLASS.FIELD = ".
    """
    for field, hint in _hints(cast(Any, type(config))).items():
        value = getattr(config, field)
        fault = _fault(value, hint)
        if fault is not None and name is not None:
            raise UserError(f"{name(field)}{value}{fault}")
        if fault is not None:
            raise UserError(f"{type(config).__name__}.{field} = {shown(value)}{fault}")
        for part in _parts(value) if deep else ():
            check(part, deep)


def check_options(options: Any) -> None:
    """Raises UserError, naming the flag, for an option that is out of range; as `check`."""
    check(options, name=lambda field: f"--{field}=")


def require(config: Any, field: str, condition: Any, expectation: str) -> None:
    """Raises UserError "CLASS.FIELD = VALUE expectation" unless a condition holds."""
    if not condition:
        raise UserError(f"{type(config).__name__}.{field} = {getattr(config, field)!r} {expectation}")


def is_finite(value: Any) -> bool:
    """Returns whether a value is a number, and finite."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # A whole number above all floats.
        return False


def is_whole(value: Any) -> bool:
    """Returns whether a value is a whole number."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """Returns a value as the user wrote it: a class stands for a reference without its parentheses."""
    if isinstance(value, type):
        return f"@{value.__name__}"
    if dataclasses.is_dataclass(value):
        return f"@{type(value).__name__}()"
    text = repr(value)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."


def described(hint: Any) -> str:
    """Returns the type of a field in words."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in _UNIONS:
        return " or ".join(described(option) for option in options)
    if origin is Literal:
        return " or ".join(map(repr, options))
    if origin is Annotated:
        limits = _limits(hint)
        return limits.described(described(options[0])) if limits else described(options[0])
    if origin in (tuple, Sequence):
        return f"a tuple, each {described(options[0])}"
    if origin is Mapping:
        return f"a mapping of {described(options[0])} to {described(options[1])}"
    if hint in _NOUNS:
        return _NOUNS[hint]
    name = f"@{hint.__name__}()"
    return name if dataclasses.is_dataclass(hint) else f"a reference with parentheses, {name}"


_UNIONS = (typing.Union, types.UnionType)
_NOUNS = {int: "a whole number", float: "a number", bool: "True or False", str: "a string", type(None): "None"}


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _fault(value: Any, hint: Any) -> str | None:
    """Returns what is wrong with a value, as the end of a line that begins with it; None if it is right."""
    if _fits(value, hint):
        return None
    options = typing.get_args(hint) if typing.get_origin(hint) in _UNIONS else (hint,)
    choices = [option for option in options if typing.get_origin(option) is Literal]
    words = [word for option in choices for word in typing.get_args(option) if isinstance(word, str)]
    near = nearest(value, words) if words and isinstance(value, str) else ""
    if near and ("did you mean" in near or {*options} <= {*choices, type(None)}):
        return near
    for option in options:
        limits = _limits(option)
        if limits and limits.most is not None and _fits(value, typing.get_args(option)[0]) and value > limits.most:
            return f": expected at most {_written(limits.most)}"
    return f": expected {described(hint)}"


def _fits(value: Any, hint: Any) -> bool:
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in _UNIONS:
        return any(_fits(value, option) for option in options)
    if origin is Literal:
        return value in options
    if origin is Annotated:
        limits = _limits(hint)
        return _fits(value, options[0]) and (limits is None or limits.hold(value))
    if origin in (tuple, Sequence):
        return (
            isinstance(value, origin) and not isinstance(value, str) and all(_fits(item, options[0]) for item in value)
        )
    if origin is Mapping:
        return isinstance(value, Mapping) and all(
            _fits(part, option) for item in value.items() for part, option in zip(item, options, strict=True)
        )
    if hint is type(None):
        return value is None
    if getattr(hint, "_is_protocol", False):
        is_config = dataclasses.is_dataclass(value) and not isinstance(value, type)
        return is_config and not missing_members(type(value), hint)
    if hint is int:
        return is_whole(value)
    if hint is float:
        # JSON has no word for infinity: a run's config.json could not say it.
        return is_finite(value)
    return isinstance(value, origin or hint)


def _limits(hint: Any) -> Limits | None:
    if typing.get_origin(hint) is not Annotated:
        return None
    return next((extra for extra in hint.__metadata__ if isinstance(extra, Limits)), None)


def _parts(value: Any) -> Iterator[Any]:
    """Yields the dataclasses of a field."""
    for part in value if isinstance(value, tuple) else (value,):
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            yield part


def _written(number: float) -> str:
    return f"{number:,}" if is_whole(number) else f"{number:g}"
