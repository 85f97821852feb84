"""The state of a run as a plain pytree, and where on the mesh each part of it lives."""

from __future__ import annotations

import collections
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from triarch.models import Network
from triarch.models.kinds import Axes
from triarch.models.network import ParameterSpec, Specs, Tree
from triarch.sharding import AxisRules, parameter_sharding


class TrainState(NamedTuple):
    """What an update changes and a checkpoint keeps.

    Attributes:
      step: int32 scalar, updates made.
      params: nested dict of float32 arrays, keyed by the module's attribute names.
      opt_state: of the optimizer.
    """

    step: jax.Array
    params: Tree
    opt_state: Tree


def init_state(network: Network, transformation: optax.GradientTransformation, seed: int) -> TrainState:
    """Returns the state before the first update."""
    params = network.init(seed)
    return TrainState(jnp.zeros((), jnp.int32), params, transformation.init(network.trained(params)))


class StateLeaf(NamedTuple):
    """One array of a state.

    Attributes:
      like: its shape and type.
      axes: logical names of its dimensions; None where they are not a parameter's.
    """

    like: jax.ShapeDtypeStruct
    axes: Axes | None


def state_leaves(network: Network, transformation: optax.GradientTransformation) -> tuple[list[StateLeaf], Any]:
    """Returns the arrays of a state in the order of its leaves, and its structure; nothing is allocated."""
    shapes = jax.eval_shape(lambda: init_state(network, transformation, 0))
    structure: Any
    leaves, structure = jax.tree_util.tree_flatten_with_path(shapes)
    alike: collections.Counter[tuple] = collections.Counter()
    found = []
    for path, leaf in leaves:
        name = _parameter_of(path, network.specs)
        # Parameters by themselves: the first part of the path says what of the state a leaf is in.
        which = alike[path[:1], name, leaf.shape]
        alike[path[:1], name, leaf.shape] += 1
        found.append(StateLeaf(leaf, None if name is None else _axes_of(network.specs[name], leaf.shape, which)))
    return found, structure


def abstract_state(
    network: Network, transformation: optax.GradientTransformation, rules: AxisRules, mesh: Mesh
) -> TrainState:
    """Returns the state's shapes, types and shardings; nothing is allocated."""
    leaves, structure = state_leaves(network, transformation)
    whole = NamedSharding(mesh, PartitionSpec())
    found = []
    for like, axes in leaves:
        sharding = whole if axes is None else parameter_sharding(axes, like.shape, rules, mesh)
        found.append(jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=sharding))
    return structure.unflatten(found)


def born_sharded(
    network: Network, transformation: optax.GradientTransformation, target: TrainState, seed: int
) -> TrainState:
    """Returns the initial state laid out as `target`: no device ever holds more than its share."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, target)
    # On a CPU optimising code that runs once takes longer than running it.
    options = {"xla_backend_optimization_level": 0} if _is_cpu(target) else None
    init = jax.jit(lambda: init_state(network, transformation, seed), out_shardings=shardings, compiler_options=options)
    return init()


def _is_cpu(target: TrainState) -> bool:
    device: Any = next(iter(target.step.sharding.device_set))
    return device.platform == "cpu"


def _axes_of(spec: ParameterSpec, shape: tuple[int, ...], which: int) -> Axes | None:
    """Returns the logical axes of a parameter, or of a statistic of one; None where they are not a parameter's.

    A statistic has the parameter's shape, or lacks one axis (means of factored Adafactor). Of several that lack one of
    equally long axes, each lacks another: `which` counts them.
    """
    if shape == spec.shape:
        return spec.axes
    missing = [
        axis
        for axis in range(int(spec.stacked), len(spec.shape))
        if shape == spec.shape[:axis] + spec.shape[axis + 1 :]
    ]
    if not missing:
        return None
    axis = missing[which % len(missing)]
    return spec.axes[:axis] + spec.axes[axis + 1 :]


def _parameter_of(path: tuple, specs: Specs) -> str | None:
    """Returns the parameter whose path is part of a leaf's path through the state; None if there is none."""
    keys = [str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey)]
    parts = itertools.combinations(range(len(keys) + 1), 2)
    return next((name for start, end in parts if (name := "/".join(keys[start:end])) in specs), None)
