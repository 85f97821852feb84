"""The best model and data for a budget, with intervals, from any fit that knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from triarch.scaling.fitting.result import Fit
from triarch.scaling.laws.allocation import Allocation
from triarch.scaling.laws.cost import Cost


@dataclasses.dataclass(frozen=True)
class Optimum:
    """The best run for a budget.

    Attributes:
      flops: the budget, in the convention of `cost`.
      cost: the name of the convention.
      params, tokens, loss: the run.
      params_interval, tokens_interval, loss_interval: bootstrap intervals; None without bootstraps.
      beyond: how many times the budget exceeds the largest measured; below 1 where it was measured.
    """

    flops: float
    cost: str
    params: float
    params_interval: tuple[float, float] | None
    tokens: float
    tokens_interval: tuple[float, float] | None
    loss: float
    loss_interval: tuple[float, float] | None
    beyond: float


def optima(fit: Fit | Allocation, cost: Cost, budgets: Sequence[float]) -> list[Optimum]:
    """Returns the best run for each budget under a Chinchilla law and a cost, or on the lines of an allocation."""
    return [_on_lines(fit, cost, one) if isinstance(fit, Allocation) else _of_law(fit, cost, one) for one in budgets]


def _of_law(fit: Fit, cost: Cost, flops: float) -> Optimum:
    params, tokens = cost.optimum(fit.parameters, flops)
    loss = fit.predict(params, tokens)
    intervals: list = [None, None, None]
    if fit.samples:
        with np.errstate(all="ignore"):
            n, d = cost.optimum(fit.samples, flops)
            drawn = np.column_stack([n, d, fit.form.predict(fit.samples, (n, d))])
        drawn = drawn[np.isfinite(drawn).all(axis=1)]
        intervals = [fit.sampling.interval(column) for column in drawn.T] if len(drawn) > 1 else intervals
    largest = float(np.max(cost.flops(*fit.values[:, :2].T)))
    return Optimum(flops, cost.name, float(params), intervals[0], float(tokens), intervals[1], float(loss),
                   intervals[2], flops / largest)  # fmt: skip


def _on_lines(fit: Allocation, cost: Cost, flops: float) -> Optimum:
    found = fit.optimum(flops)
    return Optimum(flops, cost.name, *found["N"], *found["D"], *found["loss"], flops / float(fit.flops.max()))
