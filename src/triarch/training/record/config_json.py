"""A run's config read from its config.json: plain data, from which no code comes."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triarch import registry, schema
from triarch.errors import UserError, brief, nearest
from triarch.schema import Anything, MapOf
from triarch.training.config import RunConfig
from triarch.training.record.config_classes import config_classes
from triarch.training.record.fingerprint import CONFIG_JSON


def read_config(workdir: Path, classes: Mapping[str, type] | None = None) -> RunConfig:
    """Returns the config of the run in a folder, from its config.json.

    Args:
      workdir: the run folder.
      classes: by name, those that a config may hold; None for `config_classes`.

    Raises:
      UserError: there is no run, or its config.json is damaged or names a class or field that is not there.
    """
    return from_plain(read_json(workdir), str(workdir / CONFIG_JSON), classes)


def read_json(workdir: Path) -> dict[str, Any]:
    """Returns what a run folder's config.json holds.

    Raises:
      UserError: there is none, or it is not the config of a run.
    """
    path = workdir / CONFIG_JSON
    try:
        fields = schema.read(path, MapOf(Anything()))
    except (FileNotFoundError, NotADirectoryError):
        there = f"holds no run: there is no {CONFIG_JSON}" if workdir.is_dir() else "no such run folder"
        raise UserError(f"{workdir}: {there}") from None
    if fields.get("class") != RunConfig.__name__:
        raise UserError(f"{path}: not the config of a run")
    return fields


def check_modules(workdir: Path) -> None:
    """Makes sure that the modules which a run folder's config names were imported; a folder without one needs none.

    Raises:
      UserError: one is missing, or config.json is damaged.
    """
    if (workdir / CONFIG_JSON).is_file():
        registry.check_origins(read_json(workdir), str(workdir))


def from_plain(fields: Mapping[str, Any], where: str, classes: Mapping[str, type] | None = None) -> RunConfig:
    """Returns the run that plain values describe; what they hold beside RunConfig's own fields is passed over.

    Args:
      fields: as `config_classes.to_plain` makes them.
      where: what holds them, for messages.
      classes: see `read_config`.

    Raises:
      UserError: a class or field is unknown, or a value is not of its field's type.
    """
    names = {field.name for field in dataclasses.fields(RunConfig)}
    own = {name: value for name, value in fields.items() if name in names}
    return _built(RunConfig, own, where, config_classes() if classes is None else classes)


def _built(cls: type, fields: Mapping[str, Any], where: str, classes: Mapping[str, type]) -> Any:
    hints = typing.get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls)]
    for name in fields:
        if name not in known:
            raise UserError(f"{where}: {cls.__name__} has no field {name!r}{nearest(name, known)}")
    owner = f"{where}: {cls.__name__}"
    for field in dataclasses.fields(cls):
        is_required = field.default is field.default_factory is dataclasses.MISSING
        if field.init and is_required and field.name not in fields:
            raise UserError(f"{owner}.{field.name} is missing")
    values = {name: _value(value, hints[name], f"{owner}.{name}", where, classes) for name, value in fields.items()}
    try:
        return cls(**values)
    except UserError:
        raise
    except Exception as error:  # A class of the user's own may raise anything.
        raise UserError(f"{owner}: {brief(error) or type(error).__name__}") from error


def _value(plain: Any, hint: Any, field: str, where: str, classes: Mapping[str, type]) -> Any:
    """Returns the value of a field of type `hint`: a dataclass of `classes`, a tuple, a mapping or a scalar."""
    if isinstance(plain, Mapping) and "class" in plain:
        cls = registry.find(plain, classes, "config class", field)
        if not any(_takes(option, cls) for option in _options(hint)):
            raise UserError(f"{field}: {cls.__name__} does not go there")
        own = {key: item for key, item in plain.items() if key not in ("class", registry.ORIGIN)}
        return _built(cls, own, where, classes)
    for option in _options(hint):
        origin, arguments = typing.get_origin(option), typing.get_args(option)
        if origin is tuple and isinstance(plain, list):
            return tuple(_value(item, arguments[0], field, where, classes) for item in plain)
        if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(plain, Mapping):
            return {str(key): _value(item, arguments[1], field, where, classes) for key, item in plain.items()}
        if origin is typing.Literal and isinstance(plain, str):
            return plain  # The class's own validation names the choices.
        if option is float and type(plain) in (int, float):
            return plain
        if option in (int, bool, str) and type(plain) is option:
            return plain
        if option is type(None) and plain is None:
            return None
    raise UserError(f"{field}: {str(plain)[:60]!r} is no value of that field")


def _options(hint: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def _takes(option: Any, cls: type) -> bool:
    """Whether a field of type `option` may hold a `cls`; of a protocol, it has all members."""
    if getattr(option, "_is_protocol", False):
        members = {name for name in dir(option) if not name.startswith("_")}
        return members <= {*dir(cls), *(field.name for field in dataclasses.fields(cls))}
    return isinstance(option, type) and issubclass(cls, option)
