"""BFGS for thousands of small problems at once, and a Newton polish for one."""

from __future__ import annotations

import dataclasses

import numpy as np

from triarch.scaling.fitting.problem import FitObjective

ARMIJO = 1e-4
CURVATURE = 0.9
SMALLEST_STEP = 1e-14
# A problem that has not gained this fraction of its value within so many evaluations is given up: it runs along a
# valley to infinity (a term that vanishes), or has met rounding error.
LEAST_GAIN = 1e-9
PATIENCE = 40
# Added to the metric that an objective begins with, of which the diagonal is 1; and how far its first step may reach.
RIDGE = 1e-6
LONGEST_FIRST = 2.0


@dataclasses.dataclass(frozen=True)
class Minima:
    """Where each problem ended.

    Attributes:
      theta: float64[problems, parameters].
      value: float64[problems].
      gradient_norm: float64[problems], the largest component's size.
    """

    theta: np.ndarray
    value: np.ndarray
    gradient_norm: np.ndarray


def minimize(
    objective: FitObjective,
    starts: np.ndarray,
    weights: np.ndarray | None = None,
    noise: np.ndarray | None = None,
    *,
    tolerance: float = 1e-7,
    max_evaluations: int = 1000,
) -> Minima:
    """Minimises the objective from every start, each with its own inverse Hessian and line search.

    The line search brackets by bisection until the weak Wolfe conditions hold, which BFGS needs on functions with kinks
    (Lewis and Overton 2013, Algorithm 2.6); a Huber loss with a small delta all but has them.

    Args:
      objective: what to minimise.
      starts: float64[problems, parameters].
      weights: float64[problems, points], each problem's own weight of the points; None for one each.
      noise: float64[problems, points], what is added to each problem's own target; None for nothing.
      tolerance: a problem is done when no component of its gradient is larger.
      max_evaluations: most evaluations of a problem, which is then left as it is.
    """

    def evaluate(theta: np.ndarray, problems: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        own = (None if one is None else one[problems] for one in (weights, noise))
        return objective.value_and_gradient(theta, *own)

    count, size = starts.shape
    theta = starts.astype(np.float64, copy=True)
    value, gradient = evaluate(theta, np.arange(count))
    metric = objective.metric(theta)
    inverse = np.broadcast_to(np.eye(size), (count, size, size)).copy() if metric is None else _inverse(metric)
    fresh = np.full(count, metric is None)
    direction = -np.einsum("fpq,fq->fp", inverse, gradient)
    longest = np.abs(gradient).sum(axis=1) if metric is None else np.abs(direction).max(axis=1) / LONGEST_FIRST
    step = 1.0 / np.maximum(1.0, longest)
    low, high = np.zeros(count), np.full(count, np.inf)
    active = np.flatnonzero(np.abs(gradient).max(axis=1) > tolerance)
    milestone = value.copy()
    for evaluation in range(1, max_evaluations + 1):
        if not len(active):
            break
        trial = theta[active] + step[active, None] * direction[active]
        trial_value, trial_gradient = evaluate(trial, active)
        slope = np.einsum("fp,fp->f", gradient[active], direction[active])
        trial_slope = np.einsum("fp,fp->f", trial_gradient, direction[active])
        too_far = ~(trial_value <= value[active] + ARMIJO * step[active] * slope)
        too_near = ~too_far & (trial_slope < CURVATURE * slope)
        high[active[too_far]] = step[active[too_far]]
        low[active[too_near]] = step[active[too_near]]
        taken = ~too_far & ~too_near
        moved = active[taken]
        _update(inverse, fresh, moved, trial[taken] - theta[moved], trial_gradient[taken] - gradient[moved])
        theta[moved], value[moved], gradient[moved] = trial[taken], trial_value[taken], trial_gradient[taken]
        direction[moved] = -np.einsum("fpq,fq->fp", inverse[moved], gradient[moved])
        low[moved], high[moved], step[moved] = 0.0, np.inf, 1.0
        searching = active[~taken]
        bracketed = np.isfinite(high[searching])
        step[searching] = np.where(bracketed, 0.5 * (low[searching] + high[searching]), 2.0 * step[searching])
        stuck = (step[active] < SMALLEST_STEP) | (step[active] > 1e12)
        done = np.abs(gradient[active]).max(axis=1) <= tolerance
        active = active[~(stuck | done)]
        if evaluation % PATIENCE == 0:
            gaining = milestone[active] - value[active] > LEAST_GAIN * milestone[active]
            milestone[active] = value[active]
            active = active[gaining]
    return Minima(theta, value, np.abs(gradient).max(axis=1))


def _inverse(metric: np.ndarray) -> np.ndarray:
    """Returns the inverse of each matrix; directions that it does not measure are as long as the rest."""
    size = np.arange(metric.shape[1])
    diagonal = np.nan_to_num(metric[:, size, size], nan=1.0, posinf=1.0)
    scale = np.sqrt(np.maximum(diagonal, 1e-12 * np.maximum(diagonal.max(axis=1, keepdims=True), 1e-300)))
    whole = np.isfinite(metric).all(axis=(1, 2))
    scaled = np.where(whole[:, None, None], metric / (scale[:, :, None] * scale[:, None, :]), 0.0)
    scaled[:, size, size] += np.where(whole, RIDGE, 1.0)[:, None]
    return np.linalg.inv(scaled) / (scale[:, :, None] * scale[:, None, :])


def _update(inverse: np.ndarray, fresh: np.ndarray, rows: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
    """Updates inverse Hessians in place: Nocedal and Wright, eq. 6.17; the first time scaled by eq. 6.20."""
    curvature = np.einsum("fp,fp->f", s, y)
    useful = curvature > 1e-300
    rows, s, y, curvature = rows[useful], s[useful], y[useful], curvature[useful]
    if not len(rows):
        return
    first = rows[fresh[rows]]
    inverse[first] *= (curvature / np.einsum("fp,fp->f", y, y))[fresh[rows], None, None]
    fresh[rows] = False
    matrix = inverse[rows]
    product = np.einsum("fpq,fq->fp", matrix, y)
    scale = (1.0 + np.einsum("fp,fp->f", y, product) / curvature) / curvature
    cross = np.einsum("fp,fq->fpq", s, product)
    cross += cross.transpose(0, 2, 1).copy()
    cross /= curvature[:, None, None]
    matrix += scale[:, None, None] * np.einsum("fp,fq->fpq", s, s)
    matrix -= cross
    inverse[rows] = matrix


def polish(objective: FitObjective, theta: np.ndarray, *, max_steps: int = 100) -> np.ndarray:
    """Brings one minimum to rounding error by damped Newton steps; never returns a worse point than it was given."""
    value, gradient = objective.value_and_gradient(theta[None])
    damping = 0.0
    for _ in range(max_steps):
        values, vectors = np.linalg.eigh(objective.hessian(theta))
        if not np.abs(values).max() > 0:  # Flat in every direction: as in a curve that has run to a bound.
            break
        # A negative eigenvalue is mirrored, so that the step goes downhill; a zero one is bounded.
        scales = np.maximum(np.abs(values), 1e-12 * np.abs(values).max()) + damping
        trial = theta - vectors @ ((vectors.T @ gradient[0]) / scales)
        trial_value, trial_gradient = objective.value_and_gradient(trial[None])
        if trial_value[0] < value[0]:
            theta, value, gradient = trial, trial_value, trial_gradient
            damping = 0.0 if damping < 1e-8 else damping * 0.1
        else:
            damping = max(10.0 * damping, 1e-9 * np.abs(values).max())
            if damping > 1e6 * np.abs(values).max():
                break
    return theta
