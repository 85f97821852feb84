"""Resampling of rows for percentile intervals (Efron and Tibshirani 1993, chapter 13)."""

from __future__ import annotations

import numpy as np

MAX_REDRAWS = 1000


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
    points = len(values)
    groups = np.unique(values, axis=0, return_inverse=True)[1].reshape(-1)
    if groups.max() + 1 <= num_parameters:
        return None
    levels = [np.unique(column, return_inverse=True)[1].reshape(-1) for column in values.T]
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(points, np.full(points, 1.0 / points), bootstraps)
    for _ in range(MAX_REDRAWS):
        enough = _distinct(weights, groups) >= num_parameters
        for level in levels:
            enough &= _distinct(weights, level) >= 2
        poor = np.flatnonzero(~enough)
        if not len(poor):
            break
        weights[poor] = rng.multinomial(points, np.full(points, 1.0 / points), len(poor))
    else:
        weights = weights[enough]
    return weights.astype(np.float64) if len(weights) else None


def _distinct(weights: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Returns how many different groups each resample holds, int[bootstraps]."""
    membership = np.zeros((weights.shape[1], groups.max() + 1))
    membership[np.arange(weights.shape[1]), groups] = 1.0
    return ((weights @ membership) > 0).sum(axis=1)
