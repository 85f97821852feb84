"""A suite's results as tables: a run a row, a setting a row with mean and spread over seeds, and scores over tasks."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triarch import schema
from triarch.schema import Anything, MapOf
from triarch.sweeps.tuning.grid import TuningRun, result_file
from triarch.sweeps.tuning.suite import METRICS

RUN_COLUMNS = ("run", "model", "task", "learning_rate", "weight_decay", "epochs", "seed", "split", "rows", *METRICS)
SETTING_COLUMNS = (
    *("model", "task", "learning_rate", "weight_decay", "epochs", "seeds", "score", "spread", "chosen"),
    *(f"{metric}{suffix}" for metric in METRICS for suffix in ("", "_spread")),
)
SCORE_COLUMNS = ("model", "tasks", "seeds", "score", "spread")


@dataclasses.dataclass(frozen=True)
class SuiteTables:
    """What a suite's runs gave; each table is rows of values by column.

    Attributes:
      runs: a row for each run and split.
      settings: a row for each setting: the mean of every metric over splits and seeds, and its standard deviation
        over seeds; `score` is the mean of the task's metrics over its splits, `chosen` marks each task's best score.
      scores: of each model, the mean over tasks of the best settings' scores, and the spread of that mean over the
        seeds which all of them have.
    """

    runs: tuple[dict[str, Any], ...]
    settings: tuple[dict[str, Any], ...]
    scores: tuple[dict[str, Any], ...]


def read_results(run: TuningRun, output: Path) -> dict[str, dict[str, Any]] | None:
    """Returns what `evaluate` said of a run by split; None while a split is missing."""
    paths = {split: result_file(output, run, split) for split in run.task.splits}
    if not all(path.exists() for path in paths.values()):
        return None
    return {split: dict(schema.read(path, MapOf(Anything(), least=1))) for split, path in paths.items()}


def scores_by_setting(runs: Sequence[TuningRun], output: Path) -> dict[tuple[str, ...], dict[int, float]]:
    """Returns the score of every run that is finished, by setting and seed, on the validation split alone."""
    found: dict[tuple[str, ...], dict[int, float]] = {}
    for run in runs:
        results = read_results(run, output)
        if results is not None:
            score = _score(run, {"validation": results["validation"]})
            found.setdefault(run.setting, {})[run.seed] = score
    return found


def suite_tables(runs: Sequence[TuningRun], output: Path) -> SuiteTables:
    """Returns the tables of the runs that are finished."""
    rows: list[dict[str, Any]] = []
    by_setting: dict[tuple[str, ...], dict[int, dict[str, Any]]] = {}
    for run in runs:
        results = read_results(run, output)
        if results is None:
            continue
        names = dict(zip(SETTING_COLUMNS, run.setting, strict=False))
        for split, one in results.items():
            metrics = {metric: one.get(metric) for metric in METRICS}
            rows.append(
                {"run": run.name, **names, "seed": run.seed, "split": split, "rows": one["num_examples"], **metrics}
            )
        means = {metric: _mean([one.get(metric) for one in results.values()]) for metric in METRICS}
        by_setting.setdefault(run.setting, {})[run.seed] = means | {"score": _score(run, results)}
    settings = [_setting(setting, own) for setting, own in by_setting.items()]
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for row in settings:
        task = row["model"], row["task"]
        if task not in best or row["score"] > best[task]["score"]:
            best[task] = row
    for row in settings:
        row["chosen"] = row is best[row["model"], row["task"]]
    return SuiteTables(tuple(rows), tuple(settings), tuple(_scores(best, by_setting)))


def _setting(setting: tuple[str, ...], seeds: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = dict(zip(SETTING_COLUMNS, setting, strict=False)) | {"seeds": len(seeds)}
    for metric in ("score", *METRICS):
        values = [own[metric] for own in seeds.values() if own[metric] is not None]
        spread = "spread" if metric == "score" else f"{metric}_spread"
        row[metric] = _mean(values)
        row[spread] = statistics.stdev(values) if len(values) > 1 else None
    return row


def _scores(
    best: Mapping[tuple[str, str], Mapping[str, Any]],
    by_setting: Mapping[tuple[str, ...], Mapping[int, Mapping[str, Any]]],
) -> list[dict[str, Any]]:
    found = []
    for model in dict.fromkeys(model for model, _ in best):
        own = [row for (name, _), row in best.items() if name == model]
        of_seeds = [by_setting[tuple(str(row[name]) for name in SETTING_COLUMNS[:5])] for row in own]
        seeds = sorted(set.intersection(*(set(one) for one in of_seeds)))
        means = [statistics.fmean(one[seed]["score"] for one in of_seeds) for seed in seeds]
        found.append(
            {
                "model": model,
                "tasks": len(own),
                "seeds": len(seeds),
                "score": statistics.fmean(row["score"] for row in own),
                "spread": statistics.stdev(means) if len(means) > 1 else None,
            }
        )
    return found


def _score(run: TuningRun, results: Mapping[str, Mapping[str, Any]]) -> float:
    """Returns the mean of a task's metrics over splits; one that is not defined, as of one class only, counts as 0."""
    return statistics.fmean((one.get(metric) or 0.0) for one in results.values() for metric in run.task.metrics)


def _mean(values: Sequence[Any]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there else None
