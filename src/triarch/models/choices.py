"""The parts that a config can choose for its layers: triarch's own, and those of users' modules."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from triarch import registry
from triarch.errors import UserError
from triarch.models.config import ModelConfig
from triarch.models.layers.experts import Experts
from triarch.models.layers.parts import FeedForwardPart, MixerPart
from triarch.models.recurrent.mamba2 import Mamba2
from triarch.models.recurrent.retention import Retention
from triarch.models.recurrent.rwkv import RwkvChannelMix, RwkvTimeMix

MIXERS: dict[str, type] = {cls.__name__: cls for cls in (Mamba2, Retention, RwkvTimeMix)}
FEED_FORWARDS: dict[str, type] = {cls.__name__: cls for cls in (Experts, RwkvChannelMix)}
# Fields of `ModelConfig` that hold a chosen part, with the kind of it and triarch's own.
_CHOSEN = {"mixer": ("mixer", MIXERS), "feed_forward": ("feed-forward layer", FEED_FORWARDS)}


def register_mixer(cls: type) -> type:
    """Makes a mixer of one's own known to gin files, runs and exports; a decorator, returns the class.

    Args:
      cls: a frozen dataclass with the members of `MixerPart`, which `ModelConfig.mixer` can be set to.

    Raises:
      UserError: it lacks one, or its name is taken.
    """
    return registry.register(cls, "mixer", MixerPart, [*MIXERS, *FEED_FORWARDS])


def register_feed_forward(cls: type) -> type:
    """Makes a feed-forward layer of one's own known to gin files, runs and exports; as `register_mixer`.

    Args:
      cls: a frozen dataclass with the members of `FeedForwardPart`, which `ModelConfig.feed_forward` can be set to.

    Raises:
      UserError: it lacks one, or its name is taken.
    """
    return registry.register(cls, "feed-forward layer", FeedForwardPart, [*MIXERS, *FEED_FORWARDS])


def own_parts() -> list[type]:
    """Returns triarch's own classes of parts."""
    return [*MIXERS.values(), *FEED_FORWARDS.values()]


def to_plain(config: ModelConfig) -> dict[str, Any]:
    """Returns a config as JSON holds it: fields by name, chosen parts with their class and where it comes from."""
    return dataclasses.asdict(config) | {field: _plain(getattr(config, field)) for field in _CHOSEN}


def chosen_parts(fields: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Returns the parts that a config in JSON chooses, by field of `ModelConfig`.

    Args:
      fields: as `to_plain` makes them.
      owner: what holds them, for the message.

    Raises:
      UserError: a class or a field of it is unknown.
    """
    return {
        field: _part(fields[field], kind, own, f"{owner}: ModelConfig.{field}")
        for field, (kind, own) in _CHOSEN.items()
        if fields.get(field) is not None
    }


def _plain(part: Any) -> dict[str, Any] | None:
    if part is None:
        return None
    origin = registry.origin(type(part))
    return {"class": type(part).__name__, **({registry.ORIGIN: origin} if origin else {}), **dataclasses.asdict(part)}


def _part(fields: Any, kind: str, own: Mapping[str, type], owner: str) -> Any:
    if not isinstance(fields, Mapping):
        raise UserError(f"{owner} = {str(fields)[:60]!r}: expected a {kind}")
    cls = registry.find(fields, {**own, **registry.registered(kind)}, kind, owner)
    try:
        return cls(**{key: value for key, value in fields.items() if key not in ("class", registry.ORIGIN)})
    except TypeError as error:
        raise UserError(f"{owner}: {cls.__name__}: {error}") from None
