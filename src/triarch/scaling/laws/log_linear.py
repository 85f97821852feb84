"""Products of powers by least squares in logarithms: how an optimum moves with compute, size or data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from triarch.errors import UserError
from triarch.scaling.fitting.curve_objective import CurveObjective
from triarch.scaling.fitting.estimate import estimate
from triarch.scaling.fitting.form import Form
from triarch.scaling.fitting.options import DEFAULTS, FitOptions
from triarch.scaling.fitting.problem import Coordinate, Problem
from triarch.scaling.fitting.result import Fit
from triarch.scaling.laws.checked import checked
from triarch.scaling.laws.parametric import ParametricLaw
from triarch.scaling.tables.columns import Columns
from triarch.scaling.tables.roles import X, Y


@dataclasses.dataclass(frozen=True)
class ProductOfPowers(Form):
    """y = coefficient * prod_k x_k^exponent_k.

    Attributes:
      inputs: names of the inputs.
      output: the name of y.
    """

    inputs: tuple[str, ...]
    output: str = "y"

    law = "log_linear"
    delta = math.inf

    @property
    def names(self) -> tuple[str, ...]:
        if len(self.inputs) == 1:
            return ("coefficient", "exponent")
        return ("coefficient", *(f"exponent_{name}" for name in self.inputs))

    def problem(self, values: np.ndarray, target: np.ndarray, delta: float) -> Problem:
        """theta = [log coefficient, exponents], logarithms centred; the one start is the least-squares solution."""
        log_inputs, log_target = np.log(values), np.log(target)
        centre, level = log_inputs.mean(axis=0), float(log_target.mean())
        design = np.column_stack([np.ones(len(target)), log_inputs - centre])

        def curve(theta: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
            return theta @ design.T, [column[None, :] for column in design.T]

        size = design.shape[1]
        objective = CurveObjective(curve, log_target - level, size, delta)
        unit = np.eye(size)
        vector = unit[0] - np.concatenate([[0.0], centre])
        coordinates = [Coordinate("coefficient", vector, 0, level, log=True)]
        coordinates += [Coordinate(name, unit[k], k) for k, name in enumerate(self.names[1:], start=1)]
        start = np.linalg.lstsq(design, log_target - level, rcond=None)[0]
        return Problem(objective, start[None], tuple(coordinates))

    def predict(self, parameters: Mapping[str, Any], inputs: Sequence[np.ndarray | float] | np.ndarray) -> np.ndarray:
        """Returns y."""
        value = parameters["coefficient"]
        for name, x in zip(self.names[1:], inputs, strict=True):
            value = value * np.asarray(x, np.float64) ** parameters[name]
        return np.asarray(value)

    def formula(self, parameters: Mapping[str, float], digits: int) -> str:
        """Returns "0.118 * C^0.497"."""
        powers = [f"{x}^{parameters[name]:.{digits}g}" for x, name in zip(self.inputs, self.names[1:], strict=True)]
        return " * ".join([f"{parameters['coefficient']:.{digits}g}", *powers])


@dataclasses.dataclass(frozen=True)
class LogLinear(ParametricLaw):
    """y = coefficient * x^exponent, of one or several inputs."""

    name = "log_linear"
    text = "y = coefficient * x^exponent, least squares in logarithms"
    needs = (X, Y)
    least_squares = True

    def form(self, columns: Columns) -> ProductOfPowers:
        """Returns the product of all inputs' powers."""
        return ProductOfPowers(tuple(columns.all("x")), columns.names["y"])

    def fit(self, columns: Columns, options: FitOptions) -> Fit:
        """Fits the law: see `fit_log_linear`."""
        inputs = columns.all("x")
        y = columns.values["y"]
        return fit_log_linear(list(inputs.values()), y, options, inputs=tuple(inputs), output=columns.names["y"])


def fit_log_linear(
    columns: Sequence[np.ndarray],
    y: np.ndarray,
    options: FitOptions = DEFAULTS,
    *,
    inputs: Sequence[str] = ("x",),
    output: str = "y",
) -> Fit:
    """Fits y = coefficient * prod_k x_k^exponent_k by ordinary least squares in logarithms.

    Args:
      columns: float[points] each, above zero.
      y: float[points], above zero.
      options: how.
      inputs, output: what the columns and y are called.

    Raises:
      UserError: fewer different points than parameters, an input with one value, or bad values.
    """
    form = ProductOfPowers(tuple(inputs), output)
    values, y = checked(columns, y, form.inputs, len(form.names) - len(options.fixed))
    for name, column in zip(form.inputs, values.T, strict=True):
        if len(np.unique(column)) < 2:
            raise UserError(f"{name} is {column[0]:g} in every row: it has no exponent")
    warnings = []
    if len(np.unique(values, axis=0)) == len(form.names):
        warnings.append(f"as many points as parameters ({len(form.names)}): the law passes through every point")
    leverage = _leverage(form, values, options.fixed)
    return estimate(form, values, y, options, warnings=warnings, leverage=leverage)


def _leverage(form: ProductOfPowers, values: np.ndarray, fixed: Mapping[str, object]) -> np.ndarray:
    """Returns the diagonal of the matrix that projects log y on what is fitted, float64[points]."""
    columns = [np.ones(len(values)), *np.log(values).T]
    design = np.column_stack([c for c, name in zip(columns, form.names, strict=True) if name not in fixed])
    basis, strength, _ = np.linalg.svd(design, full_matrices=False)
    return np.sum(basis[:, strength > 1e-10 * strength.max()] ** 2, axis=1)
