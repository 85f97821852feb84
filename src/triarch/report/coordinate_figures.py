"""The figure of a coordinate check, from the table that `triarch coordinates` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from triarch.report.length_figures import panel_of
from triarch.scaling.figures.style import MARKERS, SERIES, Panel, log_axis, new_axes, styled
from triarch.scaling.tables.table import Table

COORDINATES = "coordinates.csv"
_DASHES = ("--", "-", ":")


def coordinate_panel(path: Path) -> Panel:
    """Draws how far activations moved against width, a line for each layer and parametrization.

    Args:
      path: of a table with the columns parametrization, width, place, initial and moved.

    Raises:
      UserError: the table is misshapen.
    """
    table = Table.read_csv(path)
    widths, moved = table.numbers("width"), table.numbers("moved")
    kinds, places = (np.array(table.text(name)) for name in ("parametrization", "place"))
    title = "How far activations move, by width"
    with styled():
        figure, axes = new_axes(title, "d_model", "mean |change|")
        for dash, kind in zip(_DASHES, dict.fromkeys(kinds), strict=False):
            for index, place in enumerate(dict.fromkeys(places)):
                own = np.flatnonzero((kinds == kind) & (places == place))
                own = own[np.argsort(widths[own])]
                colour, marker = SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)]
                axes.plot(widths[own], moved[own], dash + marker, color=colour, markersize=4, label=f"{place}, {kind}")
        axes.set_xscale("log")
        axes.set_yscale("log")
        log_axis(axes.xaxis, widths.min(), widths.max(), powers=False)
        axes.legend(loc="best", fontsize=7)
    return panel_of("coordinates", title, figure, table)
