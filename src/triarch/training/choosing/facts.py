"""What a run's memory and traffic follow from, whatever mesh and policy it takes: its state, and what it saves."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from triarch.models import Network
from triarch.models.layers.dropout import example_keys
from triarch.models.network import unflatten
from triarch.objectives.base import BoundObjective
from triarch.training.config import RunConfig
from triarch.training.networks import run_network
from triarch.training.optimizers import optimizer as optimizers
from triarch.training.state import StateLeaf, state_leaves

# From what recomputes nothing to what saves nothing but the inputs of layers.
POLICIES = ("none", "save_projections_and_attention", "save_projections", "full")

# A prime, so that an array has it as a factor only if it has rows of the batch.
_ROWS = 7919


class PerRow(NamedTuple):
    """Bytes a row of the batch.

    Attributes:
      whole: of arrays as wide as the residual stream, which tensor parallelism leaves whole.
      split: of all others.
    """

    whole: float
    split: float

    def on(self, tensor: int) -> float:
        """Returns the bytes on one device of a tensor axis."""
        return self.whole + self.split / tensor


class Facts:
    """What is found out once about a run.

    Attributes:
      config: of the run.
      objective: of the run.
      state: the arrays of its parameters and optimizer.
      parameters: all of them, trained or not.
      gradients: the arrays of the parameters that are trained.
      num_layers: of all sides.
    """

    def __init__(self, config: RunConfig, platform: str):
        """Finds the state of a run on "cpu", "gpu" or "tpu"; allocates nothing."""
        self.config, self._platform = config, platform
        self.objective = config.bound()
        network = self._network("none")
        self.state, _ = state_leaves(network, optimizers.build(config.optimizer, config.steps, network.trained_specs))
        self.parameters = [StateLeaf(spec.struct, spec.axes) for _, spec in sorted(network.specs.items())]
        trained = sorted(network.trained_names)
        self.gradients = [StateLeaf(network.specs[name].struct, network.specs[name].axes) for name in trained]
        self.sides: list[Any] = [side for side in ("encoder", "decoder") if side in self.objective.lengths]
        self.num_layers = max(sum(len(config.model.layer_specs(side)) for side in self.sides), 1)
        self._saved: dict[str, PerRow] = {}
        # Bytes that one device of a mesh holds, by the mesh: see `cost`.
        self.held: dict[tuple, float] = {}

    def under(self, config: RunConfig) -> Facts:
        """Returns the facts of a config that differs in mesh, execution, batch size or microbatches alone."""
        found = copy.copy(self)
        found.config = config
        return found

    def saved(self, policy: str) -> PerRow:
        """Returns what a row adds to what is kept for the backward pass; parameters, kept anyway, add nothing.

        Found by tracing the loss, once a policy: what jax hands on to the backward pass.
        """
        if policy not in self._saved:
            widths = {self.config.model.of_side(side).d_model for side in ("encoder", "decoder")}
            sizes = {True: 0.0, False: 0.0}
            for leaf in _residuals(self.config, self.objective, self._network(policy)):
                per_row, rest = divmod(math.prod(leaf.shape), _ROWS)
                if not rest:
                    sizes[leaf.shape[-1] in widths] += per_row * leaf.dtype.itemsize
            self._saved[policy] = PerRow(whole=sizes[True], split=sizes[False])
        return self._saved[policy]

    def _network(self, policy: str) -> Network:
        execution = dataclasses.replace(self.config.execution, remat=cast(Any, policy), gather="compiler")
        return run_network(self.config, self.objective.make_head, execution.on(self._platform))


def features(config: RunConfig, objective: BoundObjective, packed: bool = False) -> Mapping[str, np.ndarray]:
    """Returns the features of one example, of one text or pair or of packed ones, by the objective's own function."""
    window = config.data.window
    tokens = np.full(window, config.model.vocab_size // 2, np.int32)
    # What windows and pairs hold; an objective takes what it reads.
    example = {"tokens": tokens, "inputs": tokens[:1], "targets": tokens[:1]}
    if packed:
        num_inputs = window - objective.num_scored
        example |= {"segment_ids": np.ones(window, np.int32), "num_inputs": np.array([num_inputs])}
    return objective.features(example, np.random.default_rng(0))


def _residuals(config: RunConfig, objective: BoundObjective, network: Network) -> list[Any]:
    batch = {
        name: jax.ShapeDtypeStruct((_ROWS, *feature.shape), feature.dtype)
        for name, feature in features(config, objective).items()
    }

    def backward(params: Any, batch: Any) -> Any:
        keys = example_keys(jax.random.key(0), jnp.zeros((), jnp.int32), jnp.arange(_ROWS)) if config.dropout else None

        def loss(trained: Any) -> jax.Array:
            return objective.loss(network.merge(network.completed(trained, params)), batch, keys)[0]

        return jax.vjp(loss, network.trained(params))[1]

    # What the backward pass is given beside the slope: a pytree of what was kept for it.
    params = unflatten({name: spec.struct for name, spec in network.specs.items()})
    return jax.tree.leaves(jax.eval_shape(backward, params, batch))
