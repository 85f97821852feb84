"""The steps of a run as programs for devices that are not there: shapes and shardings in place of arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import jax
from jax.sharding import NamedSharding

from triarch.sharding import MeshConfig, make_mesh
from triarch.training.choosing.facts import features
from triarch.training.config import RunConfig, validate
from triarch.training.networks import placed
from triarch.training.optimizers import optimizer as optimizers
from triarch.training.run import Program, assemble_program
from triarch.training.state import init_state

Kind = Literal["train", "evaluate", "prefill", "decode"]


def assembled(config: RunConfig, devices: Sequence[Any]) -> Program:
    """Builds what a run computes on TPU devices that need not exist; its functions can be lowered, not called.

    Raises:
      UserError: the config is not in order, the mesh does not multiply out, or the batch does not divide.
    """
    validate(config)
    return assemble_program(config, config.bound(), devices)


def lowered(run: Program, kind: Literal["train", "evaluate"], packed: bool) -> jax.stages.Lowered:
    """Lowers the training step or the evaluation of a batch, of one text or pair a row or of packed ones."""
    batch = abstract_batch(run.config, run.batch_layout, packed)
    if kind == "evaluate":
        return cast(Any, run.eval_step).lower(run.target.params, batch)
    return run.train_step.lower(run.target, batch)


def abstract_batch(config: RunConfig, layout: NamedSharding, packed: bool) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the features of a global batch by the objective's own function of an example."""
    return {
        name: jax.ShapeDtypeStruct((config.batch_size, *feature.shape), feature.dtype, sharding=layout)
        for name, feature in features(config, config.bound(), packed).items()
    }


def state_bytes(config: RunConfig) -> int:
    """Returns the bytes of parameters and optimizer state, over all devices; nothing is made."""
    one = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    network = placed(config, one, config.bound().make_head)
    transformation = optimizers.build(config.optimizer, config.steps, network.trained_specs)
    state = jax.eval_shape(lambda: init_state(network, transformation, 0))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
