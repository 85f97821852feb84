"""What a report shows beside its runs, where it is there: suites, tasks, length extrapolation, attention, throughput.

A study's folder `analysis` holds the tables that `triarch evaluate --suite`, `triarch evaluate --tasks`, `triarch
extrapolate` and `triarch attention` write when it is their --output, and what benchmarks/generation_throughput.py
measured when its --json is there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from triarch.report.attention_figures import attention_panels
from triarch.report.length_figures import length_panels, quality_panels
from triarch.report.study import StudyFolder
from triarch.report.task_figures import task_panels
from triarch.report.tasks_table import TASKS, TaskPoint, TaskVariant, read_tasks, tasks_of_runs
from triarch.report.throughput_figures import THROUGHPUT, throughput_panels
from triarch.report.tuning_figures import RANKS, TEXT, read_rankers, tuning_panels
from triarch.scaling.figures.style import Panel
from triarch.scaling.tables.table import Table

FOLDER, SUITE = "analysis", "suite.csv"
_COMPARABLE = ("paired", "pseudo_likelihood")
# Of a page that is to be sent around.
_MAP_SIZE = 48
_AVERAGES = {"micro": "every token alike", "macro": "every domain alike", "macro_sources": "every source alike"}


@dataclasses.dataclass(frozen=True)
class SuiteRow:
    """A domain, or an average: what it is, and each model's nats a token and standard error (NaN where unknown)."""

    source: str
    name: str
    is_average: bool
    scores: tuple[tuple[float, float] | None, ...]


@dataclasses.dataclass(frozen=True)
class SuiteTable:
    """The losses of several models on a suite, domains downwards and models across."""

    models: tuple[str, ...]
    rows: tuple[SuiteRow, ...]


@dataclasses.dataclass(frozen=True)
class TaskTable:
    """The results of each run's last checkpoint, questions downwards and runs across; (value, standard error)."""

    runs: tuple[str, ...]
    rows: tuple[tuple[TaskVariant, tuple[tuple[float, float] | None, ...]], ...]


def analysis_sections(study: StudyFolder, tasks: Sequence[TaskPoint]) -> list[tuple[str, str, list[Panel]]]:
    """Returns title, text and figures of each section; one without figures has no table in the study.

    Args:
      study: whose folder is looked into.
      tasks: as `study_tasks` has them.

    Raises:
      UserError: a table is misshapen.
    """
    folder = study.folder / FOLDER
    suite = quality_panels(Table.read_csv(folder / SUITE)) if (folder / SUITE).exists() else []
    rankers = read_rankers(folder) if (folder / RANKS).exists() else []
    quality = (
        "Mean loss over the suite's sources against what reading one window costs, and against parameters, with 95%"
        " intervals. The paper convention counts the whole attention square and embeddings as products; the train"
        " convention's forward pass counts what the mask allows, and lookups as free. Hollow points are"
        " pseudo-likelihoods, not comparable with the filled ones."
    )
    length = (
        "A prefix is given and what follows it scored, up to each total length. Both figures are of the same windows;"
        " the band is a 95% interval over windows."
    )
    along = (
        "Zero- and few-shot results of each run's checkpoints, with 95% intervals over examples, and the metrics of"
        " SeqIO tasks that runs evaluated while they trained (RunConfig.eval_tasks). Tasks tell models apart only where"
        " they leave chance. Hollow points are pseudo-likelihoods, not comparable with filled ones."
    )
    throughput, measured = throughput_panels(folder / THROUGHPUT)
    attention = (
        "Locality is the attention mass on the nearest tokens. The effective rank is the exponential of the entropy of"
        " the singular values divided by their sum (Roy and Vetterli 2007); dotted lines are what attention spread"
        " evenly over all that the mask allows would have. Points are heads. Maps have a colour scale each, by the"
        " square root of the weight; large ones show the mass on stretches of keys."
    )
    return [
        ("Tasks along training", along, task_panels(tasks)),
        ("Quality against inference cost", quality, suite),
        ("Before and after tuning", TEXT, tuning_panels(rankers)),
        ("Throughput of generation", measured, throughput),
        ("Beyond the trained length", length, length_panels(folder)),
        ("Attention", attention, attention_panels(folder, _MAP_SIZE)),
    ]


def study_tasks(study: StudyFolder) -> list[TaskPoint]:
    """Returns what the study's models were asked, in its table if there is one, and by runs while they trained.

    Raises:
      UserError: the table is misshapen.
    """
    path = study.folder / FOLDER / TASKS
    asked = read_tasks(path, study.runs) if path.exists() else []
    return [*asked, *tasks_of_runs(study.runs)]


def task_table(tasks: Sequence[TaskPoint]) -> TaskTable | None:
    """Returns the results of every run's last checkpoint; None where nothing was asked."""
    last = {(one.question, one.run): one for one in sorted(tasks, key=lambda one: np.nan_to_num(one.step))}
    runs = tuple(dict.fromkeys(one.run for one in tasks))
    rows = []
    for question in dict.fromkeys(one.question for one in tasks):
        found = [last.get((question, run)) for run in runs]
        rows.append((question, tuple((one.value, one.standard_error) if one else None for one in found)))
    return TaskTable(runs, tuple(rows)) if rows else None


def suite_table(study: Path) -> SuiteTable | None:
    """Returns the suite's table in the scoring that compares models; None where there is none.

    Raises:
      UserError: the table is misshapen.
    """
    path = study / FOLDER / SUITE
    if not path.exists():
        return None
    table = Table.read_csv(path)
    names = ("model", "source", "domain", "average", "scoring")
    models, sources, domains, averages, scorings = (table.text(name) for name in names)
    losses = table.numbers("nats_per_token")
    errors = table.numbers("standard_error", positive=False, least=0.0, optional=True)
    scores: dict[tuple[str, str, str], dict[str, tuple[float, float]]] = {}
    for i, scoring in enumerate(scorings):
        if scoring in _COMPARABLE:
            row = scores.setdefault((sources[i], domains[i], averages[i]), {})
            row[models[i]] = float(losses[i]), float(errors[i])
    columns = tuple(dict.fromkeys(models))
    rows = [
        SuiteRow(
            source or "all",
            domain or _AVERAGES.get(average, average),
            average in _AVERAGES,
            tuple(found.get(model) for model in columns),
        )
        for (source, domain, average), found in scores.items()
    ]
    return SuiteTable(columns, tuple(rows)) if rows else None
