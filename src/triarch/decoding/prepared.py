"""A loaded model made ready for decoding: its parameters laid out for it, its programs kept."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import jax

from triarch.interchange import LoadedModel
from triarch.models import Network, Transformer
from triarch.models.network import Tree, flatten, unflatten


class PreparedModel:
    """What generation needs of a loaded model.

    On a CPU it holds the parameters a second time. A step reads all of them for the sake of a few tokens, so there the
    layers lie apart, not stacked, and kernels transposed: XLA's product of few rows with a row-major kernel takes half
    as long again.
    """

    def __init__(self, model: LoadedModel):
        self.config = model.config
        self.placement = model.placement
        self._network, self._relaid = model.network, None
        if jax.default_backend() == "cpu":
            stacked, apart = model.network, model.network.unrolled()
            self._network = apart
            self._relaid = jax.jit(lambda params: _transposed(apart, stacked.unroll(params)))
        self._programs: dict[Any, Callable] = {}
        self.read(model)

    def read(self, model: LoadedModel) -> None:
        """Takes the model's parameters, unless it has them; programs stay compiled."""
        if getattr(self, "_source", None) is model.params:
            return
        self._source = model.params
        self.params = model.params if self._relaid is None else self._relaid(model.params)

    def network(self, params: Tree) -> Transformer:
        """Returns the network with `params`. Called within a loop's body it leaves kernels where they are."""
        return self._network.merge(params if self._relaid is None else _transposed(self._network, params))

    def program(self, key: Any, function: Callable, **options: Any) -> Callable:
        """Returns `function(params, ...)` compiled; the first one given under `key`."""
        if key not in self._programs:
            self._programs[key] = jax.jit(function, **options)
        return self._programs[key]


_PREPARED: weakref.WeakKeyDictionary[LoadedModel, PreparedModel] = weakref.WeakKeyDictionary()


def prepare(model: LoadedModel) -> PreparedModel:
    """Returns the model prepared, the same object for as long as the model lives."""
    if model not in _PREPARED:
        _PREPARED[model] = PreparedModel(model)
    _PREPARED[model].read(model)
    return _PREPARED[model]


def _transposed(network: Network, params: Tree) -> Tree:
    """Transposes the kernels, back and forth."""
    kernels = {name for name, spec in network.specs.items() if spec.kind == "kernel"}
    return unflatten({name: x.swapaxes(-2, -1) if name in kernels else x for name, x in flatten(params).items()})
