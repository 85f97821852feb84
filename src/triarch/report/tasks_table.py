"""Results of tasks: from the table that `triarch evaluate --tasks` writes, and from runs that evaluated their own."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from triarch.report.study import StudyRun
from triarch.scaling.tables.table import Table

TASKS = "tasks.csv"
READ_SO_FAR = ("tokens", "flops_paper", "flops_train")


@dataclasses.dataclass(frozen=True)
class TaskVariant:
    """What was asked, and how it was counted. `shots` and `examples` are text, empty where a group's tasks differ."""

    task: str
    metric: str
    filter: str
    shots: str
    examples: str

    @property
    def title(self) -> str:
        """Returns it in words."""
        cut = "" if self.filter in ("", "none") else f" ({self.filter})"
        return f"{self.task}, {self.metric}{cut}" + (f", {self.shots}-shot" if self.shots else "")


@dataclasses.dataclass(frozen=True)
class TaskPoint:
    """One answer of one checkpoint.

    Attributes:
      run: name of the training that the checkpoint is of.
      architecture: of the model.
      scoring: "log-likelihood", or what an encoder has instead.
      step: of training; NaN where unknown.
      so_far: tokens read and FLOPs spent until then (`READ_SO_FAR`); NaN where unknown.
      question: what was asked.
      value: of the metric.
      standard_error: NaN where unknown.
    """

    run: str
    architecture: str
    scoring: str
    step: float
    so_far: dict[str, float]
    question: TaskVariant
    value: float
    standard_error: float


def read_tasks(path: Path, runs: Sequence[StudyRun] = ()) -> list[TaskPoint]:
    """Reads a table of task results.

    Args:
      path: of the table: columns run, architecture, scoring, step, tokens, flops_paper and flops_train (these four may
        be empty), task, metric, filter, num_fewshot, num_examples, value and standard_error (may be empty).
      runs: of the study. An export does not say how much it has read: that is looked up in the run of its name.

    Raises:
      UserError: the table is misshapen.
    """
    table = Table.read_csv(path)
    if not len(table):
        return []
    names, architectures, scorings = (table.text(name) for name in ("run", "architecture", "scoring"))
    asked = zip(*(table.text(n) for n in ("task", "metric", "filter", "num_fewshot", "num_examples")), strict=True)
    questions = [TaskVariant(*words) for words in asked]
    steps = table.numbers("step", positive=False, optional=True)
    so_far = {name: table.numbers(name, positive=False, optional=True) for name in READ_SO_FAR}
    values = table.numbers("value", positive=False)
    errors = table.numbers("standard_error", positive=False, least=0.0, optional=True)
    known = {run.name: run for run in runs}
    points = []
    for i, name in enumerate(names):
        own = {column: float(numbers[i]) for column, numbers in so_far.items()}
        if any(map(math.isnan, own.values())) and name in known:
            own = at_step(known[name].metrics, float(steps[i]))
        trained = name, architectures[i], scorings[i], float(steps[i]), own
        points.append(TaskPoint(*trained, questions[i], float(values[i]), float(errors[i])))
    return points


def tasks_of_runs(runs: Sequence[StudyRun]) -> list[TaskPoint]:
    """Returns what runs' own `RunConfig.eval_tasks` came to along training, SeqIO tasks by their own metrics."""
    points = []
    for run in runs:
        scoring = "pseudo-log-likelihood" if run.architecture == "encoder-only" else "log-likelihood"
        for name, values in run.tasks.items():
            task, _, metric = name.partition("/")
            question = TaskVariant(task, metric, "none", "", "")
            for step, value in sorted(values.items()):
                trained = run.name, run.architecture, scoring, step, at_step(run.metrics, step)
                points.append(TaskPoint(*trained, question, value, math.nan))
    return points


def at_step(metrics: Mapping[str, np.ndarray], step: float) -> dict[str, float]:
    """Returns what a run had read by a step: between logged steps tokens and FLOPs grow in proportion to them.

    Args:
      metrics: logged along training: "step", ascending, and `READ_SO_FAR`.
      step: of which to tell; beyond the last one logged, or NaN, nothing is known (NaN).
    """
    steps = metrics.get("step", ())
    if not len(steps) or math.isnan(step):
        return dict.fromkeys(READ_SO_FAR, math.nan)
    return {name: float(np.interp(step, [0, *steps], [0, *metrics[name]], right=math.nan)) for name in READ_SO_FAR}
