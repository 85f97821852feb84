"""Figures of zero- and few-shot results along training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib.ticker
import numpy as np

from triarch.report.length_figures import DASHES
from triarch.report.tasks_table import READ_SO_FAR, TaskPoint, TaskVariant
from triarch.scaling.figures.style import MARKERS, SERIES, Panel, log_axis, new_axes, styled
from triarch.scaling.words import power_of_ten, short_number

_AXES = {
    "tokens": "training tokens read",
    "flops_train": "training FLOPs, train convention",
    "flops_paper": "training FLOPs, paper convention",
    "step": "training steps",
}
# Of a standard error: a 95% interval.
_Z = 1.96
# Above this ratio of the greatest to the least an axis is logarithmic.
_WIDE = 5
# Perplexities beyond it are written as powers of ten.
_MANY = 1e6


def task_panels(points: Sequence[TaskPoint]) -> list[Panel]:
    """Draws each question's results against tokens and against FLOPs, or against steps where these are unknown.

    A line is a run, its colour the architecture, with 95% intervals over examples; encoders are hollow, for their
    pseudo-likelihoods are not comparable with likelihoods.
    """
    known = [axis for axis in ("tokens", "flops_train") if any(math.isfinite(one.so_far[axis]) for one in points)]
    panels = []
    for number, question in enumerate(dict.fromkeys(one.question for one in points)):
        asked = [one for one in points if one.question == question]
        panels += [
            _panel(f"task-{number}-{axis.replace('_', '-')}", question, asked, axis) for axis in known or ["step"]
        ]
    return panels


def _panel(name: str, question: TaskVariant, points: Sequence[TaskPoint], axis: str) -> Panel:
    points = sorted((one for one in points if math.isfinite(_place(one, axis))), key=lambda one: _place(one, axis))
    architectures = list(dict.fromkeys(one.architecture for one in sorted(points, key=lambda one: one.architecture)))
    with styled():
        figure, axes = new_axes(question.title, _AXES[axis], question.metric)
        for index, architecture in enumerate(architectures):
            own = [one for one in points if one.architecture == architecture]
            for place, run in enumerate(sorted({one.run for one in own})):
                line = [one for one in own if one.run == run]
                colour = SERIES[index % len(SERIES)]
                axes.errorbar(
                    [_place(one, axis) for one in line], [one.value for one in line],
                    yerr=[_Z * np.nan_to_num(one.standard_error) for one in line], color=colour,
                    fmt=MARKERS[place % len(MARKERS)], linestyle=DASHES[place % len(DASHES)], markersize=4.5,
                    markerfacecolor=colour if line[0].scoring == "log-likelihood" else "none", elinewidth=0.9,
                    linewidth=1.2, label=run,
                )  # fmt: skip
        _scale(axes, [_place(one, axis) for one in points], [one.value for one in points], "flops" in axis)
        if points:
            axes.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2)
    columns = ("run", "architecture", "scoring", "step", *READ_SO_FAR, "value", "standard_error")
    rows = [
        (one.run, one.architecture, one.scoring, one.step, *one.so_far.values(), one.value, one.standard_error)
        for one in points
    ]
    return Panel(name, f"{question.title} against {_AXES[axis]}", figure, columns, rows)


def _place(point: TaskPoint, axis: str) -> float:
    return point.step if axis == "step" else point.so_far[axis]


def _scale(axes, x: Sequence[float], values: Sequence[float], powers: bool) -> None:
    if not x:
        return
    if min(x) > 0 and max(x) > _WIDE * min(x):
        axes.set_xscale("log")
        log_axis(axes.xaxis, min(x), max(x), powers)
    else:
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
        axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(power_of_ten if powers else short_number))
    # Perplexities fall by orders of magnitude; shares do not.
    if min(values) > 1 and max(values) > _WIDE * min(values):
        axes.set_yscale("log")
        log_axis(axes.yaxis, min(values), max(values), max(values) > _MANY)
