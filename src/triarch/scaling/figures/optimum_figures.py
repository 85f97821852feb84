"""Figures of found optima: IsoFLOP parabolas, envelopes of training curves, and how the optimum moves."""

from __future__ import annotations

import numpy as np

from triarch.scaling.figures.style import (
    INK,
    MARKERS,
    SERIES,
    SOFT,
    Panel,
    log_axis,
    log_values,
    loss_axis,
    new_axes,
    styled,
)
from triarch.scaling.fitting.allocation import LINES, Allocation
from triarch.scaling.words import scientific

LABELLED = 8
DRAWN_OPTIMA = 200


def isoflop_panel(name: str, fit: Allocation, title: str = "IsoFLOP parabolas") -> Panel:
    """Draws each budget's runs with its parabola and vertex (Hoffmann et al. 2022, figure 3, left)."""
    rows: list[tuple] = []
    every = -(-len(fit.curves) // LABELLED)
    with styled():
        figure, axes = new_axes(title, "N", "loss")
        for index, (flops, params, loss, fitted) in enumerate(fit.curves):
            colour, marker = SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)]
            order = np.argsort(params)
            z = np.log(params[order])
            curve = np.polynomial.Polynomial.fit(z, np.log(fitted[order]), 2)
            line = np.linspace(z[0], z[-1], 80)
            label = f"{scientific(flops)} FLOPs" if index % every == 0 else None
            axes.plot(np.exp(line), np.exp(curve(line)), color=colour, linewidth=1.3, label=label)
            axes.plot(params, loss, marker, color=colour, markersize=3.8, alpha=0.85)
            rows += [("run", flops, float(n), float(y), float(f)) for n, y, f in zip(params, loss, fitted, strict=True)]
        axes.plot(fit.optima["N"], fit.optima["loss"], "*", color=INK, markersize=8, label="minimum")
        rows += [
            ("minimum", float(c), float(n), float(y), "")
            for c, n, y in zip(fit.flops, fit.optima["N"], fit.optima["loss"], strict=True)
        ]
        axes.set_xscale("log")
        loss_axis(axes)
        low = min(curve[1].min() for curve in fit.curves) / 1.3
        high = max(curve[1].max() for curve in fit.curves) * 1.3
        log_axis(axes.xaxis, low, high, powers=False)
        figure.legend(loc="outside right upper", fontsize=7.5)
        return Panel(name, title, figure, ("kind", "flops", "N", "loss", "parabola"), rows)


def envelope_panel(name: str, fit: Allocation) -> Panel:
    """Draws training curves against FLOPs with their lower envelope (Hoffmann et al. 2022, figure 2, left)."""
    title = "Training curves and their envelope"
    rows: list[tuple] = []
    sizes = np.log([curve[0] for curve in fit.curves])
    span = np.ptp(sizes) or 1.0
    with styled():
        figure, axes = new_axes(title, "FLOPs", "loss")
        for size, flops, loss, _ in fit.curves:
            strength = 0.35 + 0.6 * (np.log(size) - sizes.min()) / span
            axes.plot(flops, loss, color=SERIES[0], alpha=float(strength), linewidth=1.0)
            rows += [("curve", float(size), float(c), float(y)) for c, y in zip(flops, loss, strict=True)]
        axes.plot(fit.flops, fit.optima["loss"], color=SERIES[1], linewidth=2.4, label="envelope")
        rows += [
            ("envelope", float(n), float(c), float(y))
            for n, c, y in zip(fit.optima["N"], fit.flops, fit.optima["loss"], strict=True)
        ]
        axes.set_xscale("log")
        loss_axis(axes)
        bottom, top = fit.optima["loss"].min(), fit.optima["loss"].max()
        axes.set_ylim(bottom * 0.96, top * 1.3)
        low, high = fit.flops.min() / 10, max(curve[1].max() for curve in fit.curves)
        axes.set_xlim(low, high)
        log_axis(axes.xaxis, low, high, powers=True)
        axes.legend(loc="upper right")
        return Panel(name, title, figure, ("kind", "N", "flops", "loss"), rows)


def line_panel(name: str, fit: Allocation, which: str, whose: str = "") -> Panel:
    """Draws the optimal N, D or loss against FLOPs with its line and band, a decade beyond what was measured."""
    scale, exponent = LINES[which]
    words = {"N": "optimal parameters", "D": "optimal tokens", "loss": "loss at the optimum"}[which]
    title = f"{whose}{words}: C^{fit.parameters[exponent]:.3f}"
    title = title[0].upper() + title[1:]
    x = np.geomspace(fit.flops.min() / 2, fit.flops.max() * 10, 60)
    line = fit.parameters[scale] * x ** fit.parameters[exponent]
    with styled():
        figure, axes = new_axes(title, "FLOPs", words)
        if fit.samples:
            drawn = fit.samples[scale][:, None] * x[None, :] ** fit.samples[exponent][:, None]
            tail = 50.0 * (1.0 - fit.options.confidence)
            bottom, top = np.percentile(drawn, [tail, 100 - tail], axis=0)
            axes.fill_between(x, np.fmin(bottom, line), np.fmax(top, line), color=SERIES[0], alpha=0.16, linewidth=0)
        axes.plot(x, line, color=SERIES[0])
        keep = np.unique(np.linspace(0, len(fit.flops) - 1, DRAWN_OPTIMA).round().astype(int))
        points, values = fit.flops[keep], fit.optima[which][keep]
        if which in fit.samples_optima and len(keep) < 40:
            tail = 50.0 * (1.0 - fit.options.confidence)
            ends = np.nanpercentile(fit.samples_optima[which][:, keep], [tail, 100 - tail], axis=0)
            axes.vlines(points, *ends, color=SOFT, linewidth=1.0)
        axes.plot(points, values, "o", color=INK, markersize=4 if len(keep) < 40 else 2)
        axes.set_xscale("log")
        axes.set_yscale("log")
        log_axis(axes.xaxis, x[0], x[-1], powers=True)
        log_values(axes.yaxis)
        rows = [(float(c), float(v), float(fit.parameters[scale] * c ** fit.parameters[exponent]))
                for c, v in zip(fit.flops, fit.optima[which], strict=True)]  # fmt: skip
        return Panel(name, title, figure, ("flops", words, "line"), rows)
