"""A run put together: everything that lives on devices, made from config and inputs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Generator, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding

from triarch.data.batches import Batches
from triarch.data.packed_batches import PackedBatches
from triarch.interchange import Placement
from triarch.models import Network
from triarch.models.adapters.network import AdaptedNetwork
from triarch.models.layers.experts import Experts
from triarch.models.layers.parts import Convention
from triarch.objectives.base import BoundObjective
from triarch.objectives.sums import Sums
from triarch.sharding import batch_sharding, check_batch, check_split, host_rows, make_mesh
from triarch.training.config import RunConfig
from triarch.training.hardware import peak_flops
from triarch.training.inputs import Inputs
from triarch.training.networks import placed
from triarch.training.optimizers import optimizer as optimizers
from triarch.training.starting_point import StartingPoint
from triarch.training.state import TrainState, abstract_state, born_sharded
from triarch.training.step import Batch, EvalStep, TrainStep, make_eval_step, make_train_step


@dataclasses.dataclass(frozen=True)
class Program:
    """What a run computes: all of it but its data, so that it can also be compiled for devices that are elsewhere.

    Attributes:
      config: of the run.
      objective: what the loss is.
      mesh: the devices.
      transformation: the optimizer.
      network: the model as functions of its parameters.
      target: the state's shapes, types and shardings.
      batch_layout: sharding of a batch's leading axis.
      train_step: (state, batch) -> (state, metrics); donates the state.
      eval_step: (params, batch) -> Sums.
    """

    config: RunConfig
    objective: BoundObjective
    mesh: Mesh
    transformation: optax.GradientTransformation
    network: Network
    target: TrainState
    batch_layout: NamedSharding
    train_step: TrainStep
    eval_step: EvalStep

    @property
    def tokens_per_step(self) -> int:
        """Tokens of a global batch, over both sides of the model."""
        return self.config.batch_size * self.config.data.window

    def flops_per_step(self, convention: Convention) -> float:
        """Returns the model's FLOPs for a global batch, "paper" or "train"."""
        return self.config.batch_size * self.objective.flops(self.config.model, convention)


@dataclasses.dataclass(frozen=True)
class Run(Program):
    """The functions and facts the loop needs.

    Attributes:
      inputs: what the run reads.
    """

    inputs: Inputs

    def initial_state(self, start: StartingPoint | None = None) -> TrainState:
        """Returns a fresh state, made in place on the mesh, with what `start` has where there is one.

        Raises:
          UserError: the starting point is damaged.
        """
        state = born_sharded(self.network, self.transformation, self.target, self.config.seed)
        if start is None:
            return state
        return start.state(state, self.target, Placement(self.mesh, self.config.rules), self.network)

    def stored(self, state: TrainState) -> TrainState:
        """Returns what checkpoints keep of a state, or of `target`."""
        return state._replace(params=self.network.stored(state.params))

    def completed(self, stored: TrainState, base: StartingPoint | None) -> TrainState:
        """Returns a state of which checkpoints keep `stored`; of a run with adapters, on top of their base.

        Raises:
          UserError: the base is damaged.
        """
        if not isinstance(self.network, AdaptedNetwork):
            return stored
        assert base is not None
        target = self.target.params
        found = base.base(target, Placement(self.mesh, self.config.rules), self.network)
        return stored._replace(params=self.network.completed(stored.params, found))

    def with_fresh_optimizer(self, state: TrainState) -> TrainState:
        """Returns a state with its optimizer's as at the beginning; the number of updates made stays."""
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.target.opt_state)
        init = jax.jit(lambda params: self.transformation.init(self.network.trained(params)), out_shardings=shardings)
        return state._replace(opt_state=init(state.params))

    def batches(self, start_step: int) -> Generator[Batch]:
        """Yields global batches from that of `start_step` on, without end; they are read ahead."""
        data = self.config.data
        for _, batch in self._training_batches.iterate(start_step, data.num_threads, data.prefetch):
            yield self._place(batch)

    def validate(self, params: Any) -> list[Sums]:
        """Starts an evaluation and returns the sums of each batch, still being computed."""
        return [self.eval_step(params, self._place(batch)) for batch in self._validation_batches]

    def so_far(self, step: int) -> dict[str, float]:
        """Returns the tokens read and the FLOPs made in the run's first `step` steps, over all its segments."""
        return {
            "tokens": self.inputs.tokens_until(step),
            "flops_paper": self.inputs.flops_until(step, "paper"),
            "flops_train": self.inputs.flops_until(step, "train"),
        }

    @property
    def place(self) -> dict[str, str | int]:
        """Which phase of the run this is, and its batches' size; {} for a run without phases."""
        return {"phase": self.inputs.phase, "batch_size": self.config.batch_size} if self.inputs.phase else {}

    def mfu(self, tokens_per_second: float | None) -> float | None:
        """Returns model FLOPs utilisation ("train" convention), or None where the devices' peak is unknown."""
        peak = peak_flops(self.mesh.devices.flat[0])
        if tokens_per_second is None or peak is None:
            return None
        steps_per_second = tokens_per_second / self.tokens_per_step
        return steps_per_second * self.flops_per_step("train") / (peak * self.mesh.size)

    @property
    def tokens_per_step(self) -> int:
        """Tokens of a global batch, over both sides of the model; of batches that are packed, those of their rows."""
        return self._rows_per_step * self.config.data.window

    def flops_per_step(self, convention: Convention) -> float:
        """Returns the model's FLOPs for a global batch, "paper" or "train"."""
        return self._rows_per_step * self.objective.flops(self.config.model, convention)

    @functools.cached_property
    def _rows_per_step(self) -> int:
        batches = self._training_batches
        return batches.usual_rows if isinstance(batches, PackedBatches) else self.config.batch_size

    @functools.cached_property
    def _training_batches(self) -> Batches:
        if self.config.data.pack_batches:
            return self._packed(self.inputs.raw_training())
        return self.inputs.training(self._rows)

    def _packed(self, batches: Batches) -> PackedBatches:
        size = self.config.batch_size
        parts = size // self.batch_layout.shard_shape((size,))[0] * self.config.microbatches
        return self.inputs.packed(batches, parts, lambda count: host_rows(self.batch_layout, count))

    @property
    def _rows(self) -> slice:
        return host_rows(self.batch_layout, self.config.batch_size)

    @functools.cached_property
    def _validation_batches(self) -> list[dict[str, np.ndarray]]:
        if self.config.data.pack_batches:
            batches: Batches = self._packed(self.inputs.raw_validation())
        else:
            batches = self.inputs.validation(self._rows)
        return [batches.batch(step) for step in range(self.config.eval_batches)]

    def _place(self, batch: dict[str, np.ndarray]) -> Batch:
        size = self.config.batch_size
        hosts = size // len(range(size)[self._rows])
        return {
            name: jax.make_array_from_process_local_data(self.batch_layout, rows, (len(rows) * hosts, *rows.shape[1:]))
            for name, rows in batch.items()
        }


def assemble(config: RunConfig, inputs: Inputs, devices: Sequence[jax.Device] | None = None) -> Run:
    """Builds a run on `devices`, by default all there are; parameters are not made yet.

    Raises:
      UserError: the mesh does not multiply out to the devices, or the batch does not divide.
    """
    return Run(**vars(assemble_program(config, inputs.objective, devices)), inputs=inputs)


def assemble_program(
    config: RunConfig, objective: BoundObjective, devices: Sequence[jax.Device] | None = None
) -> Program:
    """Builds what a run computes on `devices`, by default all there are, which need not exist.

    Raises:
      UserError: the mesh does not multiply out to the devices, or the batch does not divide.
    """
    mesh = make_mesh(config.mesh, devices)
    check_batch(config.rules, mesh, config.batch_size, config.microbatches)
    for own in (config.model, config.model.of_side("decoder")):
        check_split(config.rules, mesh, {"heads": own.num_heads, "mlp": own.d_ff})
    if isinstance(config.model.feed_forward, Experts):
        check_split(config.rules, mesh, {"experts": config.model.feed_forward.num_experts})
    layout = batch_sharding(config.rules, mesh)
    network = placed(config, mesh, objective.make_head)
    transformation = optimizers.build(config.optimizer, config.steps, network.trained_specs)
    target = abstract_state(network, transformation, config.rules, mesh)
    train_step = make_train_step(network, config, objective, target, layout)
    eval_step = make_eval_step(network, config, objective, layout)
    return Program(config, objective, mesh, transformation, network, target, layout, train_step, eval_step)
