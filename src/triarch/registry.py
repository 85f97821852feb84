"""Classes that a user's own modules add to triarch: objectives, optimizers, schedules and parts of layers.

The rooms that know what such a class must offer have the decorators, `triarch.register_objective` and so on; here is
kept what was registered, and which module it came from, so that a run can say what it needs.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from triarch.errors import UserError, nearest
from triarch.files import sha256

# In a config as plain values, beside "class": where a class that is not triarch's own comes from. No field can have
# this name, being a word of Python's.
ORIGIN = "from"


@dataclasses.dataclass(frozen=True)
class _Registered:
    cls: type
    kind: str
    module: str
    sha256: str | None

    @property
    def origin(self) -> dict[str, Any]:
        return {"module": self.module, "sha256": self.sha256}


_REGISTERED: dict[str, _Registered] = {}


def register(cls: type, kind: str, protocol: type, own: Iterable[str]) -> type:
    """Adds a class; returns it.

    Args:
      cls: a frozen dataclass.
      kind: "objective", "optimizer", "schedule", "mixer" or "feed-forward layer".
      protocol: what it must offer.
      own: names of triarch's own classes of this kind.

    Raises:
      UserError: it is no frozen dataclass, lacks a member of the protocol, or its name is taken.
    """
    name, module = cls.__name__, cls.__module__
    if not dataclasses.is_dataclass(cls) or not cast(Any, cls).__dataclass_params__.frozen:
        raise UserError(f"{module}.{name}: expected a frozen dataclass (@dataclasses.dataclass(frozen=True))")
    if missing := missing_members(cls, protocol):
        raise UserError(f"{module}.{name}: for a class of kind {kind} it lacks {', '.join(missing)}")
    other = _REGISTERED.get(name)
    owner = "triarch" if name in own else f"module {other.module}" if other and other.module != module else None
    if owner is not None:
        raise UserError(f"{module}.{name}: {owner} has a class of that name: choose another")
    file = getattr(sys.modules.get(module), "__file__", None)
    _REGISTERED[name] = _Registered(cls, kind, module, sha256(Path(file)) if file else None)
    return cls


def registered(kind: str | None = None) -> dict[str, type]:
    """Returns the classes that users' modules registered, by name; those of one kind, or all."""
    return {name: found.cls for name, found in _REGISTERED.items() if kind in (None, found.kind)}


def forget(module: str) -> None:
    """Takes back what a module registered, as when it is imported anew."""
    for name in [name for name, found in _REGISTERED.items() if found.module == module]:
        del _REGISTERED[name]


def origin(cls: type) -> dict[str, Any] | None:
    """Returns {"module": name, "sha256": of its source} for a class that a user's module registered, else None."""
    found = _REGISTERED.get(cls.__name__)
    return found.origin if found is not None and found.cls is cls else None


def find(fields: Mapping[str, Any], classes: Mapping[str, type], kind: str, owner: str) -> type:
    """Returns the class of a config given as {"class": name, field: value, ...}.

    Args:
      fields: plain values, as config.json holds them.
      classes: to choose from, by name.
      kind: of class, for the message.
      owner: what holds the config, for the message.

    Raises:
      UserError: there is none of that name; names the module that has it, if that is known.
    """
    check_origins(fields, owner, deep=False)
    name = fields.get("class")
    if not isinstance(name, str) or name not in classes:
        raise UserError(f"{owner}: no {kind} {name!r}{nearest(str(name), classes)}")
    return classes[name]


def check_origins(plain: Any, owner: str, deep: bool = True) -> None:
    """Makes sure that modules which a config needs were imported; says so where one has changed since.

    Args:
      plain: a config as plain values.
      owner: what holds the config, for the message.
      deep: whether to check the parts of the config too.

    Raises:
      UserError: a module is missing.
    """
    for fields in _configs(plain) if deep else [plain]:
        recorded, name = fields.get(ORIGIN), fields.get("class")
        if not isinstance(recorded, Mapping):
            continue
        found = _REGISTERED.get(str(name))
        module = str(recorded.get("module"))[:80]
        if found is None:
            raise UserError(
                f"{owner} needs {str(name)[:80]} of a module: give --module={module}, or the path of its file"
            )
        if found.sha256 != recorded.get("sha256"):
            _say_changed(owner, found.module, found.cls.__name__)


@functools.cache  # Whatever asks again, once is enough.
def _say_changed(owner: str, module: str, name: str) -> None:
    print(
        f"triarch: {owner}: the module {module} has changed since {name} was recorded: results may differ",
        file=sys.stderr,
    )


def _configs(plain: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(plain, Mapping):
        yield plain
    for item in plain.values() if isinstance(plain, Mapping) else plain if isinstance(plain, list | tuple) else ():
        yield from _configs(item)


def missing_members(cls: type, protocol: type) -> list[str]:
    """Returns the public members of a protocol that a dataclass lacks, sorted."""
    wanted = set()
    for base in protocol.__mro__:
        if getattr(base, "_is_protocol", False):
            wanted |= {*vars(base), *vars(base).get("__annotations__", {})}
    wanted = {name for name in wanted if not name.startswith("_") or name == "__call__"}
    # A class itself can be called whatever it defines, so `hasattr` would not do.
    there = {name for base in cls.__mro__ for name in vars(base)}
    there |= {field.name for field in dataclasses.fields(cls)}
    return sorted(wanted - there)
