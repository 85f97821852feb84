"""The figures of a scaling study; each takes plain arrays and returns a Panel (SVG, PNG and the data behind it)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from triarch.scaling.figures.style import MARKERS, SERIES, SOFT, Panel, log_axis, loss_axis, new_axes, styled
from triarch.scaling.fitting.result import Fit
from triarch.scaling.words import short_number

POINTS_A_CURVE = 240
# Of a curve's span on the x axis: how far above the floor a smoothing window reaches to either side.
SMOOTHING = 0.02


@dataclasses.dataclass(frozen=True)
class Curve:
    """A run along training.

    Attributes:
      label: the run's size, as written at the curve's end.
      group: what it belongs to (a family); one colour each.
      x: float[points], tokens or FLOPs so far, increasing, above zero.
      loss: float[points], nats per token.
    """

    label: str
    group: str
    x: np.ndarray
    loss: np.ndarray


@dataclasses.dataclass(frozen=True)
class Series:
    """Finished runs of one family, with the law fitted to them.

    Attributes:
      label: the family.
      names: each point's name.
      x: float[points], parameters or FLOPs.
      loss: float[points].
      error: float[points], standard errors (NaN where unknown).
      fit: the law in x, or None.
      note: what sets these points apart from the others (another scoring); they are drawn hollow.
    """

    label: str
    names: Sequence[str]
    x: np.ndarray
    loss: np.ndarray
    error: np.ndarray
    fit: Fit | None
    note: str = ""


def smooth(loss: np.ndarray, share: float = SMOOTHING) -> np.ndarray:
    """Returns a moving average with a window symmetric about each point (no lag), narrower towards both ends."""
    count = len(loss)
    index = np.arange(count)
    half = np.minimum(np.minimum(index, count - 1 - index), max(1, int(share * count)))
    sums = np.concatenate([[0.0], np.cumsum(loss)])
    return (sums[index + half + 1] - sums[index - half]) / (2 * half + 1)


def thin(x: np.ndarray, count: int = POINTS_A_CURVE) -> np.ndarray:
    """Returns indices of at most `count` points, evenly spread over log x, first and last among them."""
    if len(x) <= count:
        return np.arange(len(x))
    targets = np.linspace(np.log(x[0]), np.log(x[-1]), count)
    return np.unique(np.clip(np.searchsorted(np.log(x), targets), 0, len(x) - 1))


def frontier(curves: Sequence[Curve], points: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lower envelope of curves: at each x the least loss any of them had reached by then.

    Returns:
      x float64[points], spread over log x from the first to the last point of any curve, and loss float64[points].
    """
    low, high = min(c.x[0] for c in curves), max(c.x[-1] for c in curves)
    log_x = np.linspace(np.log(low), np.log(high), points)
    reached = [np.interp(log_x, np.log(c.x), c.loss, left=np.inf, right=c.loss[-1]) for c in curves]
    return np.exp(log_x), np.minimum.accumulate(np.min(reached, axis=0))


def training_panel(name: str, title: str, curves: Sequence[Curve], colour: int, x_label: str) -> Panel:
    """Draws loss along training, a curve per run of one family, larger runs stronger, each named at its end."""
    with styled():
        figure, axes = new_axes(title, x_label, "training loss (nats/token)")
        drawn = [_draw_curve(axes, curve, colour, rank, len(curves)) for rank, curve in enumerate(curves)]
        _finish_curves(axes, drawn, powers=False)
        _end_labels(axes, [(c.label, c.x[-1], c.loss[-1]) for c in drawn])
        columns, rows = ("run", x_label, "loss"), [row for curve in drawn for row in _curve_rows(curve)]
        return Panel(name, title, figure, columns, rows)


def frontier_panel(name: str, title: str, curves: Sequence[Curve], groups: Sequence[str], x_label: str) -> Panel:
    """Draws loss against compute along training for every run, and each family's frontier (RedLLM's figure 3)."""
    with styled():
        figure, axes = new_axes(title, x_label, "training loss (nats/token)")
        drawn, rows = [], []
        for index, group in enumerate(groups):
            own = [curve for curve in curves if curve.group == group]
            if not own:
                continue
            colour = SERIES[index % len(SERIES)]
            thin_curves = [_draw_curve(axes, curve, index, 0, 4) for curve in own]
            # Only there have runs annealed.
            ends = zip(*((curve.x[-1], curve.loss[-1]) for curve in thin_curves), strict=True)
            axes.plot(*map(list, ends), "o", color=colour, markersize=5)
            x, loss = frontier(thin_curves)
            axes.plot(x, loss, color=colour, linewidth=2.6, label=group)
            drawn += thin_curves
            rows += [row for curve in thin_curves for row in _curve_rows(curve)]
            rows += [(f"{group} frontier", float(a), float(b)) for a, b in zip(x, loss, strict=True)]
        _finish_curves(axes, drawn, powers=True)
        axes.legend(loc="upper right")
        return Panel(name, title, figure, ("run", x_label, "loss"), rows)


def scaling_panel(name: str, title: str, series: Sequence[Series | None], x_label: str, powers: bool) -> Panel:
    """Draws final loss against parameters or FLOPs: points with standard errors, the fitted laws and their bands.

    A None keeps its place, so that a family has the same colour in every panel.
    """
    tips: dict[str, str] = {}
    with styled():
        figure, axes = new_axes(title, x_label, "loss (nats/token)")
        rows = []
        shown = [(index, one) for index, one in enumerate(series) if one is not None and len(one.x)]
        for index, one in shown:
            _draw_series(axes, one, index, tips)
            rows += [
                (one.label, run, float(a), float(b), float(e))
                for run, a, b, e in zip(one.names, one.x, one.loss, one.error, strict=True)
            ]
        axes.set_xscale("log")
        loss_axis(axes)
        if shown:
            low, high = min(one.x.min() for _, one in shown), max(one.x.max() for _, one in shown)
            axes.set_xlim(low / 1.35, high * 1.35)
            log_axis(axes.xaxis, low / 1.35, high * 1.35, powers)
            axes.legend(loc="best")
        columns = ("family", "run", x_label, "nats_per_token", "standard_error")
        return Panel(name, title, figure, columns, rows, tips)


def law_panel(name: str, title: str, fit: Fit, x: np.ndarray, loss: np.ndarray) -> Panel:
    """Draws a power law over the data it was fitted to."""
    order = np.argsort(x)
    names = [f"row {i + 1}" for i in order]
    series = Series("data", names, x[order], loss[order], np.full(len(x), np.nan), fit)
    return scaling_panel(name, title, [series], fit.inputs[0], powers=bool(x.max() > 1e15))


def parametric_panel(
    name: str, title: str, fit: Fit, params: np.ndarray, tokens: np.ndarray, loss: np.ndarray, lines: int = 6
) -> Panel:
    """Draws a Chinchilla law as loss against tokens, with the law's line at sizes spread over the data's."""
    with styled():
        figure, axes = new_axes(title, f"{fit.inputs[1]} (tokens)", "loss")
        sizes = np.unique(params)
        chosen = sizes[np.unique(np.linspace(0, len(sizes) - 1, lines).round().astype(int))]
        nearest = np.abs(np.log(params)[:, None] - np.log(chosen)).argmin(axis=1)
        for index, size in enumerate(chosen):
            colour, own = SERIES[index % len(SERIES)], nearest == index
            axes.plot(tokens[own], loss[own], MARKERS[index % len(MARKERS)], color=colour, markersize=4, alpha=0.75)
            line = np.geomspace(tokens.min(), tokens.max(), 80)
            axes.plot(line, fit.predict(size, line), color=colour, label=f"{fit.inputs[0]} = {short_number(size)}")
        axes.set_xscale("log")
        loss_axis(axes)
        log_axis(axes.xaxis, tokens.min(), tokens.max(), powers=False)
        axes.legend(loc="upper right")
        predicted = fit.predict(params, tokens)
        rows = [tuple(map(float, row)) for row in zip(params, tokens, loss, predicted, strict=True)]
        return Panel(name, title, figure, (*fit.inputs, "loss", "predicted"), rows)


def _draw_curve(axes, curve: Curve, colour: int, rank: int, count: int) -> Curve:
    loss = smooth(np.asarray(curve.loss, np.float64))
    keep = thin(curve.x)
    drawn = dataclasses.replace(curve, x=curve.x[keep], loss=loss[keep])
    strength = 0.4 + 0.6 * (rank + 1) / count
    width = 1.1 + 1.1 * (rank + 1) / count
    axes.plot(drawn.x, drawn.loss, color=SERIES[colour % len(SERIES)], alpha=strength, linewidth=width)
    return drawn


def _curve_rows(curve: Curve) -> list[tuple[str, float, float]]:
    label = f"{curve.group} {curve.label}".strip()
    return [(label, float(a), float(b)) for a, b in zip(curve.x, curve.loss, strict=True)]


def _finish_curves(axes, curves: Sequence[Curve], powers: bool) -> None:
    axes.set_xscale("log")
    loss_axis(axes)
    low, high = min(c.x[0] for c in curves), max(c.x[-1] for c in curves)
    # The first steps, where every run falls from ln(vocabulary), would flatten the rest.
    start = max(low, high / 3000)
    axes.set_xlim(start, high * 1.12)
    bottom = min(c.loss.min() for c in curves)
    top = max(c.loss[np.searchsorted(c.x, c.x[-1] * 0.02)] for c in curves)
    axes.set_ylim(bottom * 0.97, max(top * 1.03, bottom * 1.1))
    log_axis(axes.xaxis, start, high, powers)


def _end_labels(axes, ends: Sequence[tuple[str, float, float]]) -> None:
    """Names curves at their ends, pushed apart where they would lie over each other."""
    low, high = np.log(axes.get_ylim())
    gap, last = 0.055 * (high - low), -np.inf
    right = axes.get_xlim()[1]
    for label, _, loss in sorted(ends, key=lambda end: end[2]):
        last = max(np.log(loss), last + gap)
        axes.annotate(
            label,
            (right, np.exp(last)),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=SOFT,
            annotation_clip=False,
        )


def _draw_series(axes, one: Series, index: int, tips: dict[str, str]) -> None:
    colour, marker = SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)]
    label = f"{one.label} ({one.note})" if one.note else one.label
    if one.fit is not None:
        line = np.geomspace(one.x.min() / 1.3, one.x.max() * 1.3, 60)
        band = one.fit.band(line)
        if band is not None:
            axes.fill_between(line, *band, color=colour, alpha=0.14, linewidth=0)
        axes.plot(line, one.fit.predict(line), color=colour, linestyle="--" if one.note else "-", linewidth=1.6)
    known = np.isfinite(one.error)
    if known.any():
        axes.errorbar(
            one.x[known], one.loss[known], 1.96 * one.error[known], fmt="none", color=colour, elinewidth=1, capsize=2
        )
    face = "none" if one.note else colour
    axes.plot([], [], marker, color=colour, markerfacecolor=face, markersize=6, label=label)
    for point, (run, x, loss) in enumerate(zip(one.names, one.x, one.loss, strict=True)):
        gid = f"tip-{index}-{point}"
        axes.plot([x], [loss], marker, color=colour, markerfacecolor=face, markersize=6, gid=gid)
        tips[gid] = f"{run}: {loss:.4f} nats/token at {short_number(float(x))}"
