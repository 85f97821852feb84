"""Figures of loss against length, from the tables that `triarch extrapolate` writes."""

from __future__ import annotations

from pathlib import Path

import matplotlib.figure
import matplotlib.ticker
import numpy as np

from triarch.scaling.figures.style import MARKERS, SERIES, SOFT, Panel, log_axis, loss_axis, new_axes, styled
from triarch.scaling.tables.table import Table
from triarch.scaling.words import short_number

LENGTHS, POSITIONS = "extrapolation.csv", "positions.csv"
DASHES = ("-", "--", ":", "-.")
# Of a standard error: a 95% interval.
_Z = 1.96
# Below this ratio of the greatest to the least, a logarithmic axis has hardly a tick.
_NARROW = 5


def length_panels(folder: Path) -> list[Panel]:
    """Returns the figures for which `folder` holds a table.

    Raises:
      UserError: a table is misshapen.
    """
    panels = []
    if (folder / LENGTHS).exists():
        panels.append(extrapolation_panel(Table.read_csv(folder / LENGTHS)))
    if (folder / POSITIONS).exists():
        panels.append(position_panel(Table.read_csv(folder / POSITIONS)))
    return panels


def extrapolation_panel(table: Table) -> Panel:
    """Draws loss against total length, a line for each model and prefix, with a 95% interval for the first prefix.

    Args:
      table: columns model, scoring, trained_length, prefix (empty for an encoder), length, nats_per_token and
        standard_error (may be empty).
    """
    losses, lengths = table.numbers("nats_per_token"), table.numbers("length")
    errors = table.numbers("standard_error", positive=False, least=0.0, optional=True)
    with styled():
        figure, axes = new_axes("Loss against total length", "total length, tokens", "nats per token")
        for label, colour, dash, rows in _lines(table):
            order = rows[np.argsort(lengths[rows])]
            spread = _Z * np.nan_to_num(errors[order])
            axes.plot(lengths[order], losses[order], dash, color=colour, label=label)
            # One band a model: its other prefixes are scored on the same windows and vary with them.
            if dash == "-":
                low, high = losses[order] - spread, losses[order] + spread
                axes.fill_between(lengths[order], low, high, color=colour, alpha=0.12, linewidth=0)
        for trained in sorted(set(table.numbers("trained_length"))):
            axes.axvline(trained, color=SOFT, linewidth=0.8, linestyle=":")
            axes.annotate("trained", (trained, 1), xycoords=("data", "axes fraction"), color=SOFT, fontsize=8, va="top")
        _finish(axes)
    return panel_of("extrapolation", "Loss against total length", figure, table)


def position_panel(table: Table) -> Panel:
    """Draws loss against the position of the token that is predicted, in the longest windows.

    Args:
      table: columns model, trained_length, prefix, first, last and nats_per_token.
    """
    losses = table.numbers("nats_per_token")
    middles = (table.numbers("first", positive=False) + table.numbers("last", positive=False)) / 2
    with styled():
        figure, axes = new_axes("Loss along the longest windows", "position, tokens", "nats per token")
        for label, colour, dash, rows in _lines(table):
            axes.plot(middles[rows], losses[rows], dash, color=colour, label=label, linewidth=1.2)
        for trained in sorted(set(table.numbers("trained_length"))):
            axes.axvline(trained, color=SOFT, linewidth=0.8, linestyle=":")
        _finish(axes)
    return panel_of("loss-by-position", "Loss along the longest windows", figure, table)


def quality_panels(table: Table) -> list[Panel]:
    """Draws a suite's loss against inference FLOPs in both conventions, and against parameters.

    Args:
      table: columns model, architecture, num_params, forward_flops_paper, forward_flops_train, scoring, average,
        source, nats_per_token and standard_error, as `triarch evaluate --suite` writes them.
    """
    averages, sources = table.text("average"), table.text("source")
    whole = [i for i, average in enumerate(averages) if average == "macro_sources" and not sources[i]]
    scorings = table.text("scoring")
    table = table.select([i for i in whole if scorings[i] in ("paired", "pseudo_likelihood")])
    if not len(table):
        return []
    axes_of = (
        ("num_params", "parameters"),
        ("forward_flops_paper", "forward FLOPs a window, paper convention"),
        ("forward_flops_train", "forward FLOPs a window, train convention"),
    )
    return [_quality_panel(table, column, label) for column, label in axes_of]


def _quality_panel(table: Table, column: str, label: str) -> Panel:
    x, losses = table.numbers(column), table.numbers("nats_per_token")
    errors = np.nan_to_num(table.numbers("standard_error", positive=False, least=0.0, optional=True))
    architectures, models, scorings = table.text("architecture"), table.text("model"), table.text("scoring")
    with styled():
        figure, axes = new_axes(f"Suite loss against {label.split(',')[0]}", label, "nats per token, mean over sources")
        for index, name in enumerate(dict.fromkeys(architectures)):
            rows = [i for i, own in enumerate(architectures) if own == name]
            colour, marker = SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)]
            hollow = "none" if scorings[rows[0]] != "paired" else colour
            axes.errorbar(
                x[rows], losses[rows], yerr=_Z * errors[rows], fmt=marker, markerfacecolor=hollow,
                color=colour, elinewidth=0.9,
                label=name + ("" if hollow != "none" else " (pseudo-likelihood)"),
            )  # fmt: skip
        for i, model in enumerate(models):
            axes.annotate(model, (x[i], losses[i]), xytext=(4, 4), textcoords="offset points", color=SOFT, fontsize=7)
        axes.margins(x=0.25)
        if x.max() > _NARROW * x.min():
            axes.set_xscale("log")
            log_axis(axes.xaxis, x.min(), x.max(), powers=False)
        else:
            axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
            axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(short_number))
        axes.legend()
    name = f"suite-{column.replace('_', '-')}"
    return panel_of(name, f"Loss on the suite against {label}", figure, table)


def _lines(table: Table) -> list[tuple[str, str, str, np.ndarray]]:
    """Returns each line's label, colour, dash and rows: a model and a prefix each."""
    models, prefixes = table.text("model"), table.text("prefix")
    number = dict(zip(prefixes, table.numbers("prefix", optional=True), strict=True))
    names = list(dict.fromkeys(models))
    shown = sorted({prefix for prefix in prefixes if prefix}, key=lambda prefix: number[prefix])
    lines = []
    for model, prefix in dict.fromkeys(zip(models, prefixes, strict=True)):
        rows = np.array([i for i, own in enumerate(zip(models, prefixes, strict=True)) if own == (model, prefix)])
        colour = SERIES[names.index(model) % len(SERIES)]
        dash = DASHES[shown.index(prefix) % len(DASHES)] if prefix else "-"
        label = f"{model}, prefix {number[prefix]:,.0f}" if prefix else f"{model} (pseudo-likelihood)"
        lines.append((label, colour, dash, rows))
    return lines


def _finish(axes) -> None:
    low, high = axes.get_ylim()
    if low > 0 and high / low > 3:
        loss_axis(axes)
    axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2)


def panel_of(name: str, title: str, figure: matplotlib.figure.Figure, table: Table) -> Panel:
    """Returns a panel whose data is the table that it was drawn from."""
    return Panel(name, title, figure, list(table.columns), list(zip(*table.columns.values(), strict=True)))
