"""Quality against size and inference cost, before and after tuning: RedLLM's figure 8 (arXiv 2510.26622).

From the tables that `triarch evaluate --rank_file` writes: ranks.csv says what each model is and costs, ranks.jsonl
which questions it had right, so that models are compared question by question.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib.ticker
import numpy as np

from triarch import schema
from triarch.errors import UserError
from triarch.means import error_of_mean, standard_error
from triarch.scaling.figures.style import MARKERS, SERIES, SOFT, Panel, log_axis, new_axes, styled
from triarch.scaling.tables.table import Table
from triarch.scaling.words import power_of_ten, short_number

RANKS, ANSWERS = "ranks.csv", "ranks.jsonl"
TEXT = (
    "Rank classification on questions, the mean over clusters of tasks, against parameters and against what reading a"
    " question and a choice costs; hollow before tuning, filled after it, with 95% intervals. Gains by tuning are"
    " paired over questions: those of one item count as one draw. The dotted line is the most frequent answer of each"
    " task, the dashed one drawing a choice."
)
_MOST_BYTES = 2**30
# Of a standard error: a 95% interval.
_Z = 1.96
_NARROW = 3
_COSTS = {
    "num_params": "parameters",
    "forward_flops_paper": "forward FLOPs a question, paper convention",
    "forward_flops_train": "forward FLOPs a question, train convention",
}
_NAMES = {"encoder-decoder": "RedLLM", "decoder-only": "DecLLM"}


@dataclasses.dataclass(frozen=True)
class Ranker:
    """A model and how it did.

    Attributes:
      name: of its folder.
      label: of its recipe: RedLLM, DecLLM or DecLLM + BiAttn.
      is_tuned: whether it was tuned.
      costs: parameters and FLOPs.
      accuracy: mean over clusters.
      error: of the accuracy; NaN where unknown.
      chance: mean over clusters.
      majority: likewise, of the most frequent answer.
      right: whether each question was answered right.
      asked: cluster and item of each question.
    """

    name: str
    label: str
    is_tuned: bool
    costs: dict[str, float]
    accuracy: float
    error: float
    chance: float
    majority: float
    right: np.ndarray
    asked: tuple[tuple[str, str], ...]

    def gain(self, before: Ranker) -> tuple[float, float]:
        """Returns how much more often it is right than another, mean over clusters, and the error, paired."""
        values = self.right - before.right
        means, errors = [], []
        for cluster in dict.fromkeys(cluster for cluster, _ in self.asked):
            own = [number for number, (one, _) in enumerate(self.asked) if one == cluster]
            means.append(values[own].mean())
            errors.append(standard_error(values[own], [self.asked[number][1] for number in own]))
        error = error_of_mean(errors)
        return float(np.mean(means)), float("nan") if error is None else error


def read_rankers(folder: Path) -> list[Ranker]:
    """Returns the models of a folder that `triarch evaluate --rank_file --output` wrote.

    Raises:
      UserError: a table is missing or misshapen, or the two do not belong together.
    """
    table = Table.read_csv(folder / RANKS)
    answers = _answers(folder / ANSWERS)
    rows = [i for i, level in enumerate(table.text("level")) if level == "mean of clusters"]
    table = table.select(rows)
    names, steps, architectures = (table.text(name) for name in ("model", "step", "architecture"))
    flags = {name: table.text(name) for name in ("is_tuned", "bidirectional_prompt")}
    costs = {name: table.numbers(name) for name in _COSTS}
    accuracy, chance, majority = (
        table.numbers(name, positive=False, least=0.0) for name in ("accuracy", "chance", "majority")
    )
    errors = table.numbers("standard_error", positive=False, least=0.0, optional=True)
    several = len(names) > len(set(names))
    found = []
    for i, name in enumerate(names):
        place = f"{name}, step {steps[i]}" if several and f"{name}, step {steps[i]}" in answers else name
        if place not in answers:
            raise UserError(f"{folder / ANSWERS}: holds no answer of {place!r}, which {RANKS} has")
        right, asked = answers[place]
        both = flags["bidirectional_prompt"][i] == "True"
        label = _NAMES.get(architectures[i], architectures[i]) + (" + BiAttn" if both else "")
        own = {column: float(values[i]) for column, values in costs.items()}
        found.append(
            Ranker(
                name=place,
                label=label,
                is_tuned=flags["is_tuned"][i] == "True",
                costs=own,
                accuracy=float(accuracy[i]),
                error=float(errors[i]),
                chance=float(chance[i]),
                majority=float(majority[i]),
                right=right,
                asked=asked,
            )
        )
    return found


def tuning_panels(rankers: Sequence[Ranker]) -> list[Panel]:
    """Draws accuracy against each cost, and the gains by tuning against parameters where there are any.

    A tuned model's gain is over the untuned one of its architecture and size.
    """
    if not rankers:
        return []
    gains = [(one, *one.gain(before)) for one in rankers if (before := _before(one, rankers)) is not None]
    panels = [_quality(rankers, column) for column in _COSTS]
    return [*panels, _gains(gains)] if gains else panels


def _before(ranker: Ranker, rankers: Sequence[Ranker]) -> Ranker | None:
    """Returns the untuned model of a tuned one's architecture and size that was asked the same; None without one."""
    family = ranker.label.partition(" + ")[0]
    return next(
        (
            one
            for one in rankers
            if ranker.is_tuned
            and not one.is_tuned
            and one.label.partition(" + ")[0] == family
            and one.costs["num_params"] == ranker.costs["num_params"]
            and one.asked == ranker.asked
        ),
        None,
    )


def _quality(rankers: Sequence[Ranker], column: str) -> Panel:
    title = f"Held-out tasks against {_COSTS[column].split(' a question')[0]}" + (
        "" if column == "num_params" else f", {column.rpartition('_')[2]}"
    )
    labels = _ordered(one.label for one in rankers)
    with styled():
        figure, axes = new_axes(title, _COSTS[column], "accuracy, mean over clusters")
        for one in rankers:
            index = labels.index(one.label)
            colour = SERIES[index % len(SERIES)]
            axes.errorbar(
                [one.costs[column]], [one.accuracy], yerr=[_Z * np.nan_to_num(one.error)], color=colour,
                fmt=MARKERS[index % len(MARKERS)], markerfacecolor=colour if one.is_tuned else "none", elinewidth=0.9,
                label=f"{one.label}, {'tuned' if one.is_tuned else 'before tuning'}",
            )  # fmt: skip
        axes.axhline(float(np.mean([one.majority for one in rankers])), color=SOFT, linewidth=0.8, linestyle=":")
        axes.axhline(float(np.mean([one.chance for one in rankers])), color=SOFT, linewidth=0.8, linestyle="--")
        _finish(axes, [one.costs[column] for one in rankers], column != "num_params")
    columns = ("model", "recipe", "tuned", *_COSTS, "accuracy", "standard_error", "chance", "majority")
    rows = [
        (one.name, one.label, one.is_tuned, *one.costs.values(), one.accuracy, one.error, one.chance, one.majority)
        for one in rankers
    ]
    return Panel(f"tuning-{column.replace('_', '-')}", title, figure, columns, rows)


def _ordered(labels: Iterable[str]) -> list[str]:
    """Returns recipes in an order that gives each its colour: RedLLM, DecLLM, DecLLM + BiAttn, and any others."""
    known = list(_NAMES.values())
    return list(dict.fromkeys([*known, f"{known[-1]} + BiAttn", *labels]))


def _gains(gains: Sequence[tuple[Ranker, float, float]]) -> Panel:
    title = "Gain by tuning, paired over questions"
    labels = _ordered(one.label for one, _, _ in gains)
    with styled():
        figure, axes = new_axes(title, _COSTS["num_params"], "accuracy after minus before")
        for one, gain, error in gains:
            index = labels.index(one.label)
            axes.errorbar(
                [one.costs["num_params"] * (1 + 0.005 * index)], [gain], yerr=[_Z * np.nan_to_num(error)],
                color=SERIES[index % len(SERIES)], fmt=MARKERS[index % len(MARKERS)], elinewidth=0.9, label=one.label,
            )  # fmt: skip
        axes.axhline(0, color=SOFT, linewidth=0.8)
        _finish(axes, [one.costs["num_params"] for one, _, _ in gains], False)
    rows = [(one.name, one.label, one.costs["num_params"], gain, error) for one, gain, error in gains]
    return Panel("tuning-gains", title, figure, ("model", "recipe", "num_params", "gain", "standard_error"), rows)


def _finish(axes, x: Sequence[float], powers: bool) -> None:
    axes.margins(x=0.25)
    if max(x) > _NARROW * min(x):
        axes.set_xscale("log")
        log_axis(axes.xaxis, min(x), max(x), powers)
    else:
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
        axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(power_of_ten if powers else short_number))
    handles, names = axes.get_legend_handles_labels()
    once = dict(zip(names, handles, strict=True))
    axes.legend(once.values(), once.keys(), fontsize=7.5, loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2)


def _answers(path: Path) -> dict[str, tuple[np.ndarray, tuple[tuple[str, str], ...]]]:
    """Returns, by model, whether each question was answered right, and its cluster and item."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path}: is larger than {_MOST_BYTES:,} bytes")
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', 'not UTF-8')}") from None
    right: dict[str, list[float]] = {}
    asked: dict[str, list[tuple[str, str]]] = {}
    for number, line in enumerate(lines, 1):
        row = schema.parse(line, f"{path}:{number}", finite=False)
        kinds = {"model": str, "cluster": str, "is_right": bool}
        if not isinstance(row, dict) or not all(isinstance(row.get(name), kind) for name, kind in kinds.items()):
            raise UserError(f"{path}:{number}: expected an object with {', '.join(kinds)}: {json.dumps(row)[:80]}")
        right.setdefault(row["model"], []).append(float(row["is_right"]))
        item = row.get("item")
        asked.setdefault(row["model"], []).append(
            (row["cluster"], f"# {row.get('number')}" if item is None else str(item))
        )
    return {name: (np.array(values), tuple(asked[name])) for name, values in right.items()}
