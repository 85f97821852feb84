"""What every law does with its data first, and says of a loss's estimates last."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from triarch.errors import UserError
from triarch.scaling.fitting.result import Fit
from triarch.scaling.laws.power_sum import TERMS

# An offset below this share of the least loss has run to its bound, 0.
OFFSET_AT_BOUND = 1e-4


def checked(columns: Sequence, loss, names: Sequence[str], fewest: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns inputs float64[points, T] and losses float64[points]; raises UserError on what no law can be fitted."""
    loss = np.asarray(loss, np.float64).ravel()
    arrays = [np.asarray(column, np.float64).ravel() for column in columns]
    for name, array in zip((*names[: len(arrays)], "loss"), (*arrays, loss), strict=True):
        if len(array) != len(loss):
            raise UserError(f"{name} has {len(array)} values, loss has {len(loss)}")
        bad = np.flatnonzero(~(np.isfinite(array) & (array > 0)))
        if len(bad):
            raise UserError(f"{name}, row {bad[0] + 1}: {array[bad[0]]}, expected a number above zero")
    values = np.stack(arrays, axis=1)
    distinct = len(np.unique(values, axis=0)) if len(values) else 0
    if distinct < fewest:
        what = " and ".join(names[: len(arrays)])
        raise UserError(
            f"{distinct} different points of {what}: a law with {fewest} parameters needs at least {fewest}"
        )
    return values, loss


def check_varies(values: np.ndarray, names: Sequence[str]) -> None:
    for name, column in zip(names, values.T, strict=True):
        if len(np.unique(column)) < 2:
            raise UserError(f"{name} is {column[0]:g} in every row: its exponent cannot be told from the offset E")


def doubts(fit: Fit) -> list[str]:
    """Returns what the estimates and intervals of a law of the loss do not show."""
    warnings, least = [], float(fit.target.min())
    exponents = [(scale, exponent) for scale, exponent in TERMS if exponent in fit.parameters]
    for scale, exponent in exponents:
        value = fit.parameters[exponent]
        if value <= 0:
            warnings.append(f"{exponent} is {value:.3g}: the loss does not fall along this input")
        elif value > 2:
            warnings.append(
                f"{exponent} is {value:.3g}, outside the grid of starts (0 to 2): {scale} and {exponent} are unsure"
            )
    if fit.offset_fitted and "E" not in fit.fixed and fit.parameters["E"] < OFFSET_AT_BOUND * least:
        warnings.append("the offset E is at its bound 0: these data do not identify it")
    low, high = fit.intervals.get("E", (least, least))
    if low < 0.02 * least and high > OFFSET_AT_BOUND * least:
        warnings.append(
            f"the offset E is weakly identified: its interval reaches from about 0 up to {high:.3g};"
            " the exponents depend on it"
        )
    for _, exponent in exponents:
        low, high = fit.intervals.get(exponent, (1.0, 1.0))
        if low <= 0 < high:
            warnings.append(f"the interval of {exponent} holds 0: that the loss falls along this input is not shown")
    return warnings
