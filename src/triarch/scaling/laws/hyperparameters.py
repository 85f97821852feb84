"""The best learning rate and batch against size and data: Step Law (Li et al. 2025, arXiv 2503.04715)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from triarch.errors import UserError
from triarch.scaling.fitting.result import Fit
from triarch.scaling.laws.log_linear import fit_log_linear
from triarch.scaling.laws.losses import checked

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
class Hyperparameters:
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
        both = (("learning_rate", self.learning_rate), ("batch", self.batch))
        return {
            "law": "hyperparameters",
            "parameters": {f"{what}_{name}": value for what, fit in both for name, value in fit.parameters.items()},
            "intervals": {f"{what}_{name}": list(pair) for what, fit in both for name, pair in fit.intervals.items()},
            "objective": self.learning_rate.objective + self.batch.objective,
            "num_points": self.num_points,
            "formula": f"learning rate = {self.learning_rate.formula(4)}, batch = {self.batch.formula(4)}",
            "confidence": self.learning_rate.confidence,
            "bootstraps": self.learning_rate.bootstraps,
            "seed": self.learning_rate.seed,
            "tolerance": self.tolerance,
            "cells": [dataclasses.asdict(cell) for cell in self.cells],
            "warnings": list(self.warnings),
        }


def fit_hyperparameters(
    params: np.ndarray,
    tokens: np.ndarray,
    learning_rate: np.ndarray,
    batch: np.ndarray,
    loss: np.ndarray,
    *,
    tolerance: float = TOLERANCE,
    bootstraps: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    weights: np.ndarray | None = None,
) -> Hyperparameters:
    """Fits the laws by least squares in logarithms through each cell's optimum.

    A cell (N, D) counts once, at the mean logarithms of its runs near the optimum, and the bootstrap resamples cells:
    its runs share what made their grid (a bootstrap over runs takes them for independent and is far too narrow).

    Args:
      params, tokens, learning_rate, batch, loss: float[points], each above zero; the batch in any unit.
      tolerance: how far above its cell's least loss a run may be, as a share; 0 takes the best run alone.
      bootstraps, confidence, seed: of the intervals.
      weights: float64[bootstraps, cells], resamples of the cells, by N and then by D, drawn elsewhere (pairs).

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
    options = {"bootstraps": bootstraps, "confidence": confidence, "seed": seed, "weights": weights}
    rate_law = fit_log_linear([n, d], rate, inputs=("N", "D"), output="learning rate", **options)
    batch_law = fit_log_linear([d], size, inputs=("D",), output="batch", **options)
    with_size = fit_log_linear([n, d], size, inputs=("N", "D"), output="batch", **options)
    warnings = _warnings(cells, rate_law, batch_law, with_size)
    return Hyperparameters(rate_law, batch_law, cells, tolerance, len(loss), tuple(warnings))


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
