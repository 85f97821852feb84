"""Values of config classes out of what gin files and flags bind, with gin's rules for scopes and macros."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from triarch.cli.gin.statements import Binding, Macro, Reference, parts, shortened
from triarch.cli.gin.t5x_names import IN_TRIARCH
from triarch.errors import UserError, nearest
from triarch.fields import check

# A config has some dozens of parts; a file that asks for so many was made to fill the memory.
_MOST_PARTS = 100_000
_MOST_DEPTH = 40


class GinValues:
    """What gin files and flags describe; the last binding of a field holds."""

    def __init__(self, bindings: Sequence[Binding], classes: Mapping[str, type]):
        """Takes bindings in order, and the config classes by name.

        Raises:
          UserError: a binding names a class or field that does not exist.
        """
        self._classes = classes
        self._bindings = bindings
        self._fields: dict[tuple[str, str], dict[str, Binding]] = collections.defaultdict(dict)
        self._macros: dict[str, Binding] = {}
        self._built: set[tuple[str, str]] = set()
        self._count = 0
        for binding in bindings:
            for part in parts(binding.value):
                if isinstance(part, Reference):
                    self._check_class(part.name, binding)
            if binding.owner:
                self._check_field(binding)
                self._fields[binding.scope, binding.owner][binding.field] = binding
            else:
                self._macros[binding.key] = binding

    def bound(self, owner: str, field: str) -> bool:
        """Returns whether a field is bound, outside of any scope."""
        return field in self._fields.get(("", owner), {})

    def check_macros(self) -> None:
        """Raises UserError for a binding without a class that nothing refers to, where a class was meant."""
        used = {part.name for binding in self._bindings for part in parts(binding.value) if isinstance(part, Macro)}
        for key, binding in self._macros.items():
            if key in used:
                continue
            name, shown = binding.field, shortened(key)
            if name in IN_TRIARCH:
                raise UserError(f"{binding.where}: {shown} is T5X's, and nothing here uses it; {IN_TRIARCH[name]}")
            if name in self._classes:
                raise UserError(f"{binding.where}: {shown} names no field: expected {name}.FIELD = VALUE")
            owners = [f"{owner}.{name}" for owner, cls in self._classes.items() if name in _names(cls)]
            if owners:
                meant = " or ".join(map(repr, owners[:3]))
                raise UserError(f"{binding.where}: {shown} names no config class (did you mean {meant}?)")
            if binding.flag:
                fields = [f"{owner}.{field}" for owner, cls in self._classes.items() for field in _names(cls)]
                near = nearest(name, {field.split(".")[1] for field in fields})
                near = near if "did you mean" in near else ""
                raise UserError(f"{binding.where}: {shown} names no config class, and no %{shown} refers to it{near}")

    def build(self, name: str) -> Any:
        """Returns the value of the class `name`.

        Raises:
          UserError: a required field was set nowhere, a value does not fit its field, or values refer to themselves.
        """
        self._count = 0
        value = self._construct(name, "", 0)
        check(value, deep=True)
        return value

    def field(self, owner: str, field: str) -> Any | None:
        """Returns the value bound to a field outside of any scope, None if there is none; raises as `build`."""
        if not self.bound(owner, field):
            return None
        self._count = 0
        binding = self._fields["", owner][field]
        value = self._resolve(binding.value, "", 0, binding)
        if dataclasses.is_dataclass(value):
            check(value, deep=True)
        return value

    def unused(self) -> list[Binding]:
        """Returns the bindings the user made that had no effect on anything built so far, with none of their class."""

        def applied(binding: Binding) -> bool:
            prefix = f"{binding.scope}/" if binding.scope else ""
            return any(name == binding.owner and f"{scope}/".startswith(prefix) for name, scope in self._built)

        return [binding for binding in self._bindings if binding.named and binding.owner and not applied(binding)]

    def no_effect(self, binding: Binding) -> str:
        """Returns the line that says why a binding of `unused` had no effect, and what may have been meant."""
        others = {name for name, _ in self._built if name != binding.owner or binding.scope}
        near = [f"{name}.{binding.field}" for name in sorted(others) if binding.field in _names(self._classes[name])]
        meant = " or ".join(map(repr, near[:3]))
        name = binding.key.removesuffix(f".{binding.field}")
        hint = f"did you mean {meant}?" if near else f"refer to it with @{name}()"
        return f"{binding.where}: {binding.key} has no effect: nothing here is @{name}() ({hint})"

    def _construct(self, name: str, scope: str, depth: int) -> Any:
        if depth > _MOST_DEPTH:
            raise UserError(f"@{name}() holds itself, or values nested more than {_MOST_DEPTH} deep")
        self._built.add((name, scope))
        bound: dict[str, Binding] = {}
        around = scope.split("/") if scope else []
        for length in range(len(around) + 1):
            bound |= self._fields.get(("/".join(around[:length]), name), {})
        cls = self._classes[name]
        required = [field.name for field in dataclasses.fields(cls) if field.init and not _has_default(field)]
        if missing := [field for field in required if field not in bound]:
            names = ", ".join(f"{name}.{field}" for field in missing)
            raise UserError(f"no value for {names}: set it in a gin file or with --gin.NAME=VALUE")
        values = {field: self._resolve(binding.value, scope, depth + 1, binding) for field, binding in bound.items()}
        try:
            return cls(**values)
        except UserError:
            raise
        except Exception as error:  # A class of the user's own may raise anything.
            raise UserError(f"@{name}(): {type(error).__name__}: {shortened(str(error))}") from error

    def _resolve(self, value: Any, scope: str, depth: int, binding: Binding) -> Any:
        """Returns a bound value with references built and macros replaced."""
        self._count += 1
        if self._count > _MOST_PARTS:
            raise UserError(
                f"{binding.where}: {binding.key} and what it refers to are more than {_MOST_PARTS:,} values"
            )
        if isinstance(value, Reference):
            if not value.evaluate:
                return self._classes[value.name]
            return self._construct(value.name, value.scope or scope, depth)
        if isinstance(value, Macro):
            if value.name not in self._macros:
                raise UserError(
                    f"{binding.where}: no macro %{shortened(value.name)}{nearest(value.name, self._macros)}"
                )
            if depth > _MOST_DEPTH:
                raise UserError(f"{binding.where}: %{shortened(value.name)} holds itself")
            return self._resolve(self._macros[value.name].value, scope, depth + 1, self._macros[value.name])
        if isinstance(value, list | tuple):
            return type(value)(self._resolve(item, scope, depth, binding) for item in value)
        if isinstance(value, dict):
            items = ((self._resolve(part, scope, depth, binding) for part in item) for item in value.items())
            return dict(map(tuple, items))
        return value

    def _check_class(self, name: str, binding: Binding) -> None:
        if name in self._classes:
            return
        known, near = IN_TRIARCH.get(name.rsplit(".", 1)[-1]), nearest(name, self._classes)
        if known is not None:
            hint = f" ({known})"
        elif "did you mean" in near:
            hint = near
        else:
            hint = " (`triarch describe --keys` lists them; your own need --module=MODULE)"
        raise UserError(f"{binding.where}: no config class {shortened(name)!r}{hint}")

    def _check_field(self, binding: Binding) -> None:
        self._check_class(binding.owner, binding)
        names = _names(self._classes[binding.owner])
        if binding.field not in names:
            hint = nearest(binding.field, names)
            raise UserError(f"{binding.where}: {binding.owner} has no field {shortened(binding.field)!r}{hint}")


def _names(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls) if field.init]


def _has_default(field: dataclasses.Field) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
