"""Profile likelihood: how far each parameter can be pushed before the data object, the others adapting."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import scipy

from triarch.scaling.fitting import bfgs
from triarch.scaling.fitting.problem import Coordinate, Problem, pin_each
from triarch.scaling.fitting.result import Fit

# How far to look to either side, in standard deviations of the bootstrap.
REACH = np.array([0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.35, 2.8, 3.4, 4.2, 5.2, 7.0])
# Looked at in units of the posed problem, where 25 is a factor of 1e10 for a scale; then widened as often as this.
WIDEST, WIDENINGS = 25.0, 4
# Without a bootstrap: this share of the parameter's own coordinate is taken for a standard deviation.
BLIND_SHARE = 0.05
# A calibration beyond these bounds says that the residuals are too few to estimate it.
CALIBRATION = (0.7, 3.0)


@dataclasses.dataclass(frozen=True)
class Profile:
    """One parameter's profile.

    Attributes:
      name: of the parameter.
      values: float64[points], increasing, the estimate among them.
      deviance: float64[points], twice the fall of the log likelihood, calibrated: compare it with F(1, points less
        parameters).
      threshold: of the interval.
      interval: where the deviance stays below the threshold; None at a side where it does as far as was looked.
    """

    name: str
    values: np.ndarray
    deviance: np.ndarray
    threshold: float
    interval: tuple[float | None, float | None]


def profiles(fit: Fit) -> list[Profile]:
    """Returns the profile of every fitted parameter.

    The likelihood is that of the Huber density, exp(-Huber(r) / (delta s)) up to its norm, with the scale s profiled
    out (Besiroglu et al. 2024 fit the same). Residuals need not follow that density; the deviance is divided by the
    ratio that their score and curvature show (Kent 1982). As the scale of few residuals is itself uncertain, its
    reference is not chi-square(1) but the square of a Student t with as many degrees of freedom as residuals have.
    """
    problem = fit.form.problem(fit.values, fit.target, fit.delta).pin(fit.fixed)
    theta, points = fit.theta, fit.num_points
    least = float(problem.objective.value_and_gradient(theta[None])[0][0])
    freedom = max(points - problem.objective.num_parameters, 1)
    calibration = _calibration(fit, freedom)
    threshold = float(scipy.stats.t.ppf(0.5 + fit.confidence / 2.0, freedom) ** 2)
    found = []
    for coordinate in problem.coordinates:
        if coordinate.name in fit.fixed:
            continue
        centre = fit.parameters[coordinate.name]
        widest = WIDEST * abs(float(coordinate.vector[coordinate.lead]))
        scales = _scales(fit, coordinate, theta)
        for _ in range(WIDENINGS):
            linear, values = _places(coordinate, theta, scales)
            minima = _held(problem, coordinate, theta, linear)
            likelihood = np.array([_likeliest(value, points, fit.delta)[1] for value in (*minima, least)])
            fall = np.maximum(likelihood[-1] - likelihood[:-1], 0.0)
            deviance = 2.0 * fall * freedom / points / calibration
            order = np.argsort(values, kind="stable")
            values, deviance = values[order], deviance[order]
            below, above = (_crossing(values, deviance, threshold, centre, side) for side in (-1, 1))
            sides = below, above
            wider = [5.0 if side is None and scale < widest else 1.0 for side, scale in zip(sides, scales, strict=True)]
            if max(wider) == 1.0:
                break
            lower, upper = (min(scale * factor, widest) for scale, factor in zip(scales, wider, strict=True))
            scales = lower, upper
        found.append(Profile(coordinate.name, values, deviance, threshold, sides))
    return found


def _scales(fit: Fit, coordinate: Coordinate, theta: np.ndarray) -> tuple[float, float]:
    """Returns about a standard deviation of the coordinate's linear part, below and above."""
    best, unit = float(theta @ coordinate.vector), abs(float(coordinate.vector[coordinate.lead]))
    samples = fit.samples.get(coordinate.name)
    if samples is None:
        return (abs(best) * BLIND_SHARE + 1e-3 * unit,) * 2
    # A resample without an answer may lie anywhere; the middle of them is what gives the scale.
    low, high = (coordinate.linear(value) for value in np.percentile(samples, [16, 84]))
    least, most = 1e-9 * max(unit, abs(best)), WIDEST * unit
    return min(max(best - low, least), most), min(max(high - best, least), most)


def _places(coordinate: Coordinate, theta: np.ndarray, scales: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Returns where to look: the coordinate's linear part, and the parameter's values there."""
    best = float(theta @ coordinate.vector)
    linear = np.concatenate([best - scales[0] * REACH[::-1], [best], best + scales[1] * REACH])
    # Along its own entry of theta alone, the parameter is as wanted.
    probe = np.outer((linear - best) / coordinate.vector[coordinate.lead], np.eye(len(theta))[coordinate.lead]) + theta
    return linear, coordinate.read(probe)


def _held(problem: Problem, coordinate: Coordinate, theta: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Returns the least objective with the parameter held at each place, float64[places]."""
    objective, lead, change = pin_each(problem, coordinate)
    phi = np.linalg.solve(change, theta)
    middle = len(linear) // 2
    minima = np.empty(len(linear))
    # Outwards from the estimate, each place from its neighbour's minimum: both sides at once.
    front = {side: phi.copy() for side in (-1, 1)}
    minima[middle] = objective.value_and_gradient(phi[None])[0][0]
    for step in range(1, middle + 1):
        starts = np.stack([front[-1], front[1], phi, phi])
        places = [middle - step, middle + step, middle - step, middle + step]
        starts[:, lead] = linear[places]
        ended = bfgs.minimize(objective, starts)
        for side, first in ((-1, 0), (1, 1)):
            best = min((first, first + 2), key=lambda row: ended.value[row])
            front[side] = ended.theta[best]
            minima[middle + side * step] = ended.value[best]
    return minima


def _likeliest(objective: float, points: int, delta: float) -> tuple[float, float]:
    """Returns the scale s of the Huber density that residuals with this sum of losses (divided by delta) make
    likeliest, and their log likelihood there."""

    def negative(log_scale: float) -> float:
        scale = math.exp(log_scale)
        centre = math.sqrt(2 * math.pi * delta * scale) * scipy.special.erf(math.sqrt(delta / (2 * scale)))
        return objective / scale + points * math.log(centre + 2 * scale * math.exp(-delta / (2 * scale)))

    guess = math.log(max(objective, 1e-12 * delta) / points)
    best = scipy.optimize.minimize_scalar(negative, bounds=(guess - 12, guess + 12), method="bounded")
    return math.exp(best.x), -float(best.fun)


def _calibration(fit: Fit, freedom: int) -> float:
    """Returns E[psi^2] / (s E[psi']) of the residuals: 1 where they follow the Huber density, pi/2 if normal.

    A fit under a small delta passes through as many points as it has parameters: these residuals say nothing about how
    dense errors lie about zero, and are left out (they would make errors look denser, and intervals narrower).
    """
    residual = fit.residuals()
    kept = np.sort(np.abs(residual))[-freedom:]
    residual = residual[np.abs(residual) >= kept[0]][:freedom]
    spread = 1.4826 * float(np.median(np.abs(residual)))
    width = fit.delta + 0.8 * spread * freedom ** (-1 / 5)
    if spread == 0:
        return 1.0

    def score(shift: float) -> np.ndarray:
        return np.clip((residual + shift) / fit.delta, -1.0, 1.0)

    curvature = float(np.mean(score(width) - score(-width))) / (2 * width)
    total = float(np.sum(np.where(np.abs(residual) <= fit.delta, residual**2 / (2 * fit.delta),
                                  np.abs(residual) - fit.delta / 2)))  # fmt: skip
    scale = _likeliest(total, freedom, fit.delta)[0]
    ratio = float(np.mean(score(0.0) ** 2)) / max(scale * curvature, 1e-12)
    return float(np.clip(ratio, *CALIBRATION))


def _crossing(values: np.ndarray, deviance: np.ndarray, threshold: float, centre: float, side: int) -> float | None:
    """Returns where the deviance first passes the threshold, going from the estimate to one side."""
    middle = int(np.argmin(np.abs(values - centre)))
    index = range(middle, -1, -1) if side < 0 else range(middle, len(values))
    last = middle
    for place in index:
        if deviance[place] > threshold:
            # Near its minimum a deviance is a square: its root is what is straight.
            low, high = math.sqrt(deviance[last]), math.sqrt(deviance[place])
            share = (math.sqrt(threshold) - low) / (high - low)
            return float(values[last] + share * (values[place] - values[last]))
        last = place
    return None
