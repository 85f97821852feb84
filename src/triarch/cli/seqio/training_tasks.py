"""SeqIO tasks for `triarch train`: what evaluates `RunConfig.eval_tasks` during a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from triarch.cli.seqio.evaluation import open_seqio_tasks, read_lengths
from triarch.errors import UserError

if TYPE_CHECKING:
    from triarch.interchange import LoadedModel
    from triarch.training import RunConfig


def task_evaluator(config: RunConfig, modules: Sequence[str]) -> SeqioEvaluator | None:
    """Returns what evaluates a run's tasks, their examples read; None where there are none.

    Raises:
      UserError: a task is not registered or has no such split, no metric or no examples.
    """
    if not config.eval_tasks:
        return None
    from triarch.training.config import validate

    validate(config)
    try:
        lengths = read_lengths(config.eval_tasks_lengths)
        tasks = open_seqio_tasks(
            config.eval_tasks, modules, config.eval_tasks_split, lengths, config.eval_tasks_examples
        )
    except UserError as error:
        raise UserError(f"RunConfig.eval_tasks: {error}") from error
    return SeqioEvaluator(tasks, config.eval_tasks_batch)


class SeqioEvaluator:
    """A `triarch.training.task_evaluation.TaskEvaluator` of SeqIO tasks."""

    def __init__(self, tasks: Sequence[Any], batch_size: int):
        self._tasks = tasks
        self._batch_size = batch_size
        self._frame: Any = None

    def check(self, model: LoadedModel) -> None:
        """Raises UserError where the model, an encoder say, cannot do a task."""
        from triarch.loading import tokenizer_of

        tokenizer = tokenizer_of(model)
        self._frame = getattr(tokenizer, "frame", None)
        outputs = self._outputs(model)
        for task in self._tasks:
            if (reason := task.unable(outputs.architecture)) is not None:
                raise UserError(f"RunConfig.eval_tasks: {reason}")
            task.check(outputs, tokenizer)

    def __call__(self, model: LoadedModel, step: int) -> Mapping[str, float | None]:
        """Returns the metrics that are numbers, by TASK/METRIC."""
        from triarch.tasks.evaluation import evaluate

        results = evaluate(self._tasks, self._outputs(model))
        return {
            f"{name}/{metric}": value
            for name, result in results.items()
            for metric, value in result.metrics.items()
            if not isinstance(value, str)
        }

    def _outputs(self, model: LoadedModel) -> Any:
        from triarch.evaluation.few_shot.answers import Answers
        from triarch.evaluation.task_outputs import OutputOptions, TaskOutputs

        return TaskOutputs(model, self._frame, OutputOptions(batch_size=self._batch_size), Answers(None, {}))
