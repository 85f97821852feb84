"""Held-out error: a law fitted without the largest runs, asked to predict them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from triarch.errors import UserError
from triarch.scaling.fitting.estimate import minimum
from triarch.scaling.fitting.form import Form
from triarch.scaling.fitting.result import Fit

SHARE = 0.2


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """How a law fitted to the smaller runs predicts the larger ones.

    Attributes:
      rows: indices of the rows held out.
      by: the input whose largest values were held out.
      cut: the largest value of it that was fitted.
      reach: the largest value held out, over the cut.
      parameters: of the law without those rows.
      residual: float64[rows], observed minus predicted, of logarithms (of accuracies where the law is of accuracy).
      rms, bias, worst: root mean square, mean and largest size of those residuals.
      rms_fitted: root mean square over the rows fitted.
    """

    rows: tuple[int, ...]
    by: str
    cut: float
    reach: float
    parameters: dict[str, float]
    residual: np.ndarray
    rms: float
    bias: float
    worst: float
    rms_fitted: float

    def to_json(self, numbers: Sequence[int]) -> dict[str, object]:
        """Returns the numbers; `numbers` says how messages call each row."""
        return {
            "rows": [numbers[row] for row in self.rows],
            "by": self.by,
            "largest_fitted": self.cut,
            "reach": self.reach,
            "parameters": self.parameters,
            "rms": self.rms,
            "bias": self.bias,
            "worst": self.worst,
            "rms_fitted": self.rms_fitted,
        }


def largest_rows(column: np.ndarray, share: float = SHARE) -> np.ndarray:
    """Returns the rows with the largest values: whole levels from the top, until there are `share` of all rows.

    Raises:
      UserError: there is one level only, or the share is not between 0 and 1.
    """
    if not 0.0 < share < 1.0:
        raise UserError(f"held-out share is {share:g}, expected a number between 0 and 1, such as 0.2")
    levels = np.unique(column)
    if len(levels) < 2:
        raise UserError("one value only: nothing larger to hold out")
    held = np.zeros(len(column), bool)
    for level in levels[:0:-1]:
        held |= column == level
        if held.mean() >= share:
            break
    return np.flatnonzero(held)


def held_out(fit: Fit, share: float = SHARE, by: int = 0) -> HeldOut | None:
    """Fits the law again without the rows of the largest values of input number `by`; None where too few are left."""
    column = fit.values[:, by]
    rows = largest_rows(column, share)
    return predict_rows(fit.form, fit.values, fit.target, rows, fit.inputs[by], column, fit.delta, fit.fixed)


def predict_rows(
    form: Form,
    values: np.ndarray,
    target: np.ndarray,
    rows: np.ndarray,
    by: str,
    column: np.ndarray,
    delta: float,
    fixed: Mapping[str, float | str],
) -> HeldOut | None:
    """Fits a form without some rows and predicts these; None where too few different points are left to fit.

    Args:
      form: the law.
      values: float64[points, T], its inputs.
      target: float64[points].
      rows: int[held], the rows left out.
      by: what they were chosen by.
      column: float64[points], its values.
      delta: of the Huber loss.
      fixed: parameters held at given values.
    """
    kept = np.setdiff1d(np.arange(len(target)), rows)
    needed = len(form.names) - len(form.constants) - len(fixed)
    enough = len(np.unique(values[kept], axis=0)) >= max(needed, 2)
    # An input with one value left has no exponent; if everything is held fixed, none is wanted.
    varies = all(len(np.unique(own)) > 1 for own in values[kept].T) or not needed
    if not enough or not varies:
        return None
    parameters = minimum(form, values[kept], target[kept], delta, fixed)
    residual = form.residuals(parameters, values, target)
    outside = residual[rows]
    return HeldOut(
        rows=tuple(int(row) for row in rows),
        by=by,
        cut=float(column[kept].max()),
        reach=float(column.max() / column[kept].max()),
        parameters=parameters,
        residual=outside,
        rms=float(np.sqrt(np.mean(outside**2))),
        bias=float(np.mean(outside)),
        worst=float(np.abs(outside).max()),
        rms_fitted=float(np.sqrt(np.mean(residual[kept] ** 2))),
    )
