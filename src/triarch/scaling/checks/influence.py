"""Rows that stand apart: which of them move the estimates, and which the law misses by far."""

from __future__ import annotations

import dataclasses

import numpy as np

from triarch.scaling.fitting import bfgs
from triarch.scaling.fitting.result import Fit

# A row is influential if leaving it out moves an estimate by this many of its standard errors ...
INFLUENTIAL = 1.0
# ... and an outlier if the law misses it by this many robust standard deviations of the residuals.
OUTLYING = 6.0
MAX_ROWS = 2000


@dataclasses.dataclass(frozen=True)
class Influence:
    """What each row does to a fit.

    Attributes:
      names: the fitted parameters.
      shift: float64[points, parameters], the estimate with the row minus the one without it, in bootstrap standard
        errors (robust ones: half the middle 68 %).
      residual: float64[points], observed minus predicted.
      spread: robust standard deviation of the residuals (1.4826 times their median size).
      influential: indices of rows whose largest shift is above INFLUENTIAL, the largest first.
      outlying: indices of rows whose residual is above OUTLYING spreads, the largest first.
    """

    names: tuple[str, ...]
    shift: np.ndarray
    residual: np.ndarray
    spread: float
    influential: tuple[int, ...]
    outlying: tuple[int, ...]


def influence(fit: Fit) -> Influence:
    """Refits without each row in turn (the jackknife), from the minimum of all rows.

    Without bootstraps, or beyond MAX_ROWS rows, shifts are left at zero.
    """
    names = tuple(fit.intervals)
    points = fit.num_points
    shift = np.zeros((points, len(names)))
    if names and points <= MAX_ROWS:
        problem = fit.form.problem(fit.values, fit.target, fit.delta).pin(fit.fixed)
        weights = 1.0 - np.eye(points)
        without = problem.parameters(bfgs.minimize(problem.objective, np.tile(fit.theta, (points, 1)), weights).theta)
        for k, name in enumerate(names):
            low, high = np.percentile(fit.samples[name], [16, 84])
            shift[:, k] = (fit.parameters[name] - without[name]) / max(0.5 * (high - low), 1e-300)
    residual = fit.residuals()
    spread = 1.4826 * float(np.median(np.abs(residual)))
    size = np.abs(shift).max(axis=1, initial=0.0)
    distance = np.abs(residual) / max(spread, 1e-12)
    return Influence(
        names, shift, residual, spread, _above(size, INFLUENTIAL), _above(distance, OUTLYING) if points > 5 else ()
    )


def _above(size: np.ndarray, limit: float) -> tuple[int, ...]:
    order = np.argsort(-size, kind="stable")
    return tuple(int(row) for row in order if size[row] > limit)
