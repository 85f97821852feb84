"""Figures that check a fit: residuals, profiles, held-out predictions, and the curves of laws that are not of loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from triarch import lazy
from triarch.scaling.checks.diagnosis import Diagnosis
from triarch.scaling.checks.extrapolation import HeldOut
from triarch.scaling.checks.influence import Influence
from triarch.scaling.checks.profile import Profile
from triarch.scaling.figures.style import GRID, INK, SERIES, SOFT, Panel, log_axis, log_values, new_axes, styled
from triarch.scaling.fitting.result import Fit
from triarch.scaling.words import file_name, short_number

if TYPE_CHECKING:
    import matplotlib.ticker
else:
    matplotlib = lazy.module("matplotlib", "ticker")


def residual_panel(name: str, title: str, fit: Fit, axis: int, rows: Influence, numbers: Sequence[int]) -> Panel:
    """Draws residuals against one input; rows that stand apart carry their number."""
    x, residual = fit.values[:, axis], rows.residual
    percent = fit.form.log_target
    shown = 100 * residual if percent else residual
    with styled():
        label = "observed minus predicted" + (" (%)" if percent else "")
        figure, axes = new_axes(title, fit.inputs[axis], label)
        axes.axhline(0.0, color=SOFT, linewidth=1.0)
        band = (100 if percent else 1) * rows.spread
        axes.axhspan(-band, band, color=SOFT, alpha=0.12, linewidth=0)
        apart = sorted({*rows.outlying, *rows.influential})
        rest = np.setdiff1d(np.arange(len(x)), apart)
        axes.plot(x[rest], shown[rest], "o", color=SERIES[0], markersize=4, alpha=0.75)
        axes.plot(x[apart], shown[apart], "D", color=SERIES[1], markersize=5)
        for row in apart:
            axes.annotate(str(numbers[row]), (x[row], shown[row]), (4, 3), textcoords="offset points", fontsize=8)
        _log_x(axes, x)
        columns = ("row", *fit.inputs, "observed", "predicted", "residual")
        predicted = fit.predict(*fit.values.T)
        data = [
            (numbers[i], *map(float, fit.values[i]), float(fit.target[i]), float(predicted[i]), float(residual[i]))
            for i in range(len(x))
        ]
        return Panel(name, title, figure, columns, data)


def profile_panel(name: str, profile: Profile, fit: Fit) -> Panel:
    """Draws a profile likelihood: how much worse the law fits with one parameter held elsewhere."""
    title = f"Profile of {profile.name}"
    with styled():
        figure, axes = new_axes(title, profile.name, "deviance")
        axes.plot(profile.values, profile.deviance, color=SERIES[0])
        axes.axhline(profile.threshold, color=SERIES[1], linestyle="--", linewidth=1.2)
        axes.annotate(
            f"{fit.confidence:.0%}", (1.0, profile.threshold), (-4, 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", color=SERIES[1], fontsize=8.5,
        )  # fmt: skip
        axes.axvline(fit.parameters[profile.name], color=SOFT, linewidth=1.0)
        if profile.name in fit.intervals:
            axes.axvspan(*fit.intervals[profile.name], color=SOFT, alpha=0.12, linewidth=0)
        axes.set_ylim(0, 3.5 * profile.threshold)
        near = profile.values[profile.deviance <= 4 * profile.threshold]
        if len(near) > 1:
            axes.set_xlim(near.min(), near.max())
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
        axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(short_number))
        data = [tuple(map(float, row)) for row in zip(profile.values, profile.deviance, strict=True)]
        return Panel(name, title, figure, (profile.name, "deviance"), data)


def held_out_panel(name: str, fit: Fit, held: HeldOut, numbers: Sequence[int]) -> Panel:
    """Draws errors of the law fitted to the smaller runs, on these and on the larger ones it did not see."""
    title = "Predicting the largest runs"
    outside = np.zeros(fit.num_points, bool)
    outside[list(held.rows)] = True
    predicted = fit.form.predict(held.parameters, fit.values.T)
    residual = fit.form.residuals(held.parameters, fit.values, fit.target)
    x = fit.values[:, fit.inputs.index(held.by) if held.by in fit.inputs else 0]
    scale = 100 if fit.form.log_target else 1
    with styled():
        figure, axes = new_axes(title, held.by, "observed minus predicted" + (" (%)" if scale == 100 else ""))
        axes.axhline(0.0, color=SOFT, linewidth=1.0)
        axes.axvspan(np.sqrt(held.cut * x[outside].min()), x.max() * 1.2, color=GRID, alpha=0.5, linewidth=0)
        axes.plot(x[~outside], scale * residual[~outside], "o", color=SERIES[0], markersize=4, label="fitted")
        axes.plot(x[outside], scale * residual[outside], "s", color=SERIES[1], markersize=5, label="held out")
        _log_x(axes, x)
        axes.legend(loc="best")
        data = [
            (numbers[i], float(x[i]), float(fit.target[i]), float(predicted[i]), float(residual[i]), bool(outside[i]))
            for i in range(fit.num_points)
        ]
        return Panel(name, title, figure, ("row", held.by, "observed", "predicted", "residual", "held_out"), data)


def curve_panel(name: str, title: str, fit: Fit, y_label: str) -> Panel:
    """Draws a law of one input that is not a law of the loss (an accuracy, an optimum) with its band."""
    x = fit.values[:, 0]
    logarithmic = fit.form.log_target
    with styled():
        figure, axes = new_axes(title, fit.inputs[0], y_label)
        line = np.geomspace(x.min() / 1.1, x.max() * 1.1, 120) if x.min() > 0 else np.linspace(x.min(), x.max(), 120)
        band = fit.band(line)
        if band is not None:
            axes.fill_between(line, *band, color=SERIES[0], alpha=0.16, linewidth=0)
        axes.plot(line, fit.predict(line), color=SERIES[0])
        axes.plot(x, fit.target, "o", color=INK, markersize=4.5)
        if logarithmic:
            _log_x(axes, x)
            axes.set_yscale("log")
            log_values(axes.yaxis)
        data = [tuple(map(float, row)) for row in zip(x, fit.target, fit.predict(x), strict=True)]
        return Panel(name, title, figure, (fit.inputs[0], y_label, "predicted"), data)


def agreement_panel(name: str, title: str, fit: Fit, y_label: str) -> Panel:
    """Draws predicted against observed, for laws of several inputs."""
    predicted = fit.predict(*fit.values.T)
    ends = [min(predicted.min(), fit.target.min()), max(predicted.max(), fit.target.max())]
    with styled():
        figure, axes = new_axes(title, f"{y_label}, predicted", f"{y_label}, observed")
        axes.plot(ends, ends, color=SOFT, linewidth=1.0)
        axes.plot(predicted, fit.target, "o", color=SERIES[0], markersize=4.5, alpha=0.8)
        if fit.form.log_target:
            axes.set_xscale("log")
            axes.set_yscale("log")
            for axis in (axes.xaxis, axes.yaxis):
                log_values(axis)
        columns = (*fit.inputs, "observed", "predicted")
        data = [
            (*map(float, values), float(seen), float(wanted))
            for values, seen, wanted in zip(fit.values, fit.target, predicted, strict=True)
        ]
        return Panel(name, title, figure, columns, data)


def check_panels(stem: str, fit: Fit, found: Diagnosis) -> list[Panel]:
    """Returns the figures of a fit's checks; their names begin with `stem`."""
    panels = [
        residual_panel(
            f"{stem}residuals-{file_name(name)}", f"Residuals against {name}", fit, axis, found.influence, found.numbers
        )
        for axis, name in enumerate(fit.inputs)
    ]
    panels += [profile_panel(f"{stem}profile-{file_name(one.name)}", one, fit) for one in found.profiles]
    if found.held_out is not None:
        panels.append(held_out_panel(f"{stem}held-out", fit, found.held_out, found.numbers))
    return panels


def _log_x(axes, x: np.ndarray) -> None:
    if not x.min() > 0:
        return
    low, high = float(x.min()) / 1.2, float(x.max()) * 1.2
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    log_axis(axes.xaxis, low, high, powers=high > 1e15)
