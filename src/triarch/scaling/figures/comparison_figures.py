"""Figures that set architectures side by side along one axis: their laws, and the gap between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from triarch.scaling.checks.comparison import AxisComparison, Comparison
from triarch.scaling.checks.frontier import Frontier
from triarch.scaling.figures.style import MARKERS, SERIES, SOFT, Panel, log_axis, loss_axis, new_axes, styled
from triarch.scaling.fitting.result import Fit
from triarch.scaling.words import file_name

POINTS = 120


def frontiers_panel(name: str, title: str, frontiers: Sequence[tuple[str, Frontier]]) -> Panel:
    """Draws each architecture's least loss along an axis with its band; dashed beyond what was measured."""
    low, high = min(one.low for _, one in frontiers), max(one.high for _, one in frontiers)
    x = np.geomspace(low, high * 10, POINTS)
    rows: list[tuple] = []
    with styled():
        figure, axes = new_axes(title, frontiers[0][1].axis, "loss")
        for index, (label, one) in enumerate(frontiers):
            colour = SERIES[index % len(SERIES)]
            bottom, top = _band(one, x)
            if bottom is not None and top is not None:
                axes.fill_between(x, bottom, top, color=colour, alpha=0.15, linewidth=0)
            inside = (x >= one.low * 0.999) & (x <= one.high * 1.001)
            axes.plot(x, one.loss(x), color=colour, linestyle="--", linewidth=1.1)
            axes.plot(x[inside], one.loss(x[inside]), color=colour, linewidth=2.2, label=label)
            ends = (bottom, top) if bottom is not None and top is not None else (np.full(POINTS, np.nan),) * 2
            rows += [(label, *map(float, row)) for row in zip(x, one.loss(x), *ends, strict=True)]
        axes.set_xscale("log")
        loss_axis(axes)
        log_axis(axes.xaxis, x[0], x[-1], powers=x[-1] > 1e15)
        axes.legend(loc="upper right")
        return Panel(name, title, figure, ("group", frontiers[0][1].axis, "loss", "low", "high"), rows)


def gap_panel(name: str, title: str, names: tuple[str, str], comparison: AxisComparison) -> Panel:
    """Draws the second's loss minus the first's along an axis with its interval, and where it crosses zero."""
    first, second = comparison.frontiers
    low, high = min(first.low, second.low), max(first.high, second.high)
    x = np.geomspace(low, high * 10, POINTS)
    gap = np.asarray(second.loss(x) - first.loss(x))
    rows = [(float(a), float(b), np.nan, np.nan) for a, b in zip(x, gap, strict=True)]
    with styled():
        figure, axes = new_axes(title, comparison.axis, f"loss of {names[1]} minus {names[0]}")
        axes.axhline(0.0, color=SOFT, linewidth=1.0)
        if first.samples is not None and second.samples is not None:
            count = min(len(first.samples), len(second.samples))
            drawn = second.losses(x)[:count] - first.losses(x)[:count]
            tail = 50.0 * (1.0 - first.options.confidence)
            bottom, top = np.percentile(drawn, [tail, 100.0 - tail], axis=0)
            bottom, top = np.fmin(bottom, gap), np.fmax(top, gap)
            axes.fill_between(x, bottom, top, color=SERIES[2], alpha=0.18, linewidth=0)
            rows = [(float(a), float(b), float(c), float(d)) for a, b, c, d in zip(x, gap, bottom, top, strict=True)]
        axes.plot(x, gap, color=SERIES[2])
        axes.axvspan(max(first.low, second.low), min(first.high, second.high), color=SOFT, alpha=0.08, linewidth=0)
        if comparison.crossover.x is not None and x[0] <= comparison.crossover.x <= x[-1]:
            axes.plot([comparison.crossover.x], [0.0], "o", color=SERIES[2], markersize=6)
        axes.set_xscale("log")
        log_axis(axes.xaxis, x[0], x[-1], powers=x[-1] > 1e15)
        return Panel(name, title, figure, (comparison.axis, "gap", "low", "high"), rows)


def comparison_panels(comparisons: Sequence[Comparison]) -> list[Panel]:
    """Returns, for each axis, all groups' frontiers together, and then the gap of every two."""
    along: dict[str, dict[str, Frontier]] = {}
    gaps = []
    for comparison in comparisons:
        names = (comparison.first, comparison.second)
        for axis in comparison.axes:
            along.setdefault(axis.axis, {}).update(zip(names, axis.frontiers, strict=True))
            name = "-".join(["gap", file_name(axis.axis), *map(file_name, names)])
            gaps.append(gap_panel(name, f"{names[1]} against {names[0]}", names, axis))
    together = [
        frontiers_panel(f"frontiers-{file_name(axis)}", f"Least loss along {axis}", list(members.items()))
        for axis, members in along.items()
    ]
    return together + gaps


def settings_panel(name: str, title: str, laws: Sequence[tuple[str, Fit]], axis: int, y_label: str) -> Panel:
    """Draws each architecture's best setting along one input, other inputs at the middle of what all measured.

    The optima themselves are drawn only where there is no other input that they differ in.
    """
    columns = [np.concatenate([fit.values[:, k] for _, fit in laws]) for k in range(laws[0][1].values.shape[1])]
    place = [np.full(POINTS, np.exp(np.log(column).mean())) for column in columns]
    place[axis] = x = np.geomspace(columns[axis].min(), columns[axis].max(), POINTS)
    rows: list[tuple] = []
    with styled():
        figure, axes = new_axes(title, laws[0][1].inputs[axis], y_label)
        for index, (label, fit) in enumerate(laws):
            colour, curve = SERIES[index % len(SERIES)], fit.predict(*place)
            band = fit.band(*place)
            ends = band or (np.full(POINTS, np.nan),) * 2
            if band:
                axes.fill_between(x, *band, color=colour, alpha=0.15, linewidth=0)
            axes.plot(x, curve, color=colour, linewidth=2.2, label=label)
            if len(columns) == 1:
                axes.plot(fit.values[:, 0], fit.target, MARKERS[index % len(MARKERS)], color=colour, markersize=5)
                optima = zip(fit.values[:, 0], fit.target, strict=True)
                rows += [("optimum", label, float(a), float(b), np.nan, np.nan) for a, b in optima]
            rows += [("law", label, *map(float, row)) for row in zip(x, curve, *ends, strict=True)]
        axes.set_xscale("log")
        axes.set_yscale("log")
        log_axis(axes.xaxis, x[0], x[-1], powers=x[-1] > 1e15)
        low, high = axes.get_ylim()
        log_axis(axes.yaxis, low, high, powers=False)
        axes.legend(loc="best")
        return Panel(name, title, figure, ("kind", "group", laws[0][1].inputs[axis], y_label, "low", "high"), rows)


def _band(one: Frontier, x: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    if one.samples is None:
        return None, None
    tail = 50.0 * (1.0 - one.options.confidence)
    bottom, top = np.nanpercentile(one.losses(x), [tail, 100.0 - tail], axis=0)
    return np.fmin(bottom, one.loss(x)), np.fmax(top, one.loss(x))
