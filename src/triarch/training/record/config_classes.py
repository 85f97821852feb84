"""The classes that a run's config is made of, and what their fields are where nobody sets them."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Mapping
from typing import Any

from triarch import registry
from triarch.data.mixture import MixturePhase, StoreMixture
from triarch.models import LoRA, RopeScaling
from triarch.models.choices import own_parts
from triarch.objectives import OBJECTIVES
from triarch.sharding import ActivationRules, ParameterRules
from triarch.training.config import RunConfig
from triarch.training.optimizers.optimizer import OPTIMIZERS
from triarch.training.optimizers.schedules import SCHEDULES
from triarch.training.phases.phase import BatchWarmup, Phase


def config_classes() -> dict[str, type]:
    """Returns the classes that a run's config may hold, by name: triarch's own and those of users' modules."""
    return _own_classes() | registry.registered()


def to_plain(value: Any) -> Any:
    """Returns a config as nested dicts, lists and scalars, each dataclass with its name under "class".

    A class of a user's own module also says which, see `registry.origin`.
    """
    if dataclasses.is_dataclass(value):
        fields = {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        origin = registry.origin(type(value))
        return {"class": type(value).__name__, **({registry.ORIGIN: origin} if origin else {}), **fields}
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


def completed(plain: Any) -> Any:
    """Returns plain values with the defaults of fields that they lack, as those written by an older triarch may."""
    if isinstance(plain, list):
        return [completed(item) for item in plain]
    if not isinstance(plain, Mapping):
        return plain
    return {**_defaults(plain, config_classes()), **{name: completed(item) for name, item in plain.items()}}


def without_defaults(plain: Any) -> Any:
    """Returns plain values without the fields that are at their defaults.

    So a field that is added to triarch changes nothing of what stands for a config. Classes of users' modules stay
    whole: they are not always imported.
    """
    if isinstance(plain, list):
        return [without_defaults(item) for item in plain]
    if not isinstance(plain, Mapping):
        return plain
    defaults = _defaults(plain, _own_classes())
    return {
        name: without_defaults(item)
        for name, item in plain.items()
        if name not in defaults or completed(item) != completed(defaults[name])
    }


@functools.cache
def _own_classes() -> dict[str, type]:
    fixed: list[Any] = [hint for hint in typing.get_type_hints(RunConfig).values() if dataclasses.is_dataclass(hint)]
    parts = (
        StoreMixture,
        MixturePhase,
        Phase,
        BatchWarmup,
        RopeScaling,
        LoRA,
        *own_parts(),
        ParameterRules,
        ActivationRules,
    )
    chosen = (*OPTIMIZERS.values(), *SCHEDULES.values())
    return {cls.__name__: cls for cls in (RunConfig, *fixed, *parts, *OBJECTIVES.values(), *chosen)}


def _defaults(plain: Mapping[str, Any], classes: Mapping[str, type]) -> dict[str, Any]:
    """Returns the plain defaults of the fields of the class that plain values are of; none of an unknown one."""
    name = plain.get("class")
    cls = classes.get(name) if isinstance(name, str) else None
    return {} if cls is None else _defaults_of(cls)


@functools.cache
def _defaults_of(cls: type) -> dict[str, Any]:
    found = {}
    for field in dataclasses.fields(cls):
        if field.default_factory is not dataclasses.MISSING:
            found[field.name] = to_plain(field.default_factory())
        elif field.default is not dataclasses.MISSING:
            found[field.name] = to_plain(field.default)
    return found
