"""The config of a run folder, out of its config.json: plain data, nothing of it runs."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch import registry
from triarch.cli.config_types import check_types
from triarch.errors import UserError, nearest

if TYPE_CHECKING:
    from triarch.training import RunConfig

_MOST_BYTES = 1 << 24


def read_run_config(workdir: Path) -> RunConfig:
    """Returns the config of the run in a folder.

    Raises:
      UserError: the folder holds no run, its config.json is no config of one, or a module that it needs is missing.
    """
    from triarch.cli.gin_files import configurables
    from triarch.training import RunConfig
    from triarch.training.fingerprint import CONFIG_JSON

    path = workdir / CONFIG_JSON
    if not os.path.isfile(path):
        raise UserError(f"{workdir}: {'holds no ' + CONFIG_JSON if workdir.is_dir() else 'no such run folder'}")
    fields = _read(path)
    # Beside the config stands what identifies the data.
    names = {field.name for field in dataclasses.fields(RunConfig)}
    config = {"class": "RunConfig"} | {name: value for name, value in fields.items() if name in names}
    try:
        found = _value(config, configurables(), str(path))
        check_types(found)
    except RecursionError as error:
        raise UserError(f"{path}: nested too deeply: not the config of a run") from error
    except UserError as error:
        raise UserError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from error
    return found


def check_modules(workdir: Path) -> None:
    """Makes sure that the modules which a run folder's config names were imported; a folder without one needs none.

    Raises:
      UserError: one is missing.
    """
    from triarch.training.fingerprint import CONFIG_JSON

    path = workdir / CONFIG_JSON
    if os.path.isfile(path):
        try:
            registry.check_origins(_read(path), str(workdir))
        except RecursionError as error:
            raise UserError(f"{path}: nested too deeply: not the config of a run") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        fields = json.loads(data) if len(data) <= _MOST_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UserError(f"{path}: not readable as JSON ({reason[:160]})") from error
    if not isinstance(fields, dict):
        raise UserError(f"{path}: not the config of a run")
    return fields


def _value(plain: Any, classes: Mapping[str, type], where: str) -> Any:
    """Returns plain values as a config holds them: lists as tuples, {"class": ...} as what it describes."""
    if isinstance(plain, list):
        return tuple(_value(item, classes, where) for item in plain)
    if not isinstance(plain, dict):
        return plain
    if "class" not in plain:
        return {name: _value(item, classes, where) for name, item in plain.items()}
    cls = registry.find(plain, classes, "config class", where)
    given = {name: item for name, item in plain.items() if name not in ("class", registry.ORIGIN)}
    known = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for name in given:
        if name not in known:
            raise UserError(f"{where}: {cls.__name__} has no field {name[:80]!r}{nearest(name, known)}")
    missing = dataclasses.MISSING
    for name, field in known.items():
        if name not in given and field.default is missing and field.default_factory is missing:
            raise UserError(f"{where}: {cls.__name__}.{name} is missing")
    values = {name: _value(item, classes, where) for name, item in given.items()}
    try:
        return cls(**values)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except Exception as error:  # Values of wrong types, and classes of the user's own, raise anything.
        raise UserError(f"{where}: {cls.__name__}: {type(error).__name__}: {str(error)[:160]}") from error
