"""The best model and data for a budget, with intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


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


@dataclasses.dataclass(frozen=True)
class Optima:
    """The best runs for some budgets, and what to know of them."""

    rows: tuple[Optimum, ...]
    warnings: tuple[str, ...] = ()

    @classmethod
    def checked(cls, rows: Sequence[Optimum], warnings: Sequence[str] = ()) -> Optima:
        """Returns the rows; none of them where one has no number."""
        if all(np.isfinite(row.loss) for row in rows):
            return cls(tuple(rows), tuple(warnings))
        return cls((), (*warnings, "the loss does not fall along both N and D: the law has no compute optimum"))


def budgets_or_usual(budgets: Sequence[float], flops: np.ndarray) -> tuple[float, ...]:
    """Returns the budgets asked for; without any, the largest measured and ten times that."""
    largest = float(flops.max())
    return tuple(budgets) or (largest, 10.0 * largest)
