"""Optimizers that look at one tensor at a time, layer by layer where layers are stored stacked.

Parameters of repeated layers lie stacked along a leading axis, under a path that contains "scanned". A statistic of
"the tensor" (its RMS, its two largest dimensions, how many dimensions it has) must mean one layer's tensor there, or
storage would change the training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from triarch import lazy

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp
    import optax
else:
    jax, jnp, optax = lazy.module("jax"), lazy.module("jax.numpy"), lazy.module("optax")

STACKED = "scanned"

Tree = Any
Statistics = dict[str, "jax.Array"]


class PerTensorState(NamedTuple):
    """State of `per_tensor`.

    Attributes:
      count: int32 scalar, updates made.
      statistics: the tree of parameters with a dict of arrays in place of each.
    """

    count: jax.Array  # type: ignore[assignment]  # Of tuples a method, which nobody calls.
    statistics: Tree


def is_stacked(path: tuple) -> bool:
    """Returns whether the parameter at a `jax.tree_util` key path has a leading axis of layers."""
    return any(getattr(key, "key", None) == STACKED for key in path)


def per_tensor(
    init: Callable[[jax.Array], Statistics],
    update: Callable[[jax.Array, Statistics, jax.Array, jax.Array], tuple[jax.Array, Statistics]],
) -> optax.GradientTransformation:
    """Returns a transformation that treats every tensor by itself.

    Args:
      init: from a parameter to its statistics.
      update: from (gradient, statistics, parameter, count) to (what is added to the parameter, new statistics);
        `count` is the number of updates made before, float32.
    """

    def init_all(params: Tree) -> PerTensorState:
        def one(path: tuple, param: jax.Array) -> Statistics:
            return jax.vmap(init)(param) if is_stacked(path) else init(param)

        return PerTensorState(jnp.zeros((), jnp.int32), jax.tree_util.tree_map_with_path(one, params))

    def update_all(grads: Tree, state: PerTensorState, params: Tree) -> tuple[Tree, PerTensorState]:
        count = state.count.astype(jnp.float32)

        def one(path: tuple, grad: jax.Array, statistics: Statistics, param: jax.Array) -> tuple:
            function = jax.vmap(update, in_axes=(0, 0, 0, None)) if is_stacked(path) else update
            return function(grad, statistics, param, count)

        structure: Any
        paths, structure = jax.tree_util.tree_flatten_with_path(grads)
        statistics = structure.flatten_up_to(state.statistics)
        results = [
            one(path, grad, stats, param)
            for (path, grad), stats, param in zip(paths, statistics, structure.flatten_up_to(params), strict=True)
        ]
        updates, new = (structure.unflatten(side) for side in zip(*results, strict=True))
        return updates, PerTensorState(state.count + 1, new)

    return optax.GradientTransformation(init_all, update_all)


def decayed(params: Tree) -> Tree:
    """Returns which parameters weight decay applies to: matrices, not the vectors of norms and biases."""
    return jax.tree_util.tree_map_with_path(lambda path, param: param.ndim - is_stacked(path) > 1, params)


def rms(x: jax.Array) -> jax.Array:
    """Returns the root mean square."""
    return jnp.sqrt(jnp.mean(jnp.square(x)))
