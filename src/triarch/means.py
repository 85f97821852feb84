"""Means, and how far they may be off where some of the values belong together."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np


def standard_error(values: Sequence[float] | np.ndarray, items: Sequence[Hashable] | None = None) -> float | None:
    """Returns the standard error of a mean; None where all values are of one item.

    Args:
      values: each of an item, two or more.
      items: what each value is of. Values of one item may vary together, as answers to the same question asked in
        several ways do: each item's sum of deviations then counts as one draw, as cluster-robust errors have it. None
        where every value is an item of its own.
    """
    values = np.asarray(values, float)
    names = list(range(len(values))) if items is None else list(items)
    numbers = {item: number for number, item in enumerate(dict.fromkeys(names))}
    count = len(numbers)
    if count < 2:
        return None
    sums = np.bincount([numbers[item] for item in names], values - values.mean(), minlength=count)
    return float(math.sqrt(count / (count - 1) * (sums**2).sum()) / len(values))


def error_of_mean(errors: Sequence[float | None]) -> float | None:
    """Returns the standard error of the mean of independent values, each with its own; None where one is unknown."""
    known = [error for error in errors if error is not None]
    return math.hypot(*known) / len(known) if known and len(known) == len(errors) else None
