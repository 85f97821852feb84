"""What the learning rate of a run has added up to at each of its logged points: the inputs of laws of whole curves."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from triarch.errors import UserError
from triarch.scaling.tables.columns import Columns
from triarch.scaling.tables.roles import Role

STEP = Role("step", "the step of a logged point, from the run's first on", usual=r"steps?|iter|iterations?|updates?")


@dataclasses.dataclass(frozen=True)
class RateCurve:
    """The learning rate of one run, straight between the points where it is known.

    Attributes:
      rows: int[points], the run's rows in the order of their steps.
      steps: float64[points], their steps.
      total: float64[points], the sum of the learning rate over all steps so far, warm-up included.
      middle_step, middle_total, rate, fall: float64[intervals], of each interval between points: its middle, the sum
        and the learning rate there, and by how much this falls from its begin to its end.
      warmup, peak: the steps of the warm-up, and the learning rate it rises to.
    """

    rows: np.ndarray
    steps: np.ndarray
    total: np.ndarray
    middle_step: np.ndarray
    middle_total: np.ndarray
    rate: np.ndarray
    fall: np.ndarray
    warmup: float
    peak: float


def schedules(columns: Columns, warmup: float) -> dict[str, RateCurve]:
    """Returns each run's schedule, from its rows of the columns "step" and "learning_rate".

    Args:
      columns: with the text column "run".
      warmup: steps over which the learning rate rises from 0; points within it are not of the law.

    Raises:
      UserError: two points of one run have the same step, a run has one point, or one lies within the warm-up.
    """
    if not warmup >= 0:
        raise UserError(f"warmup is {warmup:g}, expected a number of steps from 0 on")
    runs, steps, rates = columns.text("run"), columns.values["step"], columns.values["learning_rate"]
    found = {}
    for run in dict.fromkeys(runs):
        rows = np.array([row for row, name in enumerate(runs) if name == run])
        rows = rows[np.argsort(steps[rows], kind="stable")]
        if len(rows) < 2:
            raise UserError(f"run {run}: one row; a curve needs more")
        if len(same := np.flatnonzero(np.diff(steps[rows]) <= 0)):
            raise UserError(f"run {run}: two rows of step {steps[rows][same[0]]:g}")
        if steps[rows[0]] < warmup:
            raise UserError(
                f"run {run}: step {steps[rows[0]]:g} lies within the warm-up of {warmup:g} steps; leave such rows out,"
                f" as --where='step>={warmup:g}' does"
            )
        found[run] = _schedule(rows, steps[rows], rates[rows], warmup)
    return found


def _schedule(rows: np.ndarray, steps: np.ndarray, rates: np.ndarray, warmup: float) -> RateCurve:
    # What came before the first point: the warm-up, then the learning rate of that point.
    before = rates[0] * (steps[0] - 0.5 * warmup)
    length, mean = np.diff(steps), 0.5 * (rates[1:] + rates[:-1])
    total = before + np.concatenate([[0.0], np.cumsum(length * mean)])
    # A quarter of an interval has the mean of its ends' and its middle's rates: at half the way, half of half.
    middle_total = total[:-1] + 0.5 * length * 0.5 * (rates[:-1] + mean)
    return RateCurve(
        rows, steps, total, 0.5 * (steps[1:] + steps[:-1]), middle_total, mean, rates[:-1] - rates[1:], warmup, rates[0]
    )


def spread_over_rows(found: Sequence[RateCurve], parts: Sequence[np.ndarray]) -> np.ndarray:
    """Returns float64[rows] of what there is for each point of each schedule."""
    values = np.empty(sum(len(one.rows) for one in found))
    for one, part in zip(found, parts, strict=True):
        values[one.rows] = part
    return values
