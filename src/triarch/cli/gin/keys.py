"""Every key that gin files and flags can set, with its type, default and meaning, out of the config classes."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Sequence
from typing import Any

from triarch.cli.gin.files import configurables
from triarch.errors import UserError, nearest
from triarch.fields import described
from triarch.registry import missing_members

_WIDTH = 118
_INTRODUCTION = """# What gin files and flags can set

Generated from the docstrings of the config classes; `triarch describe --keys [CLASS]` prints the same. Set a key in a
gin file, `RunConfig.steps = 100`, or with a flag, `--gin.RunConfig.steps=100`.

A gin file is data. It holds bindings of these keys (`SCOPE/CLASS.FIELD = VALUE`, or a block of them), macros (`NAME =
VALUE`, used as `%NAME`), references to these classes (`@CLASS()`, `@SCOPE/CLASS()`) and includes. It imports nothing:
modules are named with `--module` ([extending.md](extending.md)). An included file is looked for beside the file that
includes it, then in gin_configs/; a file that you name on the command line may also include by absolute path, by `..`
and relative to the current folder. The `config.gin` of a run and the `model.gin` of an export may not, whoever names
them; triarch itself reads a run's `config.json`."""


@dataclasses.dataclass(frozen=True)
class Key:
    """A field of a config class.

    Attributes:
      key: "CLASS.FIELD".
      type: in words.
      default: as gin has it; None where a value must be given.
      meaning: from the class's docstring.
    """

    key: str
    type: str
    default: str | None
    meaning: str


def list_keys(chosen: str = "") -> list[Key]:
    """Returns the keys of one config class, or of all.

    Raises:
      UserError: there is no such class.
    """
    classes = configurables()
    if chosen and chosen not in classes:
        raise UserError(f"--keys {chosen}: no config class of that name{nearest(chosen, classes)}")
    return [key for name, cls in classes.items() if chosen in ("", name) for key in _of_class(cls)]


def lines(found: Sequence[Key]) -> list[str]:
    """Returns keys as text, class by class."""
    classes, text, name = configurables(), [], None
    for key in found:
        if (owner := key.key.split(".")[0]) != name:
            name = owner
            text += [*([""] if text else []), *textwrap.wrap(f"{owner}: {summary(classes[owner])}", _WIDTH)]
        default = "required" if key.default is None else f"= {key.default}"
        text.append(f"  {key.key}  {default}  ({key.type})")
        text += textwrap.wrap(key.meaning, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return text


def page() -> str:
    """Returns docs/gin_keys.md."""
    text = [_INTRODUCTION]
    for name, cls in configurables().items():
        text += ["", f"## {name}", "", summary(cls)]
        if found := _of_class(cls):
            text += ["", "| key | type | default | meaning |", "|---|---|---|---|"]
        for key in found:
            default = "required" if key.default is None else f"`{key.default}`"
            cells = (f"`{key.key}`", key.type, default, key.meaning)
            text.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(text) + "\n"


def summary(cls: type) -> str:
    """Returns the first paragraph of a class's docstring on one line."""
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())


def _of_class(cls: type) -> list[Key]:
    hints, meanings = typing.get_type_hints(cls, include_extras=True), _meanings(cls)
    return [
        Key(f"{cls.__name__}.{field.name}", _type(hints[field.name]), _default(field), meanings.get(field.name, ""))
        for field in dataclasses.fields(cls)
        if field.init
    ]


def _meanings(cls: type) -> dict[str, str]:
    """Returns what the Attributes sections of a class and its bases say of each field."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        section = re.search(r"^Attributes:\n((?:[ ]+.*\n?|\n)*)", inspect.cleandoc(base.__doc__ or ""), re.MULTILINE)
        entries = re.split(r"^  (?=\w+: )", section[1], flags=re.MULTILINE)[1:] if section else []
        for entry in entries:
            name, _, meaning = entry.partition(": ")
            found[name] = " ".join(meaning.split())
    return found


def _type(hint: Any) -> str:
    if not getattr(hint, "_is_protocol", False):
        options = [option for option in typing.get_args(hint) if getattr(option, "_is_protocol", False)]
        text = described(hint)
        for option in options:
            text = text.replace(described(option), _type(option))
        return text
    fitting = [f"@{name}()" for name, cls in configurables().items() if not missing_members(cls, hint)]
    return " or ".join(fitting) or described(hint)


def _default(field: dataclasses.Field) -> str | None:
    if field.default_factory is not dataclasses.MISSING:
        return _shown(field.default_factory())
    return None if field.default is dataclasses.MISSING else _shown(field.default)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))}{',' * (len(value) == 1)})"
    return f"@{type(value).__name__}()" if dataclasses.is_dataclass(value) else repr(value)
