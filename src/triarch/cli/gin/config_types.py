"""Checks that every field of a config holds what its annotation says; gin itself takes anything."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from triarch.errors import UserError
from triarch.registry import missing_members

_MOST_CHARACTERS = 160


def check_types(config: Any) -> None:
    """Raises UserError, naming class and field, where a value is not of its field's type."""
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, hint = getattr(config, field.name), hints[field.name]
        if not _fits(value, hint):
            name = f"{type(config).__name__}.{field.name}"
            raise UserError(f"{name} = {_shown(value)}: expected {described(hint)}")
        for part in value if isinstance(value, tuple) else (value,):
            if dataclasses.is_dataclass(part):
                check_types(part)


def _fits(value: Any, hint: Any) -> bool:
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in options)
    if origin is Literal:
        # The class's own validation names the nearest choice.
        return isinstance(value, str)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, options[0]) for item in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(
            _fits(part, option) for item in value.items() for part, option in zip(item, options, strict=True)
        )
    if hint is type(None):
        return value is None
    if getattr(hint, "_is_protocol", False):
        return (
            dataclasses.is_dataclass(value) and not isinstance(value, type) and not missing_members(type(value), hint)
        )
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        # JSON has no word for infinity: a run's config.json could not say it.
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, hint)


def _shown(value: Any) -> str:
    """A value as the user wrote it: a class stands for a reference without its parentheses."""
    if isinstance(value, type):
        return f"@{value.__name__}"
    if dataclasses.is_dataclass(value):
        return f"@{type(value).__name__}()"
    text = repr(value)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."


def described(hint: Any) -> str:
    """Returns the type of a field in words."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(described(option) for option in options)
    if origin is Literal:
        return " or ".join(map(repr, options))
    if origin is tuple:
        return f"a tuple of {described(options[0])}"
    if origin is Mapping:
        return f"a mapping of {described(options[0])} to {described(options[1])}"
    named = {int: "a whole number", float: "a number", bool: "True or False", str: "a string", type(None): "None"}
    if hint in named:
        return named[hint]
    name = f"@{hint.__name__}()"
    return name if dataclasses.is_dataclass(hint) else f"a reference with parentheses, {name}"
