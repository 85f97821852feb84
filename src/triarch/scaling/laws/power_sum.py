"""Sums of powers and an offset, the form of the power law and of Chinchilla's."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from triarch.scaling.fitting.form import Form
from triarch.scaling.fitting.objective import HuberObjective
from triarch.scaling.fitting.problem import Coordinate, Problem

TERMS = (("A", "alpha"), ("B", "beta"))

# Where Hoffmann's grid of starts is meant to stand: about the geometric mean of the parameters, tokens and losses of
# the runs it was made for. Data are shifted here before the grid is laid, so that no unit can matter.
REFERENCE_LOG_INPUTS = np.log([1e9, 2e10])
REFERENCE_LOG_LOSS = np.log(2.5)


@dataclasses.dataclass(frozen=True)
class PowerSum(Form):
    """L(x_1, ..., x_T) = E + sum_k A_k / x_k^alpha_k with T = 1 (a power law) or 2 (Chinchilla's).

    With T = 2 the starts are the 4,500 of Hoffmann et al. 2022 (arXiv 2203.15556), section D.3; without an offset the
    900 of them that differ.

    Attributes:
      inputs: names of the inputs, one or two.
      offset: whether E is fitted; otherwise it is 0.
    """

    inputs: tuple[str, ...]
    offset: bool = True

    @property
    def law(self) -> str:
        return "chinchilla" if len(self.inputs) == 2 else "power"

    @property
    def names(self) -> tuple[str, ...]:
        return ("E", "A", "B", "alpha", "beta") if len(self.inputs) == 2 else ("A", "alpha", "E")

    @property
    def constants(self) -> dict[str, float]:
        return {} if self.offset else {"E": 0.0}

    def problem(self, values: np.ndarray, target: np.ndarray, delta: float) -> Problem:
        """Centres logarithms, so that scales and exponents are nearly uncorrelated."""
        log_inputs, log_loss = np.log(values), np.log(target)
        centre, level = log_inputs.mean(axis=0), log_loss.mean()
        objective = HuberObjective(log_inputs - centre, log_loss - level, self.offset, delta)
        return Problem(objective, self._starts(objective), self._coordinates(centre, level))

    def predict(self, parameters: Mapping[str, Any], inputs: Sequence[np.ndarray | float] | np.ndarray) -> np.ndarray:
        """Returns the loss."""
        loss = parameters["E"]
        for (scale, exponent), values in zip(TERMS, inputs, strict=False):
            loss = loss + parameters[scale] * np.asarray(values, np.float64) ** (-1.0 * parameters[exponent])
        return np.asarray(loss)

    def formula(self, parameters: Mapping[str, float], digits: int) -> str:
        """Returns "1.69 + 406 / N^0.339 + 411 / D^0.285"."""
        parts = [f"{parameters['E']:.{digits}g}"] if self.offset else []
        for (scale, exponent), name in zip(TERMS, self.inputs, strict=False):
            parts.append(f"{parameters[scale]:.{digits}g} / {name}^{parameters[exponent]:.{digits}g}")
        return " + ".join(parts)

    def exponents(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Returns beta and alpha over their sum, for N and D, where there are two inputs (Hoffmann et al., eq. 4)."""
        if len(self.inputs) == 1:
            return {}
        total = parameters["alpha"] + parameters["beta"]
        return {"N": parameters["beta"] / total, "D": parameters["alpha"] / total}

    def as_published(self, values: np.ndarray, target: np.ndarray, delta: float) -> Problem | None:
        """Poses the law of two inputs as Hoffmann et al. did."""
        if len(self.inputs) == 1 or not self.offset:
            return None
        objective = HuberObjective(np.log(values), np.log(target), True, delta)
        return Problem(objective, hoffmann_grid(), self._coordinates(np.zeros(2), 0.0))

    def _coordinates(self, centre: np.ndarray, level: float) -> tuple[Coordinate, ...]:
        terms = len(centre)
        unit = np.eye(2 * terms + self.offset)
        found = {}
        for k, (scale, exponent) in enumerate(TERMS[:terms]):
            found[scale] = Coordinate(scale, unit[k] + centre[k] * unit[terms + k], k, level, log=True)
            found[exponent] = Coordinate(exponent, unit[terms + k], terms + k)
        if self.offset:
            found["E"] = Coordinate("E", unit[-1], 2 * terms, level, log=True)
        return tuple(found[name] for name in self.names if name in found)

    def _starts(self, objective: HuberObjective) -> np.ndarray:
        if len(self.inputs) == 2:
            starts = hoffmann_grid()
            starts[:, :2] -= starts[:, 2:4] * REFERENCE_LOG_INPUTS + REFERENCE_LOG_LOSS
            starts[:, 4] -= REFERENCE_LOG_LOSS
            return starts if self.offset else np.unique(starts[:, :4], axis=0)
        return _power_starts(objective)


def hoffmann_grid() -> np.ndarray:
    """Returns the published starts, float64[4500, 5]: log A, log B, alpha, beta, log E."""
    steps, exponents = np.arange(0.0, 30.0, 5.0), np.arange(0.0, 2.5, 0.5)
    return np.array(list(itertools.product(steps, steps, exponents, exponents, np.arange(-1.0, 1.5, 0.5))))


def _power_starts(objective: HuberObjective) -> np.ndarray:
    least = np.exp(objective.log_loss.min())
    shares = [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97] if objective.offset else [0.0]
    exponents = [0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0]
    # The mean log loss is 0 here: whatever the offset leaves of a loss of 1 is the power's.
    grid = [(np.log(1.0 - e * least), alpha, e * least) for e, alpha in itertools.product(shares, exponents)]
    starts = np.array(grid)
    return np.column_stack([starts[:, :2], np.log(starts[:, 2])]) if objective.offset else starts[:, :2]
