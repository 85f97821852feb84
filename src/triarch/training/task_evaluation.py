"""Tasks evaluated while a model is trained, by whoever knows how: training itself knows no SeqIO."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from triarch.data.manifest import VOCABULARY
from triarch.errors import UserError, nearest
from triarch.interchange import LoadedModel, Placement
from triarch.models import ModelConfig, Network
from triarch.objectives import kept_head
from triarch.runtime.consistency import from_first
from triarch.training.config import RunConfig
from triarch.training.logs.status import StatusLine
from triarch.training.record.config_json import read_json
from triarch.training.record.fingerprint import config_fingerprint
from triarch.training.record.origin import run_origin
from triarch.training.run import Run


class TaskEvaluator(Protocol):
    """Puts the tasks of `RunConfig.eval_tasks` to a model, the same examples each time.

    Of several processes each has one and calls it with the others.
    """

    def check(self, model: LoadedModel) -> None:
        """Raises UserError where the model cannot do a task, and does what is to be done once."""

    def __call__(self, model: LoadedModel, step: int) -> Mapping[str, float | None]:
        """Returns the metrics after `step` updates by TASK/METRIC; None for a value that is no finite number."""


class TaskEvaluation:
    """The evaluation of a run's tasks. Programs compiled for it are kept from one time to the next."""

    def __init__(self, evaluator: TaskEvaluator, run: Run, workdir: Path, params: Any, progress: StatusLine):
        """Makes sure that the run's model can do the tasks.

        Args:
          evaluator: of the tasks.
          run: whose model it is.
          workdir: its folder.
          params: of the model, by which its tasks are checked; they may be donated later.
          progress: says what came of it.

        Raises:
          UserError: the model cannot do one.
        """
        self._evaluator = evaluator
        self._progress = progress
        best = run.config.checkpoint.keep_best
        self._best = best if best is not None and "/" in best else None
        fields = read_json(workdir)
        placement = Placement(run.mesh, run.config.rules)
        # SeqIO's tasks ask for tokens, of which a head of the objective knows nothing, but for labels.
        make_head = kept_head(fields["objective"], run.config.model, str(workdir))
        network = Network(run.config.model, constrain=placement.constrain, make_head=make_head)
        known = fields | {"window": run.config.data.window, "fingerprint": config_fingerprint(fields)}
        origin = run_origin(workdir, known, 0)
        files = workdir / VOCABULARY
        self._folded = run.network.folded
        self._model = LoadedModel(
            workdir, network, self._folded(params), origin, placement, files if files.is_dir() else None
        )
        evaluator.check(self._model)

    @property
    def model(self) -> ModelConfig:
        """The network that the tasks are put to."""
        return self._model.network.config

    def __call__(self, params: Any, step: int) -> dict[str, float | None]:
        """Returns the metrics of the parameters after `step` updates; {} where a metric could not be computed."""
        self._model.params = self._folded(params)
        try:
            found = dict(self._evaluator(self._model, step))
        except UserError as error:
            # A metric may fail on what one checkpoint predicts: that is no reason to lose the run.
            self._progress.say(f"step {step}: tasks could not be evaluated: {error}")
            found = {}
        found = json.loads(from_first(json.dumps(found)))
        if found and self._best is not None and self._best not in found:
            raise UserError(f"CheckpointConfig.keep_best = {self._best!r}: no such metric{nearest(self._best, found)}")
        if found:
            told = ", ".join(f"{name} {'-' if value is None else f'{value:.4g}'}" for name, value in found.items())
            self._progress.say(f"step {step}: {told}")
        return found


def check_evaluator(config: RunConfig, evaluator: TaskEvaluator | None) -> None:
    """Raises UserError where a run has tasks to evaluate and nobody to do it."""
    if config.eval_tasks and evaluator is None:
        raise UserError(
            f"RunConfig.eval_tasks = {config.eval_tasks!r}: `triarch train` evaluates them; in Python give `train` a "
            "task_evaluator"
        )


def is_due(config: RunConfig, step: int, last: bool) -> bool:
    """Returns whether a run's tasks, or labels, are evaluated after `step` updates."""
    every = config.eval_every if hasattr(config.objective, "metrics") else config.eval_tasks_every
    return every is not None and (last or step % every == 0)
