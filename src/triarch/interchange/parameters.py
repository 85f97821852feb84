"""A network's parameters as a flat table from names to arrays, and back."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Iterable, Mapping
from typing import Any

import jax
from flax import nnx

from triarch.errors import UserError
from triarch.models import Execution, ModelConfig, Transformer, abstract
from triarch.models.placing import Constrain, unconstrained
from triarch.models.stack import repeating

# Layers that do not repeat others are built one by one, each in hundredths of a second.
_MOST_DISTINCT_LAYERS = 512


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """What a network expects of one parameter.

    Attributes:
      shape: sizes of its dimensions.
      axes: logical name of each dimension; None where it has none.
    """

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]


def check_distinct_layers(config: ModelConfig) -> None:
    """Raises UserError if so few layers of a valid config repeat others that it would take minutes to build them."""
    for side in ("encoder", "decoder"):
        distinct = sum(repeating(config.layer_specs(side)))
        if distinct > _MOST_DISTINCT_LAYERS:
            raise UserError(
                f"{distinct:,} {side} layers do not repeat others, at most {_MOST_DISTINCT_LAYERS} can be built"
            )


def flatten(model: Transformer) -> dict[str, jax.Array]:
    """Returns the parameters by name: the path through the modules, joined by "/", in sorted order."""
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    return dict(sorted((_name(path), variable[...]) for path, variable in flat))


@functools.cache
def specs(config: ModelConfig) -> Mapping[str, TensorSpec]:
    """Returns name, shape and axes of every parameter that the network of `config` has; allocates nothing."""
    flat = nnx.to_flat_state(nnx.state(abstract(config, Execution()), nnx.Param))
    found = {
        _name(path): TensorSpec(tuple(variable.shape), tuple(variable.get_metadata("logical_axes")))
        for path, variable in flat
    }
    return types.MappingProxyType(dict(sorted(found.items())))


def assemble(
    config: ModelConfig,
    execution: Execution,
    tensors: Mapping[str, jax.Array],
    constrain: Constrain = unconstrained,
) -> Transformer:
    """Makes the network of `config` with the given parameters, which `check` has passed.

    Args:
      config: what the network is.
      execution: how it is computed.
      tensors: arrays by the names of `flatten`.
      constrain: places activations on a mesh.
    """
    graph, state = nnx.split(abstract(config, execution, constrain))
    filled = [(path, variable.replace(tensors[_name(path)])) for path, variable in nnx.to_flat_state(state)]
    return nnx.merge(graph, nnx.from_flat_state(filled))


def check(expected: Mapping[str, TensorSpec], found: Mapping[str, Iterable[int]], where: str) -> None:
    """Checks that stored tensors are those a network needs.

    Args:
      expected: from `specs`.
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


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{"a/b": x} -> {"a": {"b": x}}."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *folders, leaf = name.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[leaf] = value
    return tree


def unnest(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": x}} -> {"a/b": x}, sorted by name."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= unnest(value, f"{prefix}{key}/")
        else:
            flat[f"{prefix}{key}"] = value
    return dict(sorted(flat.items()))


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(map(str, path))
