"""The steps of a run as programs for devices that are not there: shapes and shardings in place of arrays."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import jax
import numpy as np
from jax.sharding import NamedSharding

from triarch.models.counts import Convention
from triarch.objectives.base import SpecialTokens
from triarch.sharding import MeshConfig, make_mesh
from triarch.training import optimizers
from triarch.training.config import RunConfig, validate
from triarch.training.run import Run, assemble
from triarch.training.state import Network, init_state

Kind = Literal["train", "evaluate", "prefill", "decode"]


@dataclasses.dataclass(frozen=True)
class AbstractInputs:
    """What `assemble` asks of a run's inputs, without a token store.

    Attributes:
      config: of the run.
      num_scored: targets of an example that carry loss, at most.
    """

    config: RunConfig
    num_scored: int

    @property
    def window(self) -> int:
        """Tokens of one example, over both sides."""
        return self.config.data.window

    def flops_per_sequence(self, convention: Convention) -> float:
        """Returns the model's FLOPs for one example, "paper" or "train"."""
        lengths = self.config.objective.lengths(self.config.model.architecture, self.window)
        sides = (lengths.get("encoder", 0), lengths.get("decoder", 0))
        return self.config.model.flops(*sides, convention, self.num_scored)


def assembled(config: RunConfig, devices: Sequence[Any]) -> Run:
    """Builds a run on TPU devices that need not exist; its functions can be lowered, not called.

    Raises:
      UserError: the config is not in order, the mesh does not multiply out, or the batch does not divide.
    """
    validate(config)
    num_scored = config.objective.num_scored(config.model.architecture, config.data.window)
    return assemble(config, AbstractInputs(config, num_scored), devices)


def lowered(run: Run, kind: Literal["train", "evaluate"], packed: bool) -> jax.stages.Lowered:
    """Lowers the training step or the evaluation of a batch, of one text or pair a row or of packed ones."""
    batch = abstract_batch(run.config, run.batch_layout, packed)
    if kind == "evaluate":
        return cast(Any, run.eval_step).lower(run.target.params, batch)
    return run.train_step.lower(run.target, batch)


def abstract_batch(config: RunConfig, layout: NamedSharding, packed: bool) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the features of a global batch by the objective's own transform of an example."""
    window, vocab_size = config.data.window, config.model.vocab_size
    tokens = np.full(window, vocab_size // 2, np.int32)
    # What windows and pairs hold; an objective takes what it reads.
    example = {"tokens": tokens, "inputs": tokens[:1], "targets": tokens[:1]}
    if packed:
        targets = config.objective.num_scored(config.model.architecture, window)
        example |= {"segment_ids": np.ones(window, np.int32), "num_inputs": np.array([window - targets])}
    # What the ids are matters to no shape; there are enough sentinels for any window.
    sentinels = tuple(range(vocab_size - 1, max(vocab_size - 1 - window, 4), -1))
    special = SpecialTokens(pad=0, bos=1, eos=2, mask=3, sentinels=sentinels, modes={"R": 4, "S": 5, "X": 6})
    transform = config.objective.transform(config.model.architecture, special, vocab_size, window)
    features = transform(example, np.random.default_rng(0))
    return {
        name: jax.ShapeDtypeStruct((config.batch_size, *feature.shape), feature.dtype, sharding=layout)
        for name, feature in features.items()
    }


def state_bytes(config: RunConfig) -> int:
    """Returns the bytes of parameters and optimizer state, over all devices; nothing is made."""
    one = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    network = Network(config.model, config.execution, config.rules, one)
    transformation = optimizers.build(config.optimizer, config.steps)
    state = jax.eval_shape(lambda: init_state(network, transformation, 0))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
