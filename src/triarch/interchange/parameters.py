"""Whether stored tensors are those that a network has, and whether it can be built in a time worth waiting for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from triarch.errors import UserError
from triarch.models import MakeHead, ModelConfig
from triarch.models.layers.stack import repeating
from triarch.models.network import ParameterSpec

T = TypeVar("T")
# Layers that do not repeat others are built one by one, each in hundredths of a second.
_MOST_DISTINCT_LAYERS = 512


def check_distinct_layers(config: ModelConfig) -> None:
    """Raises UserError if so few layers of a valid config repeat others that it would take minutes to build them."""
    for side in ("encoder", "decoder"):
        distinct = sum(repeating(config.layer_specs(side)))
        if distinct > _MOST_DISTINCT_LAYERS:
            raise UserError(
                f"{distinct:,} {side} layers do not repeat others, at most {_MOST_DISTINCT_LAYERS} can be built"
            )


def check(expected: Mapping[str, ParameterSpec], found: Mapping[str, Iterable[int]], where: str) -> None:
    """Checks that stored tensors are those a network needs.

    Args:
      expected: of the network.
      found: shape of each stored tensor, by name.
      where: what holds them, for the message.

    Raises:
      UserError: a tensor is missing, is one too many, or has another shape (with both shapes).
    """
    for name in expected:
        if name not in found:
            raise UserError(f"{where}: tensor {name!r} {list(expected[name].shape)} is missing")
    for name in found:
        if name not in expected:
            raise UserError(f"{where}: tensor {name!r} {list(found[name])} has no place in its config's network")
    for name, spec in expected.items():
        if tuple(found[name]) != spec.shape:
            shapes = f"shape {list(found[name])}, its config makes it {list(spec.shape)}"
            raise UserError(f"{where}: tensor {name!r} has {shapes}")


def of_network(found: Mapping[str, T]) -> dict[str, T]:
    """Returns what is the network's own, by name, without the head of an objective."""
    return {name: value for name, value in found.items() if not is_of_head(name)}


def is_of_head(name: str) -> bool:
    """Returns whether a parameter is of an objective's head."""
    return name.startswith("head/")


def with_head(found: Mapping[str, T], make_head: MakeHead | None) -> dict[str, T]:
    """Returns what is stored of a network and the head that is asked for: without one, none that is stored either."""
    return dict(found) if make_head is not None else of_network(found)
