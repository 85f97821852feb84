"""Figures of attention matrices, from the tables that `triarch attention` writes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib.colors
import matplotlib.figure
import matplotlib.ticker
import numpy as np

from triarch.errors import UserError
from triarch.report.length_figures import panel_of
from triarch.scaling.figures.style import MARKERS, SERIES, SOFT, Panel, new_axes, styled
from triarch.scaling.tables.table import Table

HEADS, LOCALITY, KEYS, MAPS = "attention.csv", "locality.csv", "keys.csv", "map-*.csv"
KIND_WORDS = {"encoder": "encoder", "decoder": "decoder", "cross": "cross-attention"}
# Stretches of positions that a curve along a window is averaged over.
_STRETCHES = 64
# Of maps, in one figure.
_MOST_PICTURES = 1000
_PAPER = matplotlib.colors.LinearSegmentedColormap.from_list("map", ["#ffffff", SERIES[0], "#0b1d2e"])


def attention_panels(folder: Path, map_size: int | None = None) -> list[Panel]:
    """Returns the figures for which `folder` holds a table.

    Args:
      folder: of the tables.
      map_size: rows and columns that a map has at most, see `map_panel`; None draws it whole.

    Raises:
      UserError: a table is misshapen.
    """
    panels = []
    if (folder / LOCALITY).exists():
        title = "Attention to the nearest tokens, by position"
        panels.append(along_panel(Table.read_csv(folder / LOCALITY), "attention-locality", title, "locality"))
    if (folder / HEADS).exists():
        table = Table.read_csv(folder / HEADS)
        rank = "Effective rank, share of the full"
        panels.append(depth_panel(table, "attention-rank", rank, "effective_rank", "full_rank", "uniform_rank"))
        entropy = "Entropy, share of the even"
        panels.append(depth_panel(table, "attention-entropy", entropy, "entropy", "uniform_entropy"))
    if (folder / KEYS).exists():
        title = "Cross-attention, by place in the encoder"
        panels.append(along_panel(Table.read_csv(folder / KEYS), "attention-keys", title, "mass"))
    return panels + [map_panel(Table.read_csv(path), path.stem, map_size) for path in sorted(folder.glob(MAPS))]


def along_panel(table: Table, name: str, title: str, column: str) -> Panel:
    """Draws a number along the window: a line for each stack, the mean of its layers, which are thin lines.

    Args:
      table: columns model, kind, layer, position and `column`.
      name: of the panel.
      title: of the panel.
      column: of what is drawn.
    """
    positions, values = table.numbers("position", positive=False), table.numbers(column, positive=False)
    layers = table.numbers("layer", positive=False)
    with styled():
        figure, axes = new_axes(title, "position, tokens", "attention mass")
        for index, (label, rows) in enumerate(_stacks(table)):
            colour = SERIES[index % len(SERIES)]
            curves = []
            for layer in np.unique(layers[rows]):
                own = rows[layers[rows] == layer]
                middles, means = _stretches(positions[own], values[own])
                axes.plot(middles, means, color=colour, linewidth=0.6, alpha=0.45)
                curves.append(means)
            if len({len(curve) for curve in curves}) > 1:
                raise UserError(f"{table.name}: {label}: expected as many positions of each layer")
            axes.plot(middles, np.mean(curves, axis=0), color=colour, label=label)
        axes.set_ylim(bottom=0)
        axes.legend()
    return panel_of(name, title, figure, table)


def depth_panel(table: Table, name: str, title: str, column: str, whole: str, reference: str | None = None) -> Panel:
    """Draws a share by depth: a point for each head, a line through the means of layers.

    Args:
      table: columns model, kind, layer, head and those named below.
      name: of the panel.
      title: of the panel.
      column: of what is drawn, as a share of `whole`.
      whole: column of what a share of one would be.
      reference: column of what an even distribution would give, drawn as a dotted line.
    """
    layers = table.numbers("layer", positive=False)
    wholes = table.numbers(whole, positive=False)
    wholes = np.where(wholes > 0, wholes, 1)
    shares = table.numbers(column, positive=False) / wholes
    with styled():
        figure, axes = new_axes(title, "layer", "share")
        for index, (label, rows) in enumerate(_stacks(table)):
            colour, depth = SERIES[index % len(SERIES)], np.unique(layers[rows])
            axes.plot(layers[rows], shares[rows], MARKERS[index % len(MARKERS)], color=colour, markersize=3, alpha=0.5)
            means = [shares[rows][layers[rows] == layer].mean() for layer in depth]
            axes.plot(depth, means, color=colour, label=label)
            if reference is not None:
                even = table.numbers(reference)[rows] / wholes[rows]
                axes.plot(depth, [even[layers[rows] == layer].mean() for layer in depth], ":", color=colour)
        if reference is not None:
            axes.plot([], [], ":", color=SOFT, label="even over what the mask allows")
        axes.set_ylim(0, 1.02)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        axes.legend(fontsize=7.5)
    return panel_of(name, title, figure, table)


def map_panel(table: Table, name: str, size: int | None = None) -> Panel:
    """Draws attention matrices as pictures, layers downwards and heads across; each has a colour scale of its own.

    Args:
      table: columns layer, head, query and then one of weights for each key.
      name: of the panel.
      size: rows and columns of a picture at most: of a larger matrix stretches of queries are averaged, and the mass on
        stretches of keys summed, so that rows still sum to one. None draws it whole.
    """
    if size is not None:
        table = _pooled(table, size)
    layers, heads, _, weights = _maps(table)
    rows, columns = np.unique(layers), np.unique(heads)
    title = f"Attention weights, {name.removeprefix('map-')}"
    # The name becomes ids in a page, and a model's folder may be called anything.
    name = re.sub(r"[^\w.-]", "-", name, flags=re.ASCII)
    with styled():
        figure_size = (1.1 + 1.7 * len(columns), 0.9 + 1.7 * len(rows))
        figure = matplotlib.figure.Figure(layout="constrained", figsize=figure_size)
        grid = figure.subplots(len(rows), len(columns), squeeze=False)
        for i, layer in enumerate(rows):
            for j, head in enumerate(columns):
                axes, picture = grid[i, j], weights[(layers == layer) & (heads == head)]
                # The square root shows faint weights too.
                scale = matplotlib.colors.PowerNorm(0.5, 0, max(float(picture.max(initial=0)), 1e-9))
                if picture.size:
                    axes.imshow(picture, cmap=_PAPER, norm=scale, interpolation="nearest", aspect="auto")
                axes.set_title(f"layer {layer}, head {head}", fontsize=7.5, fontweight="normal")
                axes.grid(False)
                axes.tick_params(labelsize=6)
        figure.suptitle(title, fontsize=9, fontweight="bold", x=0.01, ha="left")
        figure.supxlabel("key", fontsize=8, color=SOFT)
        figure.supylabel("query", fontsize=8, color=SOFT)
    return panel_of(name, title, figure, table)


def _maps(table: Table) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    """Returns layer and head of each row, the columns of keys, and the weights, float64[rows, keys]."""
    layers, heads = table.whole_numbers("layer"), table.whole_numbers("head")
    keys = [column for column in table.columns if column not in ("layer", "head", "query")]
    if not keys:
        raise UserError(f"{table.name}: no column of weights, expected one for each key")
    if len(set(layers)) * len(set(heads)) > _MOST_PICTURES:
        raise UserError(f"{table.name}: {len(set(layers))} layers of {len(set(heads))} heads: too many to draw")
    return layers, heads, keys, np.stack([table.numbers(key, positive=False, least=0.0) for key in keys], axis=1)


def _pooled(table: Table, size: int) -> Table:
    """Returns the table of smaller matrices; a stretch goes by its first query or key."""
    layers, heads, keys, weights = _maps(table)
    columns = _starts(len(keys), size)
    rows = []
    for layer, head in dict.fromkeys(zip(layers.tolist(), heads.tolist(), strict=True)):
        matrix = weights[(layers == layer) & (heads == head)]
        queries = _starts(len(matrix), size)
        lengths = np.diff(queries, append=len(matrix))
        pooled = np.add.reduceat(np.add.reduceat(matrix, columns, axis=1), queries, axis=0) / lengths[:, None]
        for query, values in zip(queries, pooled, strict=True):
            places = {keys[column]: f"{value:.3g}" for column, value in zip(columns, values, strict=True)}
            rows.append({"layer": layer, "head": head, "query": int(query)} | places)
    return Table.from_rows(rows, table.name)


def _starts(count: int, size: int) -> np.ndarray:
    """Returns where each of at most `size` stretches of about the same length begins."""
    return np.unique(np.arange(min(size, count)) * count // min(size, count))


def _stacks(table: Table) -> Iterator[tuple[str, np.ndarray]]:
    """Yields each model's stacks: label and rows."""
    pairs = list(zip(table.text("model"), table.text("kind"), strict=True))
    for model, kind in dict.fromkeys(pairs):
        rows = np.array([i for i, pair in enumerate(pairs) if pair == (model, kind)])
        yield f"{model}, {KIND_WORDS.get(kind, kind)}", rows


def _stretches(positions: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count = min(_STRETCHES, len(values))
    parts = np.array_split(np.argsort(positions), count)
    return np.array([positions[part].mean() for part in parts]), np.array([values[part].mean() for part in parts])
