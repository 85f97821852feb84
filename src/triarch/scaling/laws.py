"""Fits of the power law and of Chinchilla's parametric law, with bootstrap intervals and warnings."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from triarch.errors import UserError
from triarch.scaling import bfgs
from triarch.scaling.bootstrap import resample_weights
from triarch.scaling.objective import DELTA, HuberObjective
from triarch.scaling.result import TERMS, Fit

# Where Hoffmann's grid of starts is meant to stand: about the geometric mean of the parameters, tokens and losses of
# the runs it was made for. Data are shifted here before the grid is laid, so that no unit can matter.
REFERENCE_LOG_INPUTS = np.log([1e9, 2e10])
REFERENCE_LOG_LOSS = np.log(2.5)

# An offset below this share of the least loss has run to its bound, 0.
OFFSET_AT_BOUND = 1e-4
# With fewer different points than this many times the parameters a bootstrap is known to be too narrow.
POINTS_A_PARAMETER = 3
# Bootstraps also start at this many of the other minima the grid found, if they are nearly as good.
RIVAL_MARGIN = 1.5


def fit_chinchilla(
    params: np.ndarray,
    tokens: np.ndarray,
    loss: np.ndarray,
    *,
    bootstraps: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    delta: float = DELTA,
    inputs: tuple[str, str] = ("N", "D"),
) -> Fit:
    """Fits L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, section 3.3, eqs. 2 and 3).

    All 4,500 starts of the published grid are minimised and the best minimum is brought to rounding error.

    Args:
      params: float[points], model sizes N in any unit; A comes in the same.
      tokens: float[points], training tokens D in any unit; B comes in the same.
      loss: float[points], above zero.
      bootstraps: resamples of the rows for the intervals; 0 for none.
      confidence: of the percentile intervals.
      seed: of the resampling.
      delta: of the Huber loss, in log units.
      inputs: what N and D are called in messages.

    Raises:
      UserError: fewer than five different (N, D), one size only, one number of tokens only, or bad values.
    """
    values, loss = _checked([params, tokens], loss, inputs, fewest=5)
    warnings = _chinchilla_warnings(values, inputs)
    return _fit("chinchilla", values, loss, True, inputs, bootstraps, confidence, seed, delta, warnings)


def fit_power(
    x: np.ndarray,
    loss: np.ndarray,
    *,
    offset: str = "auto",
    bootstraps: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    delta: float = DELTA,
    name: str = "x",
) -> Fit:
    """Fits L(x) = A x^-alpha + E, as RedLLM (arXiv 2510.26622) does with x = N or C.

    Args:
      x: float[points], parameters, tokens or FLOPs in any unit; A comes in the same.
      loss: float[points], above zero.
      offset: "free" fits E >= 0; "zero" fits the pure power law; "auto" fits E where the data identify it (at least
        four different x, and an E away from its bound 0) and otherwise falls back to the pure power law with a warning.
      bootstraps: resamples of the rows for the intervals; 0 for none.
      confidence: of the percentile intervals.
      seed: of the resampling.
      delta: of the Huber loss, in log units.
      name: what x is called in messages.

    Raises:
      UserError: fewer different x than parameters, or bad values.
    """
    if offset not in ("auto", "free", "zero"):
        raise UserError(f"offset is {offset!r}, expected auto, free or zero")
    values, loss = _checked([x], loss, (name,), fewest=3 if offset == "free" else 2)
    distinct = len(np.unique(values[:, 0]))
    arguments = (bootstraps, confidence, seed, delta)
    if offset == "zero":
        return _fit("power", values, loss, False, (name,), *arguments, [])
    if offset == "auto" and distinct < 4:
        reason = (
            f"the offset E is not identified: {distinct} different values of {name} leave nothing to check a law with"
            " three parameters by; fitted the pure power law (E = 0), whose exponent is smaller than one with an offset"
        )
        return _fit("power", values, loss, False, (name,), *arguments, [reason])
    warnings = [f"3 different values of {name} and 3 parameters: the law passes through every point"] * (distinct == 3)
    fit = _fit("power", values, loss, True, (name,), *arguments, warnings)
    if offset == "auto" and fit.parameters["E"] < OFFSET_AT_BOUND * loss.min():
        reason = "the offset E is not identified: its best value is its bound 0; fitted the pure power law (E = 0)"
        return _fit("power", values, loss, False, (name,), *arguments, [reason])
    return fit


def _checked(columns: Sequence, loss, names: Sequence[str], fewest: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns inputs float64[points, T] and losses float64[points]; raises UserError on what no law can be fitted."""
    loss = np.asarray(loss, np.float64).ravel()
    arrays = [np.asarray(column, np.float64).ravel() for column in columns]
    for name, array in zip((*names, "loss"), (*arrays, loss), strict=True):
        if len(array) != len(loss):
            raise UserError(f"{name} has {len(array)} values, loss has {len(loss)}")
        bad = np.flatnonzero(~(np.isfinite(array) & (array > 0)))
        if len(bad):
            raise UserError(f"{name}, row {bad[0] + 1}: {array[bad[0]]}, expected a number above zero")
    values = np.stack(arrays, axis=1)
    distinct = len(np.unique(values, axis=0)) if len(values) else 0
    if distinct < fewest:
        what = " and ".join(names)
        raise UserError(
            f"{distinct} different points of {what}: a law with {fewest} parameters needs at least {fewest}"
        )
    for name, column in zip(names, values.T, strict=True):
        if len(np.unique(column)) < 2:
            raise UserError(f"{name} is {column[0]:g} in every row: its exponent cannot be told from the offset E")
    return values, loss


def _chinchilla_warnings(values: np.ndarray, names: Sequence[str]) -> list[str]:
    warnings = []
    if len(np.unique(values, axis=0)) == 5:
        warnings.append("5 different points and 5 parameters: the law passes through every point, nothing checks it")
    for name, column in zip(names, values.T, strict=True):
        distinct = len(np.unique(column))
        if distinct < 3:
            warnings.append(f"{name} takes only {distinct} different values: its exponent is not identified beside E")
    correlation = np.corrcoef(np.log(values).T)[0, 1]
    if abs(correlation) > 0.995:
        warnings.append(
            f"log {names[0]} and log {names[1]} move together (correlation {correlation:.4f}): their two terms can"
            " hardly be told apart; add runs with other ratios of tokens to parameters"
        )
    return warnings


def _fit(law, values, loss, offset, names, bootstraps, confidence, seed, delta, warnings) -> Fit:
    if not 0.0 < confidence < 1.0:
        raise UserError(f"confidence is {confidence}, expected a number between 0 and 1, such as 0.95")
    if bootstraps < 0:
        raise UserError(f"bootstraps is {bootstraps}, expected 0 or more")
    log_inputs, log_loss = np.log(values), np.log(loss)
    centre, level = log_inputs.mean(axis=0), log_loss.mean()
    objective = HuberObjective(log_inputs - centre, log_loss - level, offset, delta)
    minima = bfgs.minimize(objective, _starts(objective))
    order = np.argsort(minima.value, kind="stable")
    best = bfgs.polish(objective, minima.theta[order[0]])
    value = objective.value_and_gradient(best[None])[0][0] * delta
    parameters = _parameters(best[None], centre, level, offset)
    samples, intervals = {}, {}
    warnings = list(warnings) + _estimate_warnings(parameters, loss, offset)
    weights = resample_weights(values, bootstraps, objective.num_parameters, seed) if bootstraps else None
    if weights is not None:
        samples = _parameters(_bootstrap(objective, minima, order, best, weights), centre, level, offset)
        tail = 50.0 * (1.0 - confidence)
        fitted = [name for name in parameters if offset or name != "E"]
        intervals = {name: tuple(np.percentile(samples[name], [tail, 100.0 - tail])) for name in fitted}
        distinct, parameters_fitted = len(np.unique(values, axis=0)), objective.num_parameters
        if distinct < POINTS_A_PARAMETER * parameters_fitted:
            warnings.append(
                f"{distinct} different points for {parameters_fitted} parameters: the bootstrap intervals are a"
                f" rough guide,"
                " likely too narrow"
            )
        warnings += _interval_warnings(intervals, loss)
    elif bootstraps:
        warnings.append(
            f"as many different points as parameters ({objective.num_parameters}): no intervals can be drawn"
        )
    return Fit(
        law=law,
        inputs=tuple(names),
        parameters={name: float(column[0]) for name, column in parameters.items()},
        intervals={name: (float(low), float(high)) for name, (low, high) in intervals.items()},
        samples=samples,
        objective=float(value),
        num_points=len(loss),
        offset_fitted=offset,
        confidence=confidence,
        bootstraps=bootstraps if weights is not None else 0,
        seed=seed,
        delta=delta,
        input_range=tuple((float(column.min()), float(column.max())) for column in values.T),
        warnings=tuple(warnings),
    )


def _starts(objective: HuberObjective) -> np.ndarray:
    """Returns the starts, float64[starts, parameters], in the objective's centred coordinates."""
    if objective.num_terms == 2:
        steps, exponents = np.arange(0.0, 30.0, 5.0), np.arange(0.0, 2.5, 0.5)
        grid = itertools.product(steps, steps, exponents, exponents, np.arange(-1.0, 1.5, 0.5))
        starts = np.array(list(grid))
        starts[:, :2] -= starts[:, 2:4] * REFERENCE_LOG_INPUTS + REFERENCE_LOG_LOSS
        starts[:, 4] -= REFERENCE_LOG_LOSS
        return starts
    least = np.exp(objective.log_loss.min())
    shares = [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97] if objective.offset else [0.0]
    exponents = [0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0]
    # The mean log loss is 0 here: whatever the offset leaves of a loss of 1 is the power's.
    grid = [(np.log(1.0 - e * least), alpha, e * least) for e, alpha in itertools.product(shares, exponents)]
    starts = np.array(grid)
    return np.column_stack([starts[:, :2], np.log(starts[:, 2])]) if objective.offset else starts[:, :2]


def _bootstrap(objective, minima, order, best, weights) -> np.ndarray:
    """Returns the minimum of each resample, float64[bootstraps, parameters], from the fit and from its close rivals."""
    starts = [best]
    limit = RIVAL_MARGIN * minima.value[order[0]] + 1e-9
    rivals = minima.theta[order[minima.value[order] <= limit]]
    far = rivals[np.abs(rivals - best).max(axis=1) > 0.05]
    if len(far):
        starts.append(far[0])
    results = [bfgs.minimize(objective, np.repeat(start[None], len(weights), axis=0), weights) for start in starts]
    chosen = np.argmin([result.value for result in results], axis=0)
    return np.stack([result.theta for result in results])[chosen, np.arange(len(weights))]


def _parameters(theta: np.ndarray, centre: np.ndarray, level: float, offset: bool) -> dict[str, np.ndarray]:
    """Undoes the centring: theta float64[fits, parameters] -> float64[fits] by name."""
    terms = len(centre)
    result = {"E": np.exp(theta[:, -1] + level) if offset else np.zeros(len(theta))}
    for k, (scale, exponent) in enumerate(TERMS[:terms]):
        # A resample that leaves a term open may drive its scale beyond what a float holds.
        log_scale = np.clip(theta[:, k] + theta[:, terms + k] * centre[k] + level, -700.0, 700.0)
        result[scale], result[exponent] = np.exp(log_scale), theta[:, terms + k]
    order = ("E", "A", "B", "alpha", "beta") if terms == 2 else ("A", "alpha", "E")
    return {name: result[name] for name in order}


def _estimate_warnings(parameters: dict[str, np.ndarray], loss: np.ndarray, offset: bool) -> list[str]:
    warnings = []
    for scale, exponent in TERMS:
        if exponent not in parameters:
            continue
        value = parameters[exponent][0]
        if value <= 0:
            warnings.append(f"{exponent} is {value:.3g}: the loss does not fall along this input")
        elif value > 2:
            warnings.append(
                f"{exponent} is {value:.3g}, outside the grid of starts (0 to 2): {scale} and {exponent} are unsure"
            )
    if offset and parameters["E"][0] < OFFSET_AT_BOUND * loss.min():
        warnings.append("the offset E is at its bound 0: these data do not identify it")
    return warnings


def _interval_warnings(intervals: dict[str, tuple[float, float]], loss: np.ndarray) -> list[str]:
    warnings = []
    if "E" in intervals and intervals["E"][0] < 0.02 * loss.min() and intervals["E"][1] > OFFSET_AT_BOUND * loss.min():
        warnings.append(
            f"the offset E is weakly identified: its interval reaches from about 0 up to {intervals['E'][1]:.3g};"
            " the exponents depend on it"
        )
    for _, exponent in TERMS:
        if exponent in intervals and intervals[exponent][0] <= 0 < intervals[exponent][1]:
            warnings.append(f"the interval of {exponent} holds 0: that the loss falls along this input is not shown")
    return warnings
