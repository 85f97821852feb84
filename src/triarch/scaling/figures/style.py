"""One look for every figure, and SVG that takes its colours from the page it stands in."""

from __future__ import annotations

import dataclasses
import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch import disk, lazy
from triarch.errors import UserError
from triarch.files import write_whole
from triarch.scaling.words import power_of_ten, short_number

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.axis
    import matplotlib.figure
    import matplotlib.ticker
else:
    matplotlib = lazy.module("matplotlib", "figure", "ticker")

INK, SOFT, GRID = "#1f2328", "#59636e", "#d8dde3"
# Okabe and Ito's colours, which the colour-blind can tell apart; light grounds first, then dark ones.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9")
SERIES_DARK = ("#58b4f0", "#ff9350", "#3fcf9f", "#f0a6d2", "#e8bb4a", "#a5dcff")
MARKERS = ("o", "s", "^", "D", "v", "P")
# A colour is written as a CSS variable, so that one drawing serves light pages, dark pages and paper.
VARIABLES = {INK: "--ink", SOFT: "--soft", GRID: "--grid"} | {c: f"--series-{i}" for i, c in enumerate(SERIES, 1)}

RC: dict[Any, Any] = {
    "figure.figsize": (4.7, 3.5),
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "font.size": 9.5,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    # A dollar sign in somebody's run name is a dollar sign.
    "text.parse_math": False,
    "path.simplify": True,
}


@contextmanager
def styled() -> Iterator[None]:
    """Draws within the house style."""
    with matplotlib.rc_context(RC):
        yield


def new_axes(title: str, x_label: str, y_label: str) -> tuple[matplotlib.figure.Figure, matplotlib.axes.Axes]:
    """Returns an empty panel; made without pyplot, so that nothing global is touched and no display is needed."""
    figure = matplotlib.figure.Figure(layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


@dataclasses.dataclass(frozen=True)
class Panel:
    """A drawn figure and the data behind it.

    Attributes:
      name: file stem and prefix of the ids inside the SVG.
      title: what it shows, for its caption and for those who cannot see it.
      figure: the matplotlib figure.
      columns: names of the data's columns.
      rows: the data drawn.
      tips: sentences shown when pointing at the artist of that gid.
      caption: what is compared, for below the figure.
    """

    name: str
    title: str
    figure: matplotlib.figure.Figure
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    tips: Mapping[str, str] = dataclasses.field(default_factory=dict)
    caption: str = ""

    def svg(self) -> str:
        """Returns an <svg> element: same bytes for same data, ids unique to the panel, colours as CSS variables."""
        buffer = io.StringIO()
        with matplotlib.rc_context(RC | {"svg.hashsalt": self.name}):
            self.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        return _inline(buffer.getvalue(), self.name, self.title, self.tips)

    def csv(self) -> str:
        """Returns the data as comma-separated text."""
        return csv_text(self.columns, self.rows)

    def save(self, path: str | Path) -> Path:
        """Writes the figure (.svg, .pdf, .png) or its data (.csv), by the path's ending.

        Raises:
          UserError: another ending, or a folder that cannot be written.
        """
        path = Path(path)
        if path.suffix == ".svg":
            content = (self.svg() + "\n").encode()
        elif path.suffix == ".csv":
            content = self.csv().encode()
        elif path.suffix in (".png", ".pdf"):
            content = self._printed(path.suffix[1:])
        else:
            raise UserError(f"{path}: a figure is written as .svg, .pdf or .png, its data as .csv")
        write_output(path, content)
        return path

    def _printed(self, kind: str) -> bytes:
        """Returns the figure on white, the same bytes for the same data; a PDF's text stays text (TrueType)."""
        buffer = io.BytesIO()
        metadata = {"Software": None} if kind == "png" else {"CreationDate": None, "Producer": None, "Creator": None}
        with matplotlib.rc_context(RC | {"pdf.fonttype": 42}):
            self.figure.savefig(buffer, format=kind, dpi=200, facecolor="white", metadata=metadata)
        return buffer.getvalue()


def csv_text(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Returns rows under a header as comma-separated text."""
    return "".join(",".join(_csv_cell(cell) for cell in line) + "\n" for line in [columns, *rows])


def write_output(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all.

    Raises:
      UserError: the folder is missing or cannot be written.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        problem = disk.full(path) if disk.is_full(error) else f"cannot be written: {error.strerror}"
        raise UserError(f"{path}: {problem}") from None


def log_axis(axis: matplotlib.axis.Axis, low: float, high: float, powers: bool) -> None:
    """Puts readable ticks on a logarithmic axis; `powers` writes 10^n instead of k, M, B."""
    subs = (1.0,) if high / low > 300 else (1.0, 3.0) if high / low > 12 else (1.0, 2.0, 5.0)
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=subs, numticks=12))
    axis.set_major_formatter(matplotlib.ticker.FuncFormatter(power_of_ten if powers else short_number))
    axis.set_minor_locator(matplotlib.ticker.NullLocator())


def log_values(axis: matplotlib.axis.Axis) -> None:
    """Puts readable ticks on a logarithmic axis of any span: 1, 2, 5, with k, M, B."""
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1.0, 2.0, 5.0), numticks=9))
    axis.set_major_formatter(matplotlib.ticker.FuncFormatter(short_number))
    axis.set_minor_locator(matplotlib.ticker.NullLocator())


def loss_axis(axes: matplotlib.axes.Axes) -> None:
    """Makes the y axis logarithmic with plain numbers: a power law without offset is straight on it."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())


def _inline(svg: str, name: str, title: str, tips: Mapping[str, str]) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "").replace("xlink:href=", "href=")
    for gid, sentence in tips.items():
        svg = svg.replace(f'<g id="{gid}">', f'<g id="{gid}" class="tip"><title>{html.escape(sentence)}</title>')
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    svg = re.sub(r"#[0-9a-f]{6}\b", lambda match: _variable(match.group()), svg)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans, sans-serif)", svg)
    label = html.escape(title, quote=True)
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"|height="[\d.]+pt"', "", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[\d.]+pt"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()


def _variable(colour: str) -> str:
    return f"var({VARIABLES[colour]}, {colour})" if colour in VARIABLES else colour


def _csv_cell(cell: object) -> str:
    text = f"{cell:.10g}" if isinstance(cell, float) else str(cell)
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n\r') else text
