"""A loaded model made ready for decoding: its parameters laid out for it, its programs kept."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from triarch.interchange import LoadedModel


class PreparedModel:
    """What generation needs of a loaded model.

    On a CPU it holds the parameters a second time. A step reads all of them for the sake of a few tokens, so there the
    layers lie apart, not stacked, and kernels transposed: XLA's product of few rows with a row-major kernel takes half
    as long again.
    """

    def __init__(self, model: LoadedModel):
        self.config = model.config
        self.placement = model.placement
        self._on_cpu = jax.default_backend() == "cpu"
        self._graph, _ = nnx.split(model.model)
        self._relaid = _Relaid(self._graph) if self._on_cpu else None
        self._programs: dict[Any, Callable] = {}
        self.read(model)

    def read(self, model: LoadedModel) -> None:
        """Takes the model's parameters, unless it has them; programs stay compiled."""
        if getattr(self, "_source", None) is model.state:
            return
        self._source = self.state = model.state
        if self._relaid is not None:
            self._graph, self.state = self._relaid(model.state)

    def network(self, state: nnx.State) -> Any:
        """Returns the network with parameters `state`. Called within a loop's body it leaves kernels where they are."""
        return nnx.merge(self._graph, _transposed(state) if self._on_cpu else state)

    def program(self, key: Any, function: Callable, **options: Any) -> Callable:
        """Returns `function(state, ...)` compiled; the first one given under `key`."""
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


class _Relaid:
    """Lays parameters out for a CPU, compiled once."""

    def __init__(self, graph: nnx.GraphDef):
        self._unrolled: nnx.GraphDef | None = None

        def run(state: nnx.State) -> nnx.State:
            model = nnx.merge(graph, state)
            model.unroll()
            self._unrolled, state = nnx.split(model)
            return _transposed(state)

        self._run = jax.jit(run)

    def __call__(self, state: nnx.State) -> tuple[nnx.GraphDef, nnx.State]:
        """Returns the network's graph without stacked layers, and parameters as it takes them."""
        state = self._run(state)
        return self._unrolled, state


def _transposed(state: nnx.State) -> nnx.State:
    """Transposes the kernels of all layers, back and forth."""

    def turned(path: tuple, leaf: Any) -> Any:
        is_kernel = path[0] in ("encoder", "decoder") and path[-1] != "relative_bias" and leaf.ndim == 2
        return leaf.replace(leaf[...].T) if is_kernel else leaf

    return nnx.from_flat_state([(path, turned(path, leaf)) for path, leaf in nnx.to_flat_state(state)])
