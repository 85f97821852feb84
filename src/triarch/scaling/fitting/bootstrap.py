"""Resampling of rows, pairs or clusters for percentile intervals (Efron and Tibshirani 1993, chapter 13)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from triarch.errors import UserError

MAX_REDRAWS = 1000
# Of fewer rows than this many times the parameters a bootstrap of rows is too narrow: errors are drawn instead.
FEW_A_PARAMETER = 6
# So few rows have no interval, however few the parameters.
MOST_WITHOUT_INTERVAL = 3
# Of a row that a fit all but passes through, this share of its error is taken to be left.
LEAST_FREEDOM = 0.05


def most_without_interval(num_parameters: int) -> int:
    """Returns how many rows are too few for an interval."""
    return max(num_parameters, MOST_WITHOUT_INTERVAL)


def is_few(values: np.ndarray, num_parameters: int) -> bool:
    """Returns whether rows float64[points, T] have an interval, but are too few to be resampled for it."""
    distinct = len(np.unique(values, axis=0))
    few = len(values) < FEW_A_PARAMETER * num_parameters or distinct <= num_parameters
    return few and distinct >= num_parameters and len(values) > most_without_interval(num_parameters)


def resample_weights(values: np.ndarray, bootstraps: int, num_parameters: int, seed: int) -> np.ndarray | None:
    """Draws rows with replacement, as counts.

    A resample with fewer different points than the law has parameters has no minimum of its own and is drawn again,
    and so is one in which an input takes a single value.

    Args:
      values: float64[points, T], the inputs.
      bootstraps: resamples.
      num_parameters: of the law.
      seed: makes the draw repeatable.

    Returns:
      float64[bootstraps, points], how often each row was drawn; None where the rows themselves hold no more different
      points than the law has parameters, so that every resample would have to be the same.
    """
    if len(np.unique(values, axis=0)) <= num_parameters:
        return None
    return _redraw(len(values), bootstraps, seed, _enough(values, num_parameters))


def paired_weights(
    keys: Sequence[Sequence[object]], values: Sequence[np.ndarray], bootstraps: int, num_parameters: int, seed: int
) -> list[np.ndarray] | None:
    """Draws keys with replacement: rows of one key come together, within a group and across groups.

    Args:
      keys: for each group, the key of each of its rows.
      values: for each group, its inputs float64[points, T].
      bootstraps, num_parameters, seed: as for `resample_weights`.

    Returns:
      For each group float64[bootstraps, points]; None where a group's keys, or its points, are no more than the law has
      parameters.
    """
    names = sorted({str(key) for own in keys for key in own})
    index = {name: number for number, name in enumerate(names)}
    numbers = [np.array([index[str(key)] for key in own]) for own in keys]
    for own, points in zip(numbers, values, strict=True):
        if min(len(np.unique(own)), len(np.unique(points, axis=0))) <= num_parameters:
            return None
    tests = [_enough(points, num_parameters) for points in values]

    def enough(weights: np.ndarray) -> np.ndarray:
        good = [test(weights[:, own]) for test, own in zip(tests, numbers, strict=True)]
        return np.all(good, axis=0)

    weights = _redraw(len(names), bootstraps, seed, enough)
    return None if weights is None else [weights[:, own] for own in numbers]


def places(keys: Sequence[object]) -> np.ndarray:
    """Returns the place of each key among all of them in order, int[keys].

    Raises:
      UserError: two are alike.
    """
    names = [str(key) for key in keys]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(
            f"what pairs runs must name each of them once, but {repeated[0]!r} names {names.count(repeated[0])} runs"
        )
    found = np.empty(len(names), int)
    found[np.argsort(names, kind="stable")] = np.arange(len(names))
    return found


def spread_out(leverage: np.ndarray) -> np.ndarray:
    """Returns the factors, float64[points], that give least-squares residuals the spread of errors.

    A row of leverage h has a residual sqrt(1 - h) times as wide as its error; resampling rows as they are makes
    intervals too narrow by as much (HC2 of MacKinnon and White 1985, J. Econometrics 29:305).
    """
    return 1.0 / np.sqrt(np.maximum(1.0 - leverage, LEAST_FREEDOM))


def student_factors(freedom: int, bootstraps: int, seed: int) -> np.ndarray:
    """Returns sqrt(freedom / chi-square(freedom)), float64[bootstraps]: times these, normal draws are Student's t.

    With few residuals their own spread is uncertain, which percentiles of a bootstrap leave out (the narrowness bias of
    Hesterberg 2015, Am. Stat. 69:371).
    """
    freedom = max(freedom, 1)
    return np.sqrt(freedom / np.random.default_rng([seed, freedom]).chisquare(freedom, bootstraps))


def residual_noise(
    residual: np.ndarray, freedom: int, bootstraps: int, seed: int, order: np.ndarray | None
) -> np.ndarray:
    """Returns normal errors with the spread of least-squares residuals, float64[bootstraps, points].

    Each is a sum of all residuals with weights drawn anew, so that errors of two groups drawn with one seed are as
    correlated as the groups' residuals are. Their spread is itself drawn: intervals are Student's, with `freedom`.

    Args:
      residual: float64[points].
      freedom: points less parameters.
      bootstraps, seed: of the draw.
      order: int[points], the place of each row among those of its group that a partner shares; None without partners.
    """
    points = len(residual)
    drawn = np.random.default_rng([seed, points]).normal(size=(bootstraps, points, points))
    if order is not None:
        drawn = drawn[:, order][:, :, order]
    spread = student_factors(freedom, bootstraps, seed)
    return spread[:, None] * (drawn @ residual) / np.sqrt(max(freedom, 1))


def _redraw(count: int, bootstraps: int, seed: int, enough: Callable[[np.ndarray], np.ndarray]) -> np.ndarray | None:
    rng = np.random.default_rng(seed)
    even = np.full(count, 1.0 / count)
    weights = rng.multinomial(count, even, bootstraps)
    for _ in range(MAX_REDRAWS):
        poor = np.flatnonzero(~enough(weights))
        if not len(poor):
            break
        weights[poor] = rng.multinomial(count, even, len(poor))
    else:
        weights = weights[enough(weights)]
    return weights.astype(np.float64) if len(weights) else None


def _enough(values: np.ndarray, num_parameters: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns which resamples, counts int[bootstraps, points], hold enough different points and no constant input."""
    groups = np.unique(values, axis=0, return_inverse=True)[1].reshape(-1)
    levels = [np.unique(column, return_inverse=True)[1].reshape(-1) for column in values.T]
    levels = [level for level in levels if level.max() > 0]

    def enough(weights: np.ndarray) -> np.ndarray:
        good = _distinct(weights, groups) >= num_parameters
        for level in levels:
            good &= _distinct(weights, level) >= 2
        return good

    return enough


def _distinct(weights: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Returns how many different groups each resample holds, int[bootstraps]."""
    membership = np.zeros((weights.shape[1], groups.max() + 1))
    membership[np.arange(weights.shape[1]), groups] = 1.0
    return ((weights @ membership) > 0).sum(axis=1)
