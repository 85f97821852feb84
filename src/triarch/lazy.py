"""Imports put off until something of them is used: configs are built and described without waiting for jax.

A file that only describes computations writes, in place of `import jax`:

    if TYPE_CHECKING:
        import jax
    else:
        jax = lazy.module("jax")
"""

from __future__ import annotations

import importlib
import types
from collections.abc import Callable, Mapping
from typing import Any


class _Module(types.ModuleType):
    """A module that is imported, with `submodules`, when an attribute of it is asked for; the attribute is kept."""

    submodules: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        for submodule in self.submodules:
            importlib.import_module(f"{self.__name__}.{submodule}")
        value = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, value)
        return value


def module(name: str, *submodules: str) -> types.ModuleType:
    """Returns the module `name`, which is imported when an attribute of it is first asked for.

    Args:
      name: of the module.
      submodules: those of its modules that must be imported by name too.
    """
    found = _Module(name)
    found.submodules = submodules
    return found


def names_from(package: str, modules: Mapping[str, tuple[str, ...]]) -> Callable[[str], Any]:
    """Returns the `__getattr__` of a package that imports a name's module when the name is asked for.

    Args:
      package: its `__name__`.
      modules: the names that each of its modules gives.
    """
    homes = {name: module for module, names in modules.items() for name in names}

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return get
