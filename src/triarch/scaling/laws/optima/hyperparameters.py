"""The best learning rate and batch against size and data: Step Law (Li et al. 2025, arXiv 2503.04715)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy

from triarch.errors import UserError
from triarch.scaling.checks.comparison import Comparison, compare_settings
from triarch.scaling.figures.comparison_figures import settings_panel
from triarch.scaling.figures.fit_figures import agreement_panel, curve_panel
from triarch.scaling.figures.style import Panel
from triarch.scaling.fitting.options import DEFAULTS, FitOptions
from triarch.scaling.fitting.result import Fit
from triarch.scaling.laws.checked import checked
from triarch.scaling.laws.law import FittedPart, Law, Units, setting
from triarch.scaling.laws.log_linear import fit_log_linear
from triarch.scaling.tables.columns import Columns
from triarch.scaling.tables.roles import BATCH, LEARNING_RATE, LOSS, PARAMS, TOKENS
from triarch.scaling.tables.table import Table
from triarch.scaling.words import file_name

# Runs within this share of their cell's least loss count as near the optimum: that of the published code.
TOLERANCE = 0.0025
LEAST_CELLS = 4


@dataclasses.dataclass(frozen=True)
class Cell:
    """The runs of one size and one number of tokens.

    Attributes:
      params, tokens: N and D.
      learning_rate, batch: geometric means over the runs near the optimum.
      loss: the least.
      runs, near: how many runs there are, and how many near the optimum.
      edge: which of "learning rate" and "batch" have their best at the end of what was tried.
    """

    params: float
    tokens: float
    learning_rate: float
    batch: float
    loss: float
    runs: int
    near: int
    edge: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class BestSettings:
    """learning rate = c N^p D^q and batch = k D^r, through the cells' optima.

    Attributes:
      learning_rate, batch: the two laws.
      cells: the optima.
      tolerance: what counted as near one.
      num_points: runs.
      warnings: sentences on what the estimates do not show.
    """

    learning_rate: Fit
    batch: Fit
    cells: tuple[Cell, ...]
    tolerance: float
    num_points: int
    warnings: tuple[str, ...]

    @property
    def laws(self) -> dict[str, Fit]:
        """Returns both laws by what they are of."""
        return {"learning_rate": self.learning_rate, "batch": self.batch}

    @property
    def samples(self) -> dict[str, np.ndarray]:
        """Returns no resamples: each law has its own."""
        return {}

    def formula(self) -> str:
        """Returns both laws with their numbers."""
        return f"learning rate = {self.learning_rate.formula(4)}, batch = {self.batch.formula(4)}"

    def best(self, params: float, tokens: float) -> dict[str, tuple[float, tuple[float, float] | None]]:
        """Returns the best learning rate and batch for a run, each with its interval (None without bootstraps)."""
        found = {}
        for name, fit, inputs in (
            ("learning_rate", self.learning_rate, (params, tokens)),
            ("batch", self.batch, (tokens,)),
        ):
            band = fit.band(*(np.array([value]) for value in inputs))
            interval = (float(band[0][0]), float(band[1][0])) if band else None
            found[name] = (float(fit.predict(*inputs)), interval)
        return found

    def to_json(self) -> dict[str, object]:
        """Returns the estimates, as `triarch fit --json` writes them."""
        both = self.laws.items()
        return {
            "law": "hyperparameters",
            "parameters": {f"{what}_{name}": value for what, fit in both for name, value in fit.parameters.items()},
            "intervals": {f"{what}_{name}": list(pair) for what, fit in both for name, pair in fit.intervals.items()},
            "objective": self.learning_rate.objective + self.batch.objective,
            "num_points": self.num_points,
            "formula": self.formula(),
            "confidence": self.learning_rate.confidence,
            "bootstraps": self.learning_rate.bootstraps,
            "seed": self.learning_rate.seed,
            "tolerance": self.tolerance,
            "cells": [dataclasses.asdict(cell) for cell in self.cells],
            "warnings": list(self.warnings),
        }


@dataclasses.dataclass(frozen=True)
class Hyperparameters(Law):
    """Laws of the best learning rate and batch."""

    name = "hyperparameters"
    text = "learning rate = c N^p D^q, batch = k D^r"
    needs = (PARAMS, TOKENS, LEARNING_RATE, BATCH, LOSS)

    tolerance: float = setting(
        TOLERANCE,
        "hyperparameters: runs this near the least loss of their cell make its optimum (default: 0.0025)",
        metavar="SHARE",
    )

    def fit(self, columns: Columns, options: FitOptions) -> BestSettings:
        """Fits the laws: see `fit_hyperparameters`."""
        params, tokens, rate, batch, loss = (columns.values[role.name] for role in self.needs)
        return fit_hyperparameters(params, tokens, rate, batch, loss, options, tolerance=self.tolerance)

    def units(self, columns: Columns) -> Units:
        """Returns the cells: each stands for all its runs."""
        values = np.column_stack([columns.values["params"], columns.values["tokens"]])
        return Units(*np.unique(values, axis=0, return_index=True))

    def num_parameters(self, columns: Columns) -> int:
        """Returns those of the learning rate's law."""
        return 3

    def pair_keys(
        self, column: str, tables: Mapping[str, Table], read: Callable[[Table], Columns]
    ) -> dict[str, list[str]]:
        """Returns one key for all runs of a cell: one of those that it shares runs by, in any group.

        A pair column may name single runs, "1b-lr3-bs64": cells of which any run is paired are paired.
        """
        keys = super().pair_keys(column, tables, read)
        joined = scipy.cluster.hierarchy.DisjointSet()
        labels = {name: cells_of(read(own).values) for name, own in tables.items()}
        for name, own in keys.items():
            first: dict[int, str] = {}
            for label, key in zip(labels[name], own, strict=True):
                joined.add(key)
                joined.merge(key, first.setdefault(label, key))
        cells = {name: [joined[key] for key in own] for name, own in keys.items()}
        for name, own in cells.items():
            if len(set(own)) < len(set(labels[name])):
                raise UserError(
                    f"{column}: its values tie several sizes and numbers of tokens of {name} together, expected each"
                    " to stand for one"
                )
        return cells

    def compare(self, names: tuple[str, str], first: FittedPart, second: FittedPart, pairs: int) -> Comparison:
        """Compares parameters, and the best settings of runs of equal N and D."""
        laws = {what: (law, second.fit.laws[what]) for what, law in first.fit.laws.items()}
        return compare_settings(names, laws, pairs)

    def panel(self, part: FittedPart, name: str) -> Panel:
        """Draws the best learning rates, predicted against observed."""
        title = f"{part.label}: best learning rate" if part.label else "best learning rate"
        return agreement_panel(name, title, part.fit.learning_rate, "learning rate")

    def panels(self, part: FittedPart, stem: str) -> list[Panel]:
        """Returns both laws."""
        return [self.panel(part, f"{stem}law"), curve_panel(f"{stem}batch", "Best batch", part.fit.batch, "batch")]

    def comparison_panels(self, parts: Sequence[FittedPart], comparisons: Sequence[Comparison]) -> list[Panel]:
        """Returns all groups' best settings, along each input."""
        panels = []
        for what, law in parts[0].fit.laws.items():
            laws = [(part.label, part.fit.laws[what]) for part in parts]
            word = what.replace("_", " ")
            for axis, name in enumerate(law.inputs):
                panels.append(
                    settings_panel(f"best-{file_name(word)}-{name}", f"Best {word} along {name}", laws, axis, word)
                )
        return panels


def fit_hyperparameters(
    params: np.ndarray,
    tokens: np.ndarray,
    learning_rate: np.ndarray,
    batch: np.ndarray,
    loss: np.ndarray,
    options: FitOptions = DEFAULTS,
    *,
    tolerance: float = TOLERANCE,
) -> BestSettings:
    """Fits the laws by least squares in logarithms through each cell's optimum.

    A cell (N, D) counts once, at the mean logarithms of its runs near the optimum, and the bootstrap resamples cells:
    its runs share what made their grid (a bootstrap over runs takes them for independent and is far too narrow).

    Args:
      params, tokens, learning_rate, batch, loss: float[points], each above zero; the batch in any unit.
      options: of the intervals.
      tolerance: how far above its cell's least loss a run may be, as a share; 0 takes the best run alone.

    Raises:
      UserError: fewer than four cells, one size or one number of tokens only, or bad values.
    """
    if tolerance < 0:
        raise UserError(f"tolerance is {tolerance:g}, expected a share from 0 on, such as 0.0025")
    names = ("N", "D", "learning rate", "batch")
    values, loss = checked([params, tokens, learning_rate, batch], loss, names, fewest=LEAST_CELLS)
    labels = cells_of({"params": values[:, 0], "tokens": values[:, 1]})
    count = labels.max() + 1
    if count < LEAST_CELLS:
        raise UserError(
            f"{count} cells of one N and one D: the law has three parameters, at least {LEAST_CELLS} are needed"
        )
    cells = tuple(_cell(values[labels == k], loss[labels == k], tolerance) for k in range(count))
    n, d, rate, size = (np.array([getattr(cell, name) for cell in cells])
                        for name in ("params", "tokens", "learning_rate", "batch"))  # fmt: skip
    rate_law = fit_log_linear([n, d], rate, options, inputs=("N", "D"), output="learning rate")
    batch_law = fit_log_linear([d], size, options, inputs=("D",), output="batch")
    with_size = fit_log_linear([n, d], size, options, inputs=("N", "D"), output="batch")
    warnings = _warnings(cells, rate_law, batch_law, with_size)
    return BestSettings(rate_law, batch_law, cells, tolerance, len(loss), tuple(warnings))


def cells_of(values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the number of each run's cell, int[runs], counted by N ("params") and then by D ("tokens")."""
    both = np.column_stack([values["params"], values["tokens"]])
    return np.unique(both, axis=0, return_inverse=True)[1].reshape(-1)


def _cell(values: np.ndarray, loss: np.ndarray, tolerance: float) -> Cell:
    near = loss <= loss.min() * (1.0 + tolerance)
    best = values[np.argmin(loss)]
    edge = []
    for name, column in (("learning rate", 2), ("batch", 3)):
        tried = values[:, column]
        if best[column] in (tried.min(), tried.max()):
            edge.append(name)
    rate, batch = np.exp(np.log(values[near, 2:]).mean(axis=0))
    return Cell(
        float(best[0]), float(best[1]), float(rate), float(batch), float(loss.min()), len(loss), int(near.sum()),
        tuple(edge),
    )  # fmt: skip


def _warnings(cells: tuple[Cell, ...], rate_law: Fit, batch_law: Fit, with_size: Fit) -> list[str]:
    warnings = list(dict.fromkeys([*rate_law.warnings, *batch_law.warnings]))
    for name in ("learning rate", "batch"):
        at_edge = [cell for cell in cells if name in cell.edge]
        if at_edge:
            shown = ", ".join(f"N={cell.params:.3g} D={cell.tokens:.3g}" for cell in at_edge[:4])
            more = f" and {len(at_edge) - 4} more" if len(at_edge) > 4 else ""
            warnings.append(
                f"the best {name} is the least or the greatest tried (the edge of the grid) for {shown}{more}"
            )
    low, high = with_size.intervals.get("exponent_N", (-1.0, 1.0))
    if low > 0 or high < 0:
        warnings.append(
            f"the best batch moves with N too: exponent {with_size.parameters['exponent_N']:.3f}"
            f" [{low:.3f}, {high:.3f}] beside D's; the law leaves it out"
        )
    return warnings
