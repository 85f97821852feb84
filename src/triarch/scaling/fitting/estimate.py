"""From a posed law to estimates: all starts, the best minimum, percentile bootstrap intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from triarch.scaling.fitting import bfgs
from triarch.scaling.fitting.bootstrap import (
    is_few,
    most_without_interval,
    places,
    resample_weights,
    residual_noise,
    spread_out,
    student_factors,
)
from triarch.scaling.fitting.form import Form
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.fitting.problem import FitObjective, Problem
from triarch.scaling.fitting.result import Fit

# Bootstraps also start at this many of the other minima the grid found, if they are nearly as good.
RIVAL_MARGIN = 1.5
# A Huber loss that turns absolute only here, in log units (or times the largest value), is a square everywhere.
LEAST_SQUARES_DELTA = 50.0
# Of a scale; beyond it (about 1e260) predictions are no numbers.
LARGEST_LOG = 600.0


def estimate(
    form: Form,
    values: np.ndarray,
    target: np.ndarray,
    options: FitOptions,
    *,
    warnings: Sequence[str] = (),
    judge: Callable[[Fit], Sequence[str]] = lambda fit: (),
    leverage: np.ndarray | None = None,
) -> Fit:
    """Fits a form to inputs float64[points, T] and targets float64[points] that have been checked.

    Every start of the form is minimised and the best minimum is brought to rounding error; each resample is minimised
    from there, and from the best rival minimum if there is a near one, under a smoother loss (see _bandwidth).

    Args:
      form: the law.
      values: the inputs.
      target: what the law predicts.
      options: of the bootstrap and the Huber loss, and what is held fixed.
      warnings: what the caller already knows these data do not show.
      judge: says what the estimates do not show.
      leverage: float64[points], of the rows of a law that is linear in logarithms: its resamples make up for residuals
        being smaller than errors and for the few that there are (see triarch.scaling.fitting.bootstrap).
    """
    fixed = options.fixed
    delta = _finite(form.delta if options.delta is None else options.delta, form, target)
    problem = form.problem(values, target, delta).pin(fixed)
    minima = bfgs.minimize(problem.objective, problem.starts)
    order = _ranked(problem, minima)
    best = bfgs.polish(problem.objective, minima.theta[order[0]])
    value = problem.objective.value_and_gradient(best[None])[0][0] * delta
    point = {name: float(column[0]) for name, column in problem.parameters(best[None]).items()}
    everything = {**form.constants, **point}
    with np.errstate(all="ignore"):
        predicted = form.predict(everything, values.T)
    samples, intervals, wide, notes = {}, {}, delta, []
    kind, weights = _resamples(values, problem, options, notes)
    theta = None
    if kind == "noise":
        theta = _under_noise(form, values, target, predicted, best, delta, options)
    elif kind == "rows" and weights is not None:
        wide = max(delta, _bandwidth(form, values, target, everything, problem))
        rivals = _rivals(minima, order, best)
        drawn_from = target if leverage is None else predicted * (target / predicted) ** spread_out(leverage)
        smooth = form.problem(values, drawn_from, wide).pin(fixed)
        theta = _resampled(smooth.objective, best, rivals, weights)
        freedom, wider = options.freedom, 1.0
        if leverage is not None:
            freedom = len(target) - problem.objective.num_parameters
        elif freedom is not None:
            # The spread of n units' resamples is that of their mean times sqrt((n - 1) / n).
            wider = np.sqrt(1.0 + 1.0 / freedom)
        if freedom is not None:
            theta = best + (theta - best) * wider * student_factors(freedom, len(theta), options.seed)[:, None]
    if theta is not None:
        samples = problem.parameters(theta)
        intervals = {
            name: options.interval(samples[name])
            for name in form.names
            if name in point and (name not in fixed or isinstance(fixed[name], str))
        }
    draws = 0 if theta is None else len(theta)
    constant = {name: np.full(draws, value) for name, value in form.constants.items()} if samples else {}
    fit = Fit(
        form=form,
        parameters={name: everything[name] for name in form.names},
        intervals=intervals,
        samples={**samples, **constant},
        objective=float(value),
        values=values,
        target=target,
        theta=best,
        options=options,
        bootstraps=0 if theta is None else len(theta),
        delta=delta,
        resample_delta=wide,
        warnings=(),
    )
    return dataclasses.replace(fit, warnings=(*warnings, *notes, *judge(fit), *form.reached(intervals)))


def _finite(delta: float, form: Form, target: np.ndarray) -> float:
    """Returns delta; an infinite one, of least squares, as one that is beyond every residual."""
    if np.isfinite(delta):
        return delta
    return LEAST_SQUARES_DELTA * (1.0 if form.log_target else max(float(np.abs(target).max()), 1e-300))


def minimum(form: Form, values: np.ndarray, target: np.ndarray, delta: float, fixed: Mapping[str, float | str]) -> dict:
    """Returns only the point estimates, by name: for refits to some of the rows."""
    delta = _finite(delta, form, target)
    problem = form.problem(values, target, delta).pin(fixed)
    minima = bfgs.minimize(problem.objective, problem.starts)
    best = bfgs.polish(problem.objective, minima.theta[_ranked(problem, minima)[0]])
    found = {name: float(column[0]) for name, column in problem.parameters(best[None]).items()}
    return {**form.constants, **found}


def _ranked(problem: Problem, minima: bfgs.Minima) -> np.ndarray:
    """Returns the minima from the best on; last those with a scale that no float holds.

    Such a term is so steep that it passes through one outlying row and is nothing elsewhere.
    """
    scales = [one for one in problem.coordinates if one.log]
    far = np.zeros(len(minima.value), bool)
    for one in scales:
        far |= np.abs(minima.theta @ one.vector + one.shift) > LARGEST_LOG
    return np.lexsort((minima.value, far))


def _resamples(
    values: np.ndarray, problem: Problem, options: FitOptions, notes: list[str]
) -> tuple[str, np.ndarray | None]:
    """Returns what is drawn, "rows" with the weights of each, "noise" or "" for nothing; notes what to say of it."""
    parameters, distinct = problem.objective.num_parameters, len(np.unique(values, axis=0))
    if not options.bootstraps:
        return "", None
    if options.weights is not None:
        return "rows", options.weights
    most = most_without_interval(parameters)
    if len(values) <= most or distinct < parameters:
        notes.append(f"{len(values)} rows for {parameters} parameters: no intervals can be drawn, they need {most + 1}")
        return "", None
    if options.keys is not None or is_few(values, parameters):
        return "noise", None
    weights = resample_weights(values, options.bootstraps, parameters, options.seed)
    return ("", None) if weights is None else ("rows", weights)


def _under_noise(
    form: Form,
    values: np.ndarray,
    target: np.ndarray,
    predicted: np.ndarray,
    best: np.ndarray,
    delta: float,
    options: FitOptions,
) -> np.ndarray:
    """Returns minima, float64[bootstraps, parameters], of the law's own values under errors as wide as those seen.

    Resamples of few rows leave out too much of what identifies a law; this keeps the design and fits as before.
    """
    squares = form.problem(values, target, _finite(np.inf, form, target)).pin(options.fixed)
    least = bfgs.polish(squares.objective, bfgs.minimize(squares.objective, best[None]).theta[0])
    parameters = {name: float(column[0]) for name, column in squares.parameters(least[None]).items()}
    with np.errstate(all="ignore"):
        residual = form.residuals({**form.constants, **parameters}, values, target)
    if not np.isfinite(residual).all():  # A term has run to where no float holds its scale: as good as without it.
        residual = np.log(target / predicted) if form.log_target else target - predicted
    freedom = len(target) - squares.objective.num_parameters
    order = None if options.keys is None else places(options.keys)
    noise = residual_noise(residual, freedom, options.bootstraps, options.seed, order)
    own = form.problem(values, predicted, delta).pin(options.fixed).objective
    centre = bfgs.polish(own, bfgs.minimize(own, best[None]).theta[0])
    theta = bfgs.minimize(own, np.repeat(centre[None], len(noise), axis=0), noise=noise).theta
    return theta + (best - centre)


def _bandwidth(
    form: Form, values: np.ndarray, target: np.ndarray, parameters: Mapping[str, float], problem: Problem
) -> float:
    """Returns the delta that resamples are fitted with: the residuals' spread times n^(-1/5).

    With a small delta a fit passes through as many points as it has parameters, and resamples, in which these repeat,
    jump from set to set: intervals come out too wide by a fifth at 60 points (98 % where 95 % was asked). A resampled
    objective smoothed over a bandwidth that shrinks with n does not (Horowitz 1998, Econometrica 66:1327).
    """
    residual = form.residuals(parameters, values, target)
    points = len(target)
    freedom = max(points - problem.objective.num_parameters, 1)
    return 1.4826 * float(np.median(np.abs(residual))) * float(np.sqrt(points / freedom)) * points**-0.2


def _rivals(minima: bfgs.Minima, order: np.ndarray, best: np.ndarray) -> list[np.ndarray]:
    """Returns the best of the other minima that the starts ended in, if it is nearly as good."""
    limit = RIVAL_MARGIN * minima.value[order[0]] + 1e-9
    near = minima.theta[order[minima.value[order] <= limit]]
    far = near[np.abs(near - best).max(axis=1) > 0.05]
    return [far[0]] if len(far) else []


def _resampled(
    objective: FitObjective, best: np.ndarray, rivals: Sequence[np.ndarray], weights: np.ndarray
) -> np.ndarray:
    """Returns the minimum of each resample, float64[bootstraps, parameters], about the minimum of all rows."""
    centre = bfgs.polish(objective, bfgs.minimize(objective, best[None]).theta[0])
    results = [
        bfgs.minimize(objective, np.repeat(start[None], len(weights), axis=0), weights) for start in (centre, *rivals)
    ]
    chosen = np.argmin([result.value for result in results], axis=0)
    theta = np.stack([result.theta for result in results])[chosen, np.arange(len(weights))]
    return theta + (best - centre)
