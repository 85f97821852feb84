"""The figures of Hoffmann et al. 2022: loss contours with the efficient frontier, and IsoFLOP slices of the law."""

from __future__ import annotations

import numpy as np

from triarch.scaling.figures.style import INK, SERIES, SOFT, Panel, log_axis, log_values, loss_axis, new_axes, styled
from triarch.scaling.fitting.cost import Cost
from triarch.scaling.fitting.result import Fit
from triarch.scaling.words import scientific

CONTOURS = 12
SLICES = 6


def contour_panel(name: str, fit: Fit, cost: Cost) -> Panel:
    """Draws the law's loss over FLOPs and parameters, the runs, and the best size for each budget with its interval."""
    params, tokens = fit.values[:, 0], fit.values[:, 1]
    flops = cost.flops(params, tokens)
    c = np.geomspace(flops.min() / 1.5, flops.max() * 10, 120)
    n = np.geomspace(params.min() / 1.5, params.max() * 3, 120)
    loss = fit.predict(n[:, None], cost.tokens(n[:, None], c[None, :]))
    best = np.array([cost.optimum(fit.parameters, one)[0] for one in c])
    title = "Contours of the law and its efficient frontier"
    with styled():
        figure, axes = new_axes(title, f"FLOPs ({cost.name})", fit.inputs[0])
        levels = np.geomspace(fit.target.min() * 0.97, fit.target.max() * 1.03, CONTOURS)
        lines = axes.contour(c, n, loss, levels=levels, cmap="cividis_r", linewidths=1.0)
        axes.clabel(lines, fmt="%.2f", fontsize=7)
        axes.scatter(flops, params, c=fit.target, cmap="cividis_r", s=14, edgecolors=INK, linewidths=0.4, zorder=3)
        band = _optimal_band(fit, cost, c)
        if band is not None:
            low, high = band
            axes.fill_between(c, np.fmin(low, best), np.fmax(high, best), color=SERIES[1], alpha=0.22, linewidth=0)
        axes.plot(c, best, color=SERIES[1], linewidth=2.2, label="best size for a budget")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(n[0], n[-1])
        log_axis(axes.xaxis, c[0], c[-1], powers=True)
        log_values(axes.yaxis)
        axes.legend(loc="upper left")
        low, high = band if band is not None else (np.full(len(c), np.nan),) * 2
        rows = [("frontier", *map(float, row)) for row in zip(c, best, low, high, strict=True)]
        rows += [("run", float(x), float(y), float(z), "") for x, y, z in zip(flops, params, fit.target, strict=True)]
        return Panel(name, title, figure, ("kind", "flops", fit.inputs[0], "low_or_loss", "high"), rows)


def slices_panel(name: str, fit: Fit, cost: Cost, title: str = "IsoFLOP slices of the law") -> Panel:
    """Draws the law along budgets, loss against parameters, with the runs near each and the best sizes joined."""
    params, tokens = fit.values[:, 0], fit.values[:, 1]
    flops = cost.flops(params, tokens)
    budgets = np.geomspace(flops.min(), flops.max(), SLICES)
    nearest = np.abs(np.log(flops)[:, None] - np.log(budgets)).argmin(axis=1)
    rows: list[tuple] = []
    with styled():
        figure, axes = new_axes(title, fit.inputs[0], "loss")
        minima = []
        for index, budget in enumerate(budgets):
            colour, own = SERIES[index % len(SERIES)], nearest == index
            centre = float(cost.optimum(fit.parameters, budget)[0])
            n = np.geomspace(centre / 30, centre * 30, 100)
            loss = fit.predict(n, cost.tokens(n, budget))
            axes.plot(n, loss, color=colour, linewidth=1.4, label=f"{scientific(budget)} FLOPs")
            # A run beside its slice is moved onto it along the law, so that only its residual shows.
            moved = fit.predict(params[own], cost.tokens(params[own], budget)) * np.exp(fit.residuals()[own])
            axes.plot(params[own], moved, "o", color=colour, markersize=3.5, alpha=0.75)
            minima.append((centre, float(fit.predict(centre, cost.tokens(centre, budget)))))
            rows += [("law", float(budget), float(a), float(b)) for a, b in zip(n, loss, strict=True)]
            rows += [("run", float(budget), float(a), float(b)) for a, b in zip(params[own], moved, strict=True)]
        axes.plot(*zip(*minima, strict=True), "--", color=SOFT, linewidth=1.2)
        axes.set_xscale("log")
        loss_axis(axes)
        axes.set_ylim(fit.target.min() * 0.96, fit.target.max() * 1.05)
        low, high = params.min() / 2, params.max() * 2
        axes.set_xlim(low, high)
        log_axis(axes.xaxis, low, high, powers=False)
        figure.legend(loc="outside right upper", fontsize=7.5)
        return Panel(name, title, figure, ("kind", "flops", fit.inputs[0], "loss"), rows)


def _optimal_band(fit: Fit, cost: Cost, flops: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    if not fit.samples:
        return None
    columns = {name: values[:, None] for name, values in fit.samples.items()}
    with np.errstate(all="ignore"):
        sizes = cost.optimum(columns, flops[None, :])[0]
    tail = 50.0 * (1.0 - fit.confidence)
    low, high = np.nanpercentile(sizes, [tail, 100.0 - tail], axis=0)
    return low, high
