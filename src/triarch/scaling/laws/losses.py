"""Fits of laws of the loss: the power law, Chinchilla's, the data-constrained one; and of accuracy against loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from triarch.errors import UserError
from triarch.scaling.fitting.estimate import Sampling, estimate
from triarch.scaling.fitting.objective import DELTA
from triarch.scaling.fitting.result import Fit
from triarch.scaling.laws.data_constrained import DataConstrained
from triarch.scaling.laws.downstream import ACCURACY_DELTA, Sigmoid
from triarch.scaling.laws.forms import TERMS, Form, PowerSum

# An offset below this share of the least loss has run to its bound, 0.
OFFSET_AT_BOUND = 1e-4


def fit_chinchilla(
    params: np.ndarray,
    tokens: np.ndarray,
    loss: np.ndarray,
    *,
    bootstraps: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    weights: np.ndarray | None = None,
    delta: float = DELTA,
    offset: str = "free",
    fixed: Mapping[str, float] | None = None,
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
      weights: float[bootstraps, points], resamples drawn elsewhere (see triarch.scaling.fitting.bootstrap).
      delta: of the Huber loss, in log units.
      offset: "free" fits E > 0; "zero" leaves it out.
      fixed: parameters held at given values.
      inputs: what N and D are called in messages.

    Raises:
      UserError: fewer different (N, D) than parameters, one size only, one number of tokens only, or bad values.
    """
    if offset not in ("free", "zero"):
        raise UserError(f"offset is {offset!r}, expected free or zero for this law")
    form = PowerSum(inputs, offset == "free")
    values, loss = checked([params, tokens], loss, inputs, len(form.names) - len(form.constants) - len(fixed or {}))
    _check_varies(values, inputs)
    sampling = Sampling(bootstraps, confidence, seed, weights)
    return _with_warnings(form, values, loss, sampling, delta, fixed, _chinchilla_warnings(values, inputs))


def fit_power(
    x: np.ndarray,
    loss: np.ndarray,
    *,
    offset: str = "auto",
    bootstraps: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    weights: np.ndarray | None = None,
    delta: float = DELTA,
    fixed: Mapping[str, float] | None = None,
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
      weights: float[bootstraps, points], resamples drawn elsewhere.
      delta: of the Huber loss, in log units.
      fixed: parameters held at given values.
      name: what x is called in messages.

    Raises:
      UserError: fewer different x than parameters, or bad values.
    """
    if offset not in ("auto", "free", "zero"):
        raise UserError(f"offset is {offset!r}, expected auto, free or zero")
    values, loss = checked([x], loss, (name,), fewest=3 if offset == "free" else 2)
    _check_varies(values, (name,))
    distinct = len(np.unique(values[:, 0]))
    free, pure = PowerSum((name,)), PowerSum((name,), offset=False)
    arguments = (values, loss, Sampling(bootstraps, confidence, seed, weights), delta, fixed)
    if offset == "zero":
        return _with_warnings(pure, *arguments, [])
    if offset == "auto" and distinct < 4:
        reason = (
            f"the offset E is not identified: {distinct} different values of {name} leave nothing to check a law with"
            " three parameters by; fitted the pure power law (E = 0), whose exponent is smaller than one with an offset"
        )
        return _with_warnings(pure, *arguments, [reason])
    warnings = [f"3 different values of {name} and 3 parameters: the law passes through every point"] * (distinct == 3)
    fit = _with_warnings(free, *arguments, warnings)
    if offset == "auto" and fit.parameters["E"] < OFFSET_AT_BOUND * loss.min():
        reason = "the offset E is not identified: its best value is its bound 0; fitted the pure power law (E = 0)"
        return _with_warnings(pure, *arguments, [reason])
    return fit


def fit_data_constrained(
    params: np.ndarray,
    tokens: np.ndarray,
    unique_tokens: np.ndarray,
    loss: np.ndarray,
    *,
    bootstraps: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    weights: np.ndarray | None = None,
    delta: float = DELTA,
    fixed: Mapping[str, float] | None = None,
    inputs: tuple[str, str, str] = ("N", "D", "U"),
) -> Fit:
    """Fits the law of repeated data, L(N, D, U) (Muennighoff et al. 2023, arXiv 2305.16264, eqs. 5 and 6).

    Args:
      params: float[points], model sizes N.
      tokens: float[points], tokens seen D, repeats counted.
      unique_tokens: float[points], different tokens U, at most D.
      loss: float[points], above zero.
      bootstraps, confidence, seed, weights, delta: as for the other laws.
      fixed: parameters held at given values; the paper holds E, A, B, alpha and beta at those of a law fitted to runs
        without repeats, and fits R_D and R_N only.
      inputs: what N, D and U are called in messages.

    Raises:
      UserError: fewer different points than parameters, no repeated data, U above D, or bad values.
    """
    form = DataConstrained(inputs)
    columns = [params, tokens, unique_tokens]
    values, loss = checked(columns, loss, inputs, len(form.names) - len(fixed or {}))
    over = np.flatnonzero(values[:, 2] > values[:, 1] * (1 + 1e-9))
    if len(over):
        raise UserError(
            f"{inputs[2]}, row {over[0] + 1}: {values[over[0], 2]:g} different tokens in {values[over[0], 1]:g} seen"
        )
    if not np.any(values[:, 1] > 1.01 * values[:, 2]):
        raise UserError(f"no row repeats data ({inputs[2]} equals {inputs[1]} everywhere): R_D has nothing to show it")
    repeats = values[:, 1] / values[:, 2]
    warnings = []
    if repeats.max() < 4:
        warnings.append(f"data are repeated {repeats.max():.1f} times at most: R_D is told by runs far beyond 4 times")
    return _with_warnings(form, values, loss, Sampling(bootstraps, confidence, seed, weights), delta, fixed, warnings)


def fit_downstream(
    loss: np.ndarray,
    accuracy: np.ndarray,
    *,
    floor: float = 0.0,
    bootstraps: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    weights: np.ndarray | None = None,
    delta: float = ACCURACY_DELTA,
    fixed: Mapping[str, float] | None = None,
    inputs: tuple[str, str] = ("loss", "accuracy"),
) -> Fit:
    """Fits accuracy = floor + (ceiling - floor) / (1 + exp(k (loss - midpoint))).

    Args:
      loss: float[points], above zero.
      accuracy: float[points], shares between 0 and 1.
      floor: accuracy of guessing.
      bootstraps, confidence, seed, weights: as for the other laws.
      delta: of the Huber loss, in units of accuracy.
      fixed: parameters held at given values, `ceiling` for one.
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
    values, _ = checked([loss], np.ones(len(accuracy)), inputs, len(form.names) - len(fixed or {}))
    return _with_warnings(
        form, values, accuracy, Sampling(bootstraps, confidence, seed, weights), delta, fixed,
        form.data_warnings(values[:, 0], accuracy),
    )  # fmt: skip


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


def _check_varies(values: np.ndarray, names: Sequence[str]) -> None:
    for name, column in zip(names, values.T, strict=True):
        if len(np.unique(column)) < 2:
            raise UserError(f"{name} is {column[0]:g} in every row: its exponent cannot be told from the offset E")


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


def _with_warnings(
    form: Form,
    values: np.ndarray,
    target: np.ndarray,
    sampling: Sampling,
    delta: float,
    fixed: Mapping[str, float] | None,
    known: Sequence[str],
) -> Fit:
    return estimate(form, values, target, sampling, delta, fixed=fixed, warnings=known, judge=_judge)


def _judge(fit: Fit) -> list[str]:
    """Returns what estimates and intervals do not show."""
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
