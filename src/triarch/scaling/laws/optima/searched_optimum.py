"""The best run for a budget under any law of N and D: searched for, where no formula gives it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from triarch.scaling.fitting.cost import Cost
from triarch.scaling.fitting.result import Fit
from triarch.scaling.laws.optima.optimum import Optimum

# How far from the middle of the sizes that were measured others are looked at, and how many.
REACH = 1e5
SIZES = 401


def searched_optimum(fit: Fit, cost: Cost, flops: float) -> Optimum:
    """Returns the run of the least loss for a budget, with intervals of the bootstrap; NaN where there is none.

    Args:
      fit: a law of the inputs "N" and "D", in any order.
      cost: what a run costs.
      flops: the budget.
    """
    columns = dict(zip(fit.inputs, fit.values.T, strict=True))
    middle = float(np.exp(np.log(columns["N"]).mean()))
    sizes = np.geomspace(middle / REACH, middle * REACH, SIZES)

    def point(size: np.ndarray) -> np.ndarray:
        return np.atleast_2d(fit.predict(*_run(fit, cost, flops, size)))

    def drawn(size: np.ndarray) -> np.ndarray:
        return fit.draws(*_run(fit, cost, flops, size))

    with np.errstate(all="ignore"):
        best = _least(point, sizes)
        found = _least(drawn, sizes) if fit.samples else None
    intervals: list = [None, None, None]
    if found is not None and np.isfinite(found[0]).sum() > 1:
        params, loss = (column[np.isfinite(found[0])] for column in found)
        intervals = [fit.options.interval(column) for column in (params, cost.tokens(params, flops), loss)]
    params, loss = float(best[0][0]), float(best[1][0])
    largest = float(np.max(cost.flops(columns["N"], columns["D"])))
    return Optimum(flops, cost.name, params, intervals[0], float(cost.tokens(params, flops)), intervals[1], loss,
                   intervals[2], flops / largest)  # fmt: skip


def _run(fit: Fit, cost: Cost, flops: float, size: np.ndarray) -> list[np.ndarray]:
    inputs = {"N": size, "D": cost.tokens(size, flops)}
    return [inputs[name] for name in fit.inputs]


def _least(loss: Callable[[np.ndarray], np.ndarray], sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the size of the least loss, and that loss, float64[fits] each; NaN where it is at an end.

    A parabola in log size through the three best places of a grid tells it to about a hundredth of a step.
    """
    values = np.nan_to_num(loss(sizes), nan=np.inf)
    place = values.argmin(axis=1)
    inside = (place > 0) & (place < len(sizes) - 1)
    near = np.clip(place, 1, len(sizes) - 2)
    rows, step = np.arange(len(values)), np.log(sizes[1] / sizes[0])
    low, middle, high = (values[rows, near + side] for side in (-1, 0, 1))
    shift = 0.5 * (low - high) / (low - 2.0 * middle + high)
    size = np.exp(np.log(sizes[near]) + step * shift)
    least = middle - 0.25 * (low - high) * shift
    return np.where(inside, size, np.nan), np.where(inside, least, np.nan)
