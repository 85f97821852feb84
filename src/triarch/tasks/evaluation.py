"""SeqIO tasks with their own metrics, as `seqio.Evaluator` computes them, on what any model puts out.

A task's examples and targets are read once for a split. What a metric asks for (predictions, scores of the targets, or
predictions with their log-likelihoods as `aux_values["scores"]`) comes from `TaskOutputs`; the examples of all tasks
go to it together. The metrics themselves are SeqIO's objects, called as its evaluator calls them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import seqio
import tensorflow as tf

from triarch.errors import UserError, nearest
from triarch.evaluation.task_outputs import TaskOutputs, TaskRequest
from triarch.tasks.metric_values import plain_metrics
from triarch.tasks.user_errors import told
from triarch.tasks.vocabulary_check import check_vocabularies
from triarch.tokenizers import Tokenizer

Kind: TypeAlias = seqio.metrics.ModelOutputType
_KINDS = {
    Kind.PREDICTION: "predictions",
    Kind.SCORE: "scores",
    Kind.PREDICTION_WITH_AUX: "predictions with aux_values",
    Kind.SCORE_WITH_INTERMEDIATES: "scores with intermediate values",
}
# `seqio.Evaluator`'s own, for tasks whose preprocessing draws.
_SEED = 42


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """Which examples are read.

    Attributes:
      split: by name.
      lengths: the most tokens of features, cut there by SeqIO; None: the longest that there are.
      num_examples: how many of each task, the first ones; None for all.
    """

    split: str = "validation"
    lengths: Mapping[str, int] | None = None
    num_examples: int | None = None


@dataclasses.dataclass(frozen=True)
class SeqioTaskResult:
    """What a task came to.

    Attributes:
      metrics: by name; None for one that is no finite number.
      rows: for every example what was read, wanted and predicted, as JSON has it.
    """

    metrics: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]


class EvaluatedTask:
    """A task with the examples of one split.

    Attributes:
      task: of SeqIO.
      examples: as the task yields them.
      requests: the same as a model meets them.
      left_out: what metrics ask for that are not computed, for an encoder does not make it.
    """

    def __init__(self, task: seqio.Task, options: ReadOptions):
        """Reads the examples.

        Raises:
          UserError: the task has no such split, no metric, no example, or features that no model reads.
        """
        self.task = task
        with told(f"task {task.name}: its metrics"):
            self.metrics = list(task.metric_objs)
        if not self.metrics:
            raise UserError(f"task {task.name} has no metric_fns or metric_objs: there is nothing to evaluate")
        if options.split not in task.splits:
            raise UserError(f"task {task.name} has no split {options.split!r}{nearest(options.split, task.splits)}")
        unknown = set(options.lengths or {}) - set(task.output_features)
        if unknown:
            name = min(unknown)
            raise UserError(
                f"--seqio_lengths: task {task.name} has no feature {name!r}{nearest(name, task.output_features)}"
            )
        if options.lengths is None and _needs_lengths(task):
            raise UserError(
                f"task {task.name}: its preprocessors ask for lengths: give --seqio_lengths=inputs=N,targets=M"
            )
        with told(f"task {task.name}, split {options.split}"):
            self.examples = _examples(task, options)
        if not self.examples:
            raise UserError(f"task {task.name}: its split {options.split!r} has no examples")
        ids = {name: self._ids(name) for name in ("inputs", "targets") if name in task.output_features}
        longest = max(map(len, ids["targets"]))
        length = max((options.lengths or {}).get("targets", longest), 1)
        inputs = ids.get("inputs", [()] * len(self.examples))
        self.requests = [TaskRequest(*pair, length) for pair in zip(inputs, ids["targets"], strict=True)]
        self.left_out: list[str] = []
        self._targets: list[Any] = []

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name

    def unable(self, architecture: str) -> str | None:
        """Returns why a model of this architecture can do none of the task's metrics; None if it can do some.

        An encoder scores, and predicts nothing; see `left_out`.
        """
        if architecture != "encoder-only" or Kind.SCORE in self._kinds:
            return None
        asked = " and ".join(sorted(_KINDS[kind] for kind in self._kinds))
        return f"task {self.name}: its metrics ask for {asked}, which an encoder does not make"

    def check(self, outputs: TaskOutputs, tokenizer: Tokenizer) -> None:
        """Makes sure that a model that is not unable to do the task can do it, and leaves out what an encoder cannot.

        Raises:
          UserError: it cannot; the task's vocabulary is another one than the model's.
        """
        check_vocabularies(self.task, tokenizer, outputs.ends, outputs.model.config.vocab_size)
        if outputs.architecture == "encoder-only":
            self.left_out = sorted(_KINDS[kind] for kind in self._kinds - {Kind.SCORE})
            self.metrics = [metric for metric in self.metrics if metric.model_output_type == Kind.SCORE]
        if Kind.SCORE_WITH_INTERMEDIATES in self._kinds:
            asked = _KINDS[Kind.SCORE_WITH_INTERMEDIATES]
            raise UserError(f"task {self.name}: a metric asks for {asked}, which triarch does not keep")
        outputs.check(self.name, self.requests, self.needs_predictions, self.needs_scores)

    @property
    def needs_predictions(self) -> bool:
        """Whether a metric asks for predictions."""
        return bool({Kind.PREDICTION, Kind.PREDICTION_WITH_AUX} & self._kinds)

    @property
    def needs_scores(self) -> bool:
        """Whether a metric asks for scores of the targets."""
        return Kind.SCORE in self._kinds

    @property
    def needs_prediction_scores(self) -> bool:
        """Whether a metric asks for scores of the predictions."""
        return Kind.PREDICTION_WITH_AUX in self._kinds

    def predicted(self, tokens: Sequence[Sequence[int]]) -> list[list[int]]:
        """Returns predictions with the id that ends them, where they ended."""
        end = self.task.output_features["targets"].vocabulary.eos_id
        return [
            [*row, end] if end is not None and len(row) < one.length else list(row)
            for row, one in zip(tokens, self.requests, strict=True)
        ]

    def result(
        self,
        predictions: Sequence[Sequence[int]] | None,
        scores: Sequence[float] | None,
        prediction_scores: Sequence[float] | None,
    ) -> SeqioTaskResult:
        """Returns the metrics of what a model put out, an entry for each example; None for what none asks for.

        Raises:
          UserError: the task's postprocessing or a metric of its raised an error, or two metrics have one name.
        """
        given: dict[Kind, Any] = {}
        if predictions is not None:
            # As T5X's decoding gives them: rows of one length, what is behind the end padding.
            pad = self.task.output_features["targets"].vocabulary.pad_id
            rows = np.full((len(predictions), self.requests[0].length), pad, np.int32)
            for row, tokens in zip(rows, self.predicted(predictions), strict=True):
                row[: len(tokens)] = tokens
            given[Kind.PREDICTION] = rows
            if prediction_scores is not None:
                given[Kind.PREDICTION_WITH_AUX] = (rows, {"scores": np.array(prediction_scores)})
        if scores is not None:
            given[Kind.SCORE] = np.array(scores)
        found: dict[str, Any] = {}
        inferences: dict[str, Any] = {}
        for metric in self.metrics:
            with told(f"task {self.name}: a metric"):
                own, inferred = self._computed(metric, given)
            for name, value in own.items():
                if name in found:
                    raise UserError(f"task {self.name}: two of its metrics are called {name!r}")
                found[name] = value
            inferences |= inferred
        return SeqioTaskResult(plain_metrics(found), self._rows(inferences, given))

    def _computed(self, metric: Any, given: Mapping[Kind, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Returns a metric's values, and what it made of outputs and targets, as `seqio.Evaluator` computes them."""
        features = self.task.output_features
        instance = metric.from_model_output(self.examples, given[metric.model_output_type], features, "targets")
        if isinstance(instance, seqio.metrics.CollectingMetric):
            values, inferred = instance.actual_compute(self.examples, features, "targets", self._targets)
            self._targets = inferred["targets"]
            return values, inferred
        return instance.compute(), getattr(instance, "targets_and_inferences", None) or {}

    def _rows(self, inferences: Mapping[str, Any], given: Mapping[Kind, Any]) -> list[dict[str, Any]]:
        rows = []
        for index, (example, one) in enumerate(zip(self.examples, self.requests, strict=True)):
            row: dict[str, Any] = {"index": index}
            if one.inputs:
                row["input"] = self._text("inputs", example, one.inputs)
            row["target"] = inferences["targets"][index] if "targets" in inferences else None
            row |= {name: inferences[name][index] for name in ("output", "prediction", "score") if name in inferences}
            if Kind.PREDICTION_WITH_AUX in given:
                row["prediction_score"] = given[Kind.PREDICTION_WITH_AUX][1]["scores"][index]
            rows.append({name: _plain(value) for name, value in row.items()})
        return rows

    def _text(self, feature: str, example: Mapping[str, Any], ids: Sequence[int]) -> Any:
        kept = example.get(f"{feature}_pretokenized")
        return self.task.output_features[feature].vocabulary.decode(list(ids)) if kept is None else kept

    @property
    def _kinds(self) -> set[Kind]:
        return {metric.model_output_type for metric in self.metrics}

    def _ids(self, name: str) -> list[tuple[int, ...]]:
        rows = []
        for number, example in enumerate(self.examples, 1):
            values = np.asarray(example[name])
            if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
                raise UserError(
                    f"task {self.name}: feature {name!r} of example {number} is {values.dtype}{list(values.shape)}, "
                    "expected a row of token ids"
                )
            rows.append(tuple(values.tolist()))
        return rows


def find_tasks(names: Sequence[str], modules: Sequence[str], split: str) -> tuple[list[seqio.Task], list[str]]:
    """Returns the tasks of these names, those of mixtures in their place, and which tasks of mixtures are left out.

    As in `seqio.Evaluator`, those without a metric or without the split are.

    Args:
      names: of tasks and mixtures.
      modules: that the user named, for the message.
      split: by name.

    Raises:
      UserError: a name is not registered; names the nearest, and where it was looked for.
    """
    known = {*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}
    tasks: dict[str, seqio.Task] = {}
    left_out = []
    for name in names:
        if name not in known:
            where = " or ".join(f"--module={module}" for module in modules) or "any module: name its own with --module"
            raise UserError(f"no SeqIO task or mixture {name!r} in {where}{nearest(name, known)}")
        found = seqio.get_mixture_or_task(name)
        parts = seqio.get_subtasks(found)
        if isinstance(found, seqio.Mixture):
            usable = [task for task in parts if split in task.splits and task.metric_objs]
            left_out += [task.name for task in parts if task not in usable]
            if not usable:
                raise UserError(f"mixture {name}: none of its tasks has both a metric and a split {split!r}")
            parts = usable
        tasks |= {task.name: task for task in parts}
    return list(tasks.values()), left_out


def evaluate(tasks: Sequence[EvaluatedTask], outputs: TaskOutputs) -> dict[str, SeqioTaskResult]:
    """Returns the results of tasks by name; their examples share batches.

    Raises:
      UserError: see `EvaluatedTask.result`.
    """
    predictions = _shared([task for task in tasks if task.needs_predictions], outputs.predictions)
    scores = _shared([task for task in tasks if task.needs_scores], outputs.scores)
    results = {}
    for task in tasks:
        predicted, of_predicted = predictions.get(task.name), None
        if task.needs_prediction_scores:
            assert predicted is not None
            rows = task.predicted(predicted)
            asked = [
                dataclasses.replace(one, targets=tuple(row))
                for one, row in zip(task.requests, rows, strict=True)
                if row
            ]
            found = iter(outputs.scores(asked))
            of_predicted = [next(found) if row else 0.0 for row in rows]
        results[task.name] = task.result(predicted, scores.get(task.name), of_predicted)
    return results


def _shared(tasks: Sequence[EvaluatedTask], compute: Any) -> dict[str, list[Any]]:
    """Returns what `compute` makes of the requests of all tasks, by task."""
    found = iter(compute([one for task in tasks for one in task.requests]) if tasks else ())
    return {task.name: [next(found) for _ in task.requests] for task in tasks}


def _examples(task: seqio.Task, options: ReadOptions) -> list[dict[str, Any]]:
    with contextlib.suppress(RuntimeError):  # TensorFlow is running already, and has the memory that it has.
        # Accelerators belong to jax: TensorFlow would take all of their memory to read text.
        tf.config.set_visible_devices([], "GPU")
    dataset = task.get_dataset(options.lengths, split=options.split, shuffle=False, seed=_SEED, num_epochs=1)
    if options.num_examples is not None:
        dataset = dataset.take(options.num_examples)
    return list(dataset.as_numpy_iterator())


def _needs_lengths(task: seqio.Task) -> bool:
    """Returns whether a preprocessor asks for sequence lengths and has none of its own."""
    for step in task.preprocessors:
        given = inspect.signature(step).parameters.get("sequence_length")
        if given is not None and given.default is inspect.Parameter.empty:
            return True
    return False


def _plain(value: Any) -> Any:
    """Returns a value as JSON has it."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
