"""The form of a law: how it is posed over data, what it predicts, and how it is written."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from triarch.scaling.fitting.objective import DELTA
from triarch.scaling.fitting.problem import Problem

# How near a limit, as a share of what lies between the two, is at it.
NEAR_LIMIT = 1e-3


class Form(abc.ABC):
    """What a parametric law says, without data.

    Attributes:
      law: its name on the command line.
      inputs: what each input is called, for sentences and axes.
      names: its parameters, as they are written.
      constants: parameters that this form does not fit, with their values.
      output: what it predicts.
      log_target: whether residuals are differences of logarithms (losses) or of the values (accuracies).
      limits: the lowest and highest value of parameters that have both.
      delta: of the Huber loss, where the caller gives none; infinite for least squares.
    """

    law: str
    inputs: tuple[str, ...]
    names: tuple[str, ...]
    constants: Mapping[str, float] = {}
    output: str = "loss"
    log_target: bool = True
    limits: Mapping[str, tuple[float, float]] = {}
    delta: float = DELTA

    @abc.abstractmethod
    def problem(self, values: np.ndarray, target: np.ndarray, delta: float) -> Problem:
        """Poses the law over inputs float64[points, T] and what it predicts, float64[points]."""

    @abc.abstractmethod
    def predict(self, parameters: Mapping[str, Any], inputs: Sequence[np.ndarray | float] | np.ndarray) -> np.ndarray:
        """Returns the law's value; parameters and inputs broadcast together."""

    @abc.abstractmethod
    def formula(self, parameters: Mapping[str, float], digits: int) -> str:
        """Returns the law with its numbers."""

    def residuals(self, parameters: Mapping[str, Any], values: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Returns observed minus predicted, float64[points], of logarithms where the law is fitted to these."""
        predicted = self.predict(parameters, values.T)
        return np.log(target / predicted) if self.log_target else target - predicted

    def exponents(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the exponents of the best "N" and "D" in compute; empty for a law that has no compute optimum."""
        return {}

    def reached(self, intervals: Mapping[str, tuple[float, float]]) -> list[str]:
        """Returns a warning for each interval that reaches a limit of its parameter."""
        found = []
        for name, limits in self.limits.items():
            for end, limit in zip(intervals.get(name, ()), limits, strict=False):
                if abs(end - limit) <= NEAR_LIMIT * (limits[1] - limits[0]):
                    found.append(f"the interval of {name} reaches its bound of {limit:g}: it may lie anywhere up to it")
        return found

    def at_bounds(self, parameters: Mapping[str, float], fixed: Mapping[str, object]) -> list[str]:
        """Returns a warning for each parameter that has run to a bound of its own."""
        return []

    def as_published(self, values: np.ndarray, target: np.ndarray, delta: float) -> Problem | None:
        """Poses the law as published code does, from its starts and without centring; None where none is known."""
        return None
