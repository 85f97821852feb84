"""The teacher of a run that distils one: found, checked, and put beside the network."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax

from triarch import schema
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.files import write_whole
from triarch.interchange import Placement
from triarch.objectives.distillation.distill import Distill, teacher_network
from triarch.training.config import RunConfig
from triarch.training.record.fingerprint import is_begun
from triarch.training.run import Run
from triarch.training.starting_point import TAKEN, StartingPoint, open_parameters
from triarch.training.state import TrainState

FILE_NAME = "teacher.json"


def open_teacher(config: RunConfig, store: TokenStore, workdir: Path) -> StartingPoint | None:
    """Returns where the parameters of a run's teacher lie; None for a run without one.

    Args:
      config: of the run.
      store: that it reads.
      workdir: of the run: once a step was made, the teacher stays the same.

    Raises:
      UserError: it has another vocabulary or holds no whole parameters, or others than when the run began.
    """
    if not isinstance(config.objective, Distill):
        return None
    named, folder = f"Distill.teacher = {config.objective.teacher!r}", Path(config.objective.teacher)
    network = teacher_network(config.objective)
    if network.vocab_size != config.model.vocab_size:
        sizes = f"predicts {network.vocab_size} tokens, the run's network {config.model.vocab_size}"
        raise UserError(f"{named}: {sizes}: expected a teacher of the same vocabulary")
    path = workdir / FILE_NAME
    before = schema.read(path, TAKEN) if path.is_file() and is_begun(workdir) else None
    step = None if before is None else before["step"]
    there = dataclasses.replace(
        config,
        model=network,
        init_from=str(folder),
        init_encoder_from=None,
        init_step=None,
        init_optimizer=False,
        init_data=False,
    )
    found = open_parameters(folder, there, store, named, step)
    if before is not None and found.taken != before:
        raise UserError(f"{named}: holds other parameters than those that {workdir} began with: put these back")
    return found


def write_teacher(teacher: StartingPoint, workdir: Path) -> None:
    """Keeps in a run folder which parameters its teacher has."""
    write_whole(workdir / FILE_NAME, json.dumps(teacher.taken) + "\n")


def taught(run: Run, state: TrainState, teacher: StartingPoint) -> TrainState:
    """Returns a state with the teacher's parameters beside the network's.

    Raises:
      UserError: the teacher is damaged.
    """
    found = teacher.read(Placement(run.mesh, run.config.rules))
    target = run.target.params["head"]["network"]
    placed = jax.tree.map(lambda leaf, like: jax.device_put(leaf, like.sharding), found, target)
    return state._replace(params={**state.params, "head": {"network": placed}})
