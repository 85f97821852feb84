"""The state of a run as a plain pytree, and where on the mesh each part of it lives."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from triarch.models import Execution, ModelConfig, abstract, build
from triarch.sharding import AxisRules, Constrainer, parameter_sharding, platform

Tree = Any
Path = tuple[str, ...]


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


class Network:
    """A network as functions of its parameters: `init` makes them, `merge` puts them into the module.

    Attributes:
      axes: logical names of each parameter's dimensions, by path.
    """

    def __init__(self, config: ModelConfig, execution: Execution, rules: AxisRules, mesh: Mesh):
        self._config = config
        # Of the mesh, not of this machine: programs are also compiled for devices that are elsewhere.
        self._execution = execution.on(platform(mesh))
        self._constrain = Constrainer(rules, mesh)
        self._graph, state = nnx.split(abstract(config, self._execution, self._constrain), nnx.Param)
        self._variables = {tuple(path): variable for path, variable in nnx.to_flat_state(state)}
        self.axes: dict[Path, tuple[str | None, ...]] = {
            _names(path): tuple(variable.get_metadata("logical_axes")) for path, variable in self._variables.items()
        }

    def init(self, seed: int) -> Tree:
        """Returns fresh parameters."""
        model = build(self._config, self._execution, nnx.Rngs(params=seed), self._constrain)
        return _nest({_names(path): var[...] for path, var in nnx.to_flat_state(nnx.state(model, nnx.Param))})

    def merge(self, params: Tree) -> Any:
        """Returns the module with the given parameters."""
        leaves = {path: variable.replace(_leaf(params, _names(path))) for path, variable in self._variables.items()}
        return nnx.merge(self._graph, nnx.from_flat_state(leaves))


def init_state(network: Network, transformation: optax.GradientTransformation, seed: int) -> TrainState:
    """Returns the state before the first update."""
    params = network.init(seed)
    return TrainState(jnp.zeros((), jnp.int32), params, transformation.init(params))


def abstract_state(
    network: Network, transformation: optax.GradientTransformation, rules: AxisRules, mesh: Mesh
) -> TrainState:
    """Returns the state's shapes, types and shardings; nothing is allocated."""
    shapes = jax.eval_shape(lambda: init_state(network, transformation, 0))
    param_shapes = {path: _leaf(shapes.params, path).shape for path in network.axes}

    def with_sharding(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        axes = _axes_of(_dict_keys(path), leaf.shape, network.axes, param_shapes)
        if axes is None:
            sharding = NamedSharding(mesh, PartitionSpec())
        else:
            sharding = parameter_sharding(axes, leaf.shape, rules, mesh)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree_util.tree_map_with_path(with_sharding, shapes)


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


def _axes_of(
    keys: Path, shape: tuple[int, ...], axes: dict[Path, tuple[str | None, ...]], shapes: dict[Path, tuple[int, ...]]
) -> tuple[str | None, ...] | None:
    """Returns the logical axes of a leaf of the state: a parameter, or a statistic stored under its path.

    A statistic has the parameter's shape, or lacks one axis (the means of factored Adafactor).
    """
    path = next((keys[:end] for end in range(len(keys), 0, -1) if keys[:end] in axes), None)
    if path is None:
        return None
    if shape == shapes[path]:
        return axes[path]
    missing = [
        axis
        for axis, name in enumerate(axes[path])
        if name != "layers" and shape == shapes[path][:axis] + shapes[path][axis + 1 :]
    ]
    if not missing:
        return None
    # Of two equally long axes, column means lack the first and row means the second (see `factored_axes`).
    axis = missing[0] if keys[-1] == "v_column" else missing[-1]
    return axes[path][:axis] + axes[path][axis + 1 :]


def _dict_keys(path: tuple) -> Path:
    return tuple(str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey))


def _names(path: tuple) -> Path:
    return tuple(str(part) for part in path)


def _leaf(tree: Tree, path: Path) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _nest(leaves: dict[Path, Any]) -> Tree:
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = leaf
    return tree
