"""Optimizers that look at one tensor at a time, layer by layer where layers are stored stacked.

Parameters of repeated layers lie stacked along a leading axis. A statistic of "the tensor" (its RMS, its two largest
dimensions) must mean one layer's tensor there, or storage would change the training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from triarch import lazy

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp
    import optax

    from triarch.models.network import ParameterSpec, Tree
else:
    jax, jnp, optax = lazy.module("jax"), lazy.module("jax.numpy"), lazy.module("optax")

Statistics = Any


class PerTensorState(NamedTuple):
    """State of `per_tensor`.

    Attributes:
      count: int32 scalar, updates made.
      statistics: the tree of parameters with the statistics of each in its place.
    """

    count: jax.Array  # type: ignore[assignment]  # a tuple's method, which no one calls
    statistics: Tree


def per_tensor(
    init: Callable[[jax.Array], Statistics],
    update: Callable[[jax.Array, Statistics, jax.Array, jax.Array, ParameterSpec], tuple[jax.Array, Statistics]],
    specs: Tree,
) -> optax.GradientTransformation:
    """Returns a transformation that treats every tensor by itself.

    Args:
      init: from a parameter to its statistics.
      update: from (gradient, statistics, parameter, count, spec) to (what is added to the parameter, new statistics);
        `count` is the number of updates made before, int32.
      specs: of the parameters, as a tree like them.
    """

    def init_all(params: Tree) -> PerTensorState:
        statistics = jax.tree.map(lambda spec, param: _by_layer(init, spec)(param), specs, params)
        return PerTensorState(jnp.zeros((), jnp.int32), statistics)

    def update_all(grads: Tree, state: PerTensorState, params: Tree) -> tuple[Tree, PerTensorState]:
        def one(spec: ParameterSpec, *given: Any) -> tuple[jax.Array, Statistics]:
            return _by_layer(lambda g, s, p: update(g, s, p, state.count, spec), spec)(*given)

        results = jax.tree.map(one, specs, grads, state.statistics, params)
        updates, new = (jax.tree.map(lambda _, both, side=side: both[side], specs, results) for side in (0, 1))
        return updates, PerTensorState(state.count + 1, new)

    return optax.GradientTransformation(init_all, update_all)


def per_layer(transformation: optax.GradientTransformation, specs: Tree) -> optax.GradientTransformation:
    """Returns an optax transformation of single tensors made to treat the layers of stacked parameters as such."""

    def update(grad: jax.Array, state: Any, param: jax.Array, *_: Any) -> tuple[jax.Array, Any]:
        return transformation.update(grad, state, param)

    return per_tensor(transformation.init, update, specs)


def decayed(specs: Tree) -> Tree:
    """Returns which parameters weight decay applies to: not the vectors of norms and biases."""
    return jax.tree.map(lambda spec: spec.kind != "vector", specs)


def only(tree: Tree, mask: Tree) -> Tree:
    """Returns a tree with the leaves that `mask` is true of, as optax hands it to a transformation of some leaves."""
    return jax.tree.map(lambda chosen, leaf: leaf if chosen else optax.MaskedNode(), mask, tree)


def _by_layer(function: Callable, spec: ParameterSpec) -> Callable:
    return jax.vmap(function) if spec.stacked else function
