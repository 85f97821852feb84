"""A run put together: everything that lives on devices, made from config and inputs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding

from triarch.interchange import Placement
from triarch.sharding import batch_sharding, check_batch, check_split, host_rows, make_mesh
from triarch.training import optimizers
from triarch.training.config import RunConfig
from triarch.training.hardware import peak_flops
from triarch.training.inputs import Inputs
from triarch.training.starting_point import StartingPoint
from triarch.training.state import Network, TrainState, abstract_state, born_sharded
from triarch.training.step import Batch, EvalStep, TrainStep, make_eval_step, make_train_step


@dataclasses.dataclass(frozen=True)
class Run:
    """The functions and facts the loop needs.

    Attributes:
      config: of the run.
      inputs: what it reads.
      mesh: the devices.
      transformation: the optimizer.
      network: the model as functions of its parameters.
      target: the state's shapes, types and shardings.
      batch_layout: sharding of a batch's leading axis.
      train_step: (state, batch) -> (state, metrics); donates the state.
      eval_step: (params, batch) -> LossSums.
    """

    config: RunConfig
    inputs: Inputs
    mesh: Mesh
    transformation: optax.GradientTransformation
    network: Network
    target: TrainState
    batch_layout: NamedSharding
    train_step: TrainStep
    eval_step: EvalStep

    def initial_state(self, start: StartingPoint | None = None) -> TrainState:
        """Returns a fresh state, made in place on the mesh, with what `start` has where there is one.

        Raises:
          UserError: the starting point is damaged.
        """
        state = born_sharded(self.network, self.transformation, self.target, self.config.seed)
        if start is None:
            return state
        return start.state(state, self.target, Placement(self.mesh, self.config.rules))

    def batches(self, start_step: int) -> Iterator[Batch]:
        """Yields global batches from that of `start_step` on, without end; they are read ahead."""
        data = self.config.data
        for _, batch in self.inputs.training(self._rows).iterate(start_step, data.num_threads, data.prefetch):
            yield self._place(batch)

    def validate(self, params: Any) -> list[Any]:
        """Starts an evaluation and returns the LossSums of each batch, still being computed."""
        return [self.eval_step(params, self._place(batch)) for batch in self._validation_batches]

    @property
    def tokens_per_step(self) -> int:
        """Tokens of a global batch, over both sides of the model."""
        return self.config.batch_size * self.inputs.window

    def flops_per_step(self, convention: str) -> float:
        """Returns the model's FLOPs for a global batch."""
        return self.config.batch_size * self.inputs.flops_per_sequence(convention)

    def so_far(self, step: int) -> dict[str, float]:
        """Returns the tokens read and the FLOPs made in the run's first `step` steps, over all its segments."""
        return {
            "tokens": self.inputs.examples_until(step) * self.inputs.window,
            "flops_paper": self.inputs.flops_until(step, "paper"),
            "flops_train": self.inputs.flops_until(step, "train"),
        }

    def mfu(self, tokens_per_second: float | None) -> float | None:
        """Returns model FLOPs utilisation ("train" convention), or None where the devices' peak is unknown."""
        peak = peak_flops(self.mesh.devices.flat[0])
        if tokens_per_second is None or peak is None:
            return None
        steps_per_second = tokens_per_second / self.tokens_per_step
        return steps_per_second * self.flops_per_step("train") / (peak * self.mesh.size)

    @property
    def _rows(self) -> slice:
        return host_rows(self.batch_layout, self.config.batch_size)

    @functools.cached_property
    def _validation_batches(self) -> list[dict[str, np.ndarray]]:
        batches = self.inputs.validation(self._rows)
        return [batches.batch(step) for step in range(self.config.eval_batches)]

    def _place(self, batch: dict[str, np.ndarray]) -> Batch:
        size = self.config.batch_size
        return {
            name: jax.make_array_from_process_local_data(self.batch_layout, rows, (size, *rows.shape[1:]))
            for name, rows in batch.items()
        }


def assemble(config: RunConfig, inputs: Inputs, devices: Sequence[jax.Device] | None = None) -> Run:
    """Builds a run on `devices`, by default all there are; parameters are not made yet.

    Raises:
      UserError: the mesh does not multiply out to the devices, or the batch does not divide.
    """
    mesh = make_mesh(config.mesh, devices)
    check_batch(config.rules, mesh, config.batch_size, config.microbatches)
    for own in (config.model, config.model.of_side("decoder")):
        check_split(config.rules, mesh, {"heads": own.num_heads, "mlp": own.d_ff})
    layout = batch_sharding(config.rules, mesh)
    network = Network(config.model, config.execution, config.rules, mesh)
    transformation = optimizers.build(config.optimizer, config.steps)
    target = abstract_state(network, transformation, config.rules, mesh)
    train_step = make_train_step(network, config, target, layout, inputs.num_scored)
    eval_step = make_eval_step(network, config, layout, inputs.num_scored)
    return Run(config, inputs, mesh, transformation, network, target, layout, train_step, eval_step)
