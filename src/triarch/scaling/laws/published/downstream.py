"""Accuracy on a task against loss: a sigmoid, flat at guessing, flat at the best one can do."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy

from triarch.errors import UserError
from triarch.scaling.fitting.curve_objective import CurveObjective
from triarch.scaling.fitting.estimate import estimate
from triarch.scaling.fitting.form import Form
from triarch.scaling.fitting.options import DEFAULTS, FitOptions
from triarch.scaling.fitting.problem import Bounded, Coordinate, Problem
from triarch.scaling.fitting.result import Fit
from triarch.scaling.laws.checked import checked
from triarch.scaling.laws.law import setting
from triarch.scaling.laws.parametric import ParametricLaw
from triarch.scaling.tables.columns import Columns
from triarch.scaling.tables.roles import LOSS, Y

# Unlike an optimum, an accuracy may be 0.
ACCURACY = dataclasses.replace(Y, positive=False)

# Of the Huber loss, in accuracy: about the sampling error of a benchmark of 2,000 questions.
ACCURACY_DELTA = 0.01
# A fitted ceiling above this share of right answers has run to its bound.
HIGHEST_CEILING = 0.999


@dataclasses.dataclass(frozen=True)
class Sigmoid(Form):
    """accuracy = floor + (ceiling - floor) / (1 + exp(k (loss - midpoint))), as in Llama 3 (arXiv 2407.21783, 3.2.1)
    and the OLMo ladder (arXiv 2412.04403, eq. 3).

    Attributes:
      inputs: the name of the loss.
      floor: accuracy of guessing; given, not fitted. The ceiling lies between it and 1.
    """

    inputs: tuple[str]
    floor: float = 0.0

    law = "downstream"
    names = ("ceiling", "k", "midpoint")
    output = "accuracy"
    log_target = False
    delta = ACCURACY_DELTA

    @property
    def limits(self) -> dict[str, tuple[float, float]]:
        return {"ceiling": (self.floor, 1.0)}

    def problem(self, values: np.ndarray, target: np.ndarray, delta: float) -> Problem:
        """theta = [logit of the ceiling between floor and 1, log(k scale), midpoint], the loss centred and scaled."""
        loss = values[:, 0]
        centre, scale = float(np.median(loss)), float(np.ptp(loss)) or 1.0
        room = 1.0 - self.floor
        z = (loss - centre) / scale

        def curve(theta: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
            reached, steepness = scipy.special.expit(theta[:, 0, None]), np.exp(theta[:, 1, None])
            height = room * reached
            distance = z - theta[:, 2, None]
            # tanh keeps from overflow what exp would not.
            share = 0.5 * (1.0 - np.tanh(0.5 * steepness * distance))
            slope = height * share * (1.0 - share) * steepness
            return self.floor + height * share, [height * (1.0 - reached) * share, -slope * distance, slope]

        unit = np.eye(3)
        coordinates = (
            Bounded("ceiling", unit[0], 0, low=self.floor, high=1.0),
            Coordinate("k", unit[1], 1, -np.log(scale), log=True),
            Coordinate("midpoint", scale * unit[2], 2, centre),
        )
        top = min(max(float(target.max()) - self.floor, 0.05) / room, 0.99)
        grid = itertools.product(
            scipy.special.logit([top, 0.5 * (1.0 + top), 0.999]),
            np.log([1.0, 3.0, 8.0, 20.0]),
            [-1.0, -0.5, 0.0, 0.5],
        )
        return Problem(CurveObjective(curve, target, 3, delta), np.array(list(grid)), coordinates)

    def predict(self, parameters: Mapping[str, Any], inputs: Sequence[np.ndarray | float] | np.ndarray) -> np.ndarray:
        """Returns the accuracy at a loss."""
        p = parameters
        exponent = p["k"] * (np.asarray(inputs[0], np.float64) - p["midpoint"])
        return np.asarray(self.floor + (p["ceiling"] - self.floor) * 0.5 * (1.0 - np.tanh(0.5 * exponent)))

    def formula(self, parameters: Mapping[str, float], digits: int) -> str:
        """Returns the law with its numbers."""
        p = {name: f"{value:.{digits}g}" for name, value in parameters.items()}
        height = f"{parameters['ceiling'] - self.floor:.{digits}g}"
        floor = f"{self.floor:.{digits}g} + " if self.floor else ""
        return f"{floor}{height} / (1 + exp({p['k']} ({self.inputs[0]} - {p['midpoint']})))"

    def at_bounds(self, parameters: Mapping[str, float], fixed: Mapping[str, object]) -> list[str]:
        """Returns a warning for a ceiling of 1."""
        if "ceiling" in fixed or parameters["ceiling"] <= HIGHEST_CEILING:
            return []
        return ["the ceiling is at its bound of 1: these accuracies do not show it; --fixed=ceiling=1 holds it"]

    def data_warnings(self, loss: np.ndarray, accuracy: np.ndarray) -> list[str]:
        """Returns what such accuracies cannot show."""
        warnings = []
        above = accuracy - self.floor
        if above.max() < 0.05:
            warnings.append("no accuracy is more than 0.05 above the floor: the sigmoid is not identified")
        below = int(np.sum(above < -0.02))
        if below:
            warnings.append(f"{below} accuracies lie more than 0.02 below the floor {self.floor:g}: is it right?")
        if np.corrcoef(loss, accuracy)[0, 1] > 0:
            warnings.append("accuracy rises with loss: no sigmoid of this kind describes it")
        return warnings


@dataclasses.dataclass(frozen=True)
class Downstream(ParametricLaw):
    """Accuracy on a task against loss."""

    name = "downstream"
    text = "accuracy = floor + (ceiling - floor) / (1 + exp(k (loss - midpoint)))"
    needs = (LOSS, ACCURACY)

    floor: float = setting(0.0, "downstream: accuracy of guessing (default: 0)", metavar="ACCURACY")

    def form(self, columns: Columns) -> Sigmoid:
        """Returns the sigmoid above the floor."""
        return Sigmoid((columns.names["loss"],), self.floor)

    def fit(self, columns: Columns, options: FitOptions) -> Fit:
        """Fits the law: see `fit_downstream`."""
        v, names = columns.values, (columns.names["loss"], columns.names["y"])
        return fit_downstream(v["loss"], v["y"], options, floor=self.floor, inputs=names)


def fit_downstream(
    loss: np.ndarray,
    accuracy: np.ndarray,
    options: FitOptions = DEFAULTS,
    *,
    floor: float = 0.0,
    inputs: tuple[str, str] = ("loss", "accuracy"),
) -> Fit:
    """Fits accuracy = floor + (ceiling - floor) / (1 + exp(k (loss - midpoint))).

    Args:
      loss: float[points], above zero.
      accuracy: float[points], shares between 0 and 1.
      options: how; `ceiling` may be held fixed, for one.
      floor: accuracy of guessing.
      inputs: what the two are called in messages.

    Raises:
      UserError: fewer different losses than parameters, an accuracy outside 0 to 1, or bad values.
    """
    if not 0.0 <= floor < 1.0:
        raise UserError(f"floor is {floor:g}, expected an accuracy from 0 to below 1")
    form = Sigmoid((inputs[0],), floor)
    accuracy = np.asarray(accuracy, np.float64).ravel()
    bad = np.flatnonzero(~((accuracy >= 0) & (accuracy <= 1)))
    if len(bad):
        raise UserError(
            f"{inputs[1]}, row {bad[0] + 1}: {accuracy[bad[0]]:g}, expected a share from 0 to 1 (percentages: divide by"
            " 100, as --y_unit=0.01 does)"
        )
    values, _ = checked([loss], np.ones(len(accuracy)), inputs, len(form.names) - len(options.fixed))
    return estimate(form, values, accuracy, options, warnings=form.data_warnings(values[:, 0], accuracy))
