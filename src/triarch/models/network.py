"""A network as a function of its parameters, and its parameters as a table of names.

Parameters are a nested dict of arrays keyed by the modules' attribute names: what a checkpoint holds. Their names are
paths through it joined by "/", such as `decoder/scanned/0/attention/query`.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import math
import types
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from triarch.models.assemblies import MakeHead, Transformer, build
from triarch.models.config import ModelConfig
from triarch.models.execution import Execution
from triarch.models.kinds import KINDS, LAYERS, Axes, Kind
from triarch.models.layers.dropout_rates import NO_DROPOUT, Dropout
from triarch.models.layers.stack import repeating
from triarch.models.parameters import axes_of, kind_of, width_ratio_of
from triarch.models.placing import Constrain, unconstrained
from triarch.models.shape import Side

Tree = Any


@dataclasses.dataclass(frozen=True)
class ParameterSpec:
    """What a network expects of one parameter, and what the parameter is.

    Attributes:
      shape: sizes of its dimensions.
      axes: logical name of each dimension; None where it has none.
      kind: what it is, see `models.parameters`.
      dtype: of its values.
      width_ratio: how many times as many inputs as in its base it has, if its learning rate is to fall with that.
    """

    shape: tuple[int, ...]
    axes: Axes
    kind: Kind
    dtype: jnp.dtype = dataclasses.field(default_factory=lambda: jnp.dtype(jnp.float32))
    width_ratio: float = 1.0

    @property
    def stacked(self) -> bool:
        """Whether it holds the tensors of repeated layers, along its first axis."""
        return self.axes[:1] == (LAYERS,)

    @property
    def struct(self) -> jax.ShapeDtypeStruct:
        """Its shape and type as JAX has them."""
        return jax.ShapeDtypeStruct(self.shape, self.dtype)


Specs = Mapping[str, ParameterSpec]


class Network:
    """A network as functions of its parameters: `init` makes them, `merge` puts them into the module.

    Attributes:
      config: what the network is.
      specs: of every parameter, by name.
      trained_names: parameters that training changes.
      make_head: makes the parameters beside the network; None for none.
    """

    def __init__(
        self,
        config: ModelConfig,
        execution: Execution | None = None,
        constrain: Constrain = unconstrained,
        trained: Collection[str] | None = None,
        apart: bool = False,
        make_head: MakeHead | None = None,
        dropout: Dropout = NO_DROPOUT,
    ):
        """Makes out the network; allocates nothing.

        Args:
          config: what the network is.
          execution: how it is computed.
          constrain: places activations on a mesh.
          trained: names of the parameters that training changes; None for all.
          apart: whether repeated layers have parameters of their own, not stacked ones; decoding on a CPU is faster so.
          make_head: makes the parameters that an objective has beside the network; None for none.
          dropout: what the module leaves out where it is given keys.
        """
        self.config = config
        self._execution = execution or Execution()
        self._constrain = constrain
        self._apart = apart
        self.make_head = make_head
        self._dropout = dropout
        self._graph, state = nnx.split(nnx.eval_shape(lambda: self._build(0)), nnx.Param)
        self._variables = list(nnx.to_flat_state(state))
        found = {_name(path): _spec(variable) for path, variable in self._variables}
        self.specs: Specs = types.MappingProxyType(dict(sorted(found.items())))
        self.trained_names = frozenset(self.specs if trained is None else trained)

    def init(self, seed: int) -> Tree:
        """Returns fresh parameters."""
        return parameters_of(self._build(seed))

    def merge(self, params: Tree) -> Transformer:
        """Returns the module with the given parameters."""
        return self._module(flatten(params))

    def _module(self, values: Mapping[str, Any]) -> Transformer:
        """Returns the module with what stands for each parameter, by name."""
        leaves = [(path, variable.replace(values[_name(path)])) for path, variable in self._variables]
        model = nnx.merge(self._graph, nnx.from_flat_state(leaves))
        model.dropout = self._dropout
        return model

    def trained(self, tree: Tree) -> Tree:
        """Returns what a tree like the parameters holds of those that training changes."""
        if len(self.trained_names) == len(self.specs):
            return tree
        return unflatten({name: leaf for name, leaf in flatten(tree).items() if name in self.trained_names})

    def completed(self, trained: Tree, tree: Tree) -> Tree:
        """Returns `tree` with the leaves of `trained` in place of its own."""
        return unflatten(flatten(tree) | flatten(trained))

    def stored(self, params: Tree) -> Tree:
        """Returns what of the parameters a checkpoint keeps."""
        return params

    def folded(self, params: Tree) -> Tree:
        """Returns the parameters of the network as it is without adapters."""
        return params

    def of_base(self, base: Tree) -> Tree:
        """Returns the parameters of the network without adapters as this one holds them."""
        return base

    @property
    def trained_specs(self) -> Tree:
        """The specs of the parameters that training changes, as a tree like them."""
        return self.trained(unflatten(self.specs))

    @property
    def num_trained(self) -> int:
        """How many numbers training changes."""
        return sum(math.prod(self.specs[name].shape) for name in self.trained_names)

    def under(self, config: ModelConfig) -> Network:
        """Returns the network of another config, in all else as this one."""
        own = self._apart, self.make_head, self._dropout
        return Network(config, self._execution, self._constrain, self.trained_names, *own)

    def unrolled(self) -> Network:
        """Returns the same network with the parameters of repeated layers apart, as `unroll` lays them out."""
        return Network(self.config, self._execution, self._constrain, apart=True)

    def unroll(self, params: Tree) -> Tree:
        """Returns the parameters of `unrolled`."""
        model = self.merge(params)
        model.unroll()
        return parameters_of(model)

    def _build(self, seed: int) -> Transformer:
        model = build(self.config, self._execution, nnx.Rngs(params=seed), self._constrain, self.make_head)
        if self._apart:
            model.unroll()
        return model


@functools.cache
def specs(config: ModelConfig, make_head: MakeHead | None = None) -> Specs:
    """Returns the specs of every parameter that the network of `config` has, by name."""
    return Network(config, make_head=make_head).specs


def split(model: Transformer, make_head: MakeHead | None = None) -> tuple[Network, Tree]:
    """Returns a module as a network, and its parameters; `make_head` makes the head that it has, None for none."""
    return Network(model.config, model.execution, model.constrain, make_head=make_head), parameters_of(model)


def parameters_of(model: Transformer) -> Tree:
    """Returns the parameters that a module holds."""
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    return unflatten({_name(path): variable[...] for path, variable in flat})


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the leaves of nested dicts by name, sorted: {"a": {"b": x}} -> {"a/b": x}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}/")
        else:
            flat[f"{prefix}{key}"] = value
    return dict(sorted(flat.items()))


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested dicts: {"a/b": x} -> {"a": {"b": x}}."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *folders, leaf = name.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[leaf] = value
    return tree


def layer_place(config: ModelConfig, side: Side, layer: int) -> tuple[str, int | None]:
    """Returns which module's parameters hold a layer's ("decoder/scanned/0"), and its row there if they are stacked."""
    num_first, period = _repeating(config, side)
    if layer < num_first:
        return f"{side}/first/{layer}", None
    row, index = divmod(layer - num_first, period)
    return f"{side}/scanned/{index}", row


def named(specs: Specs, pattern: str) -> frozenset[str]:
    """Returns the parameters that a pattern names; none if it names nothing.

    Args:
      specs: of the network.
      pattern: a kind ("table"), a parameter's name, or the first parts of several ("decoder/scanned"); "*" stands for
        any characters, "/" too.
    """
    if pattern in KINDS:
        return frozenset(name for name, spec in specs.items() if spec.kind == pattern)
    return frozenset(name for name in specs if any(fnmatch.fnmatchcase(part, pattern) for part in _beginnings(name)))


def patterns(specs: Specs) -> list[str]:
    """Returns what `named` takes without a "*": the kinds, names, and first parts of names."""
    return [*KINDS, *dict.fromkeys(part for name in specs for part in _beginnings(name))]


@functools.cache
def _repeating(config: ModelConfig, side: Side) -> tuple[int, int]:
    return repeating(config.layer_specs(side))


def _beginnings(name: str) -> Iterable[str]:
    """Yields "a", "a/b" and "a/b/c" of "a/b/c"."""
    parts = name.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts) + 1))


def _spec(variable: nnx.Variable) -> ParameterSpec:
    what = axes_of(variable), kind_of(variable), jnp.dtype(variable.dtype), width_ratio_of(variable)
    return ParameterSpec(tuple(variable.shape), *what)


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(map(str, path))
