"""The loss along a whole curve as its learning rate anneals: Tissue et al. 2024, arXiv 2408.11029."""

from __future__ import annotations

import dataclasses

import numpy as np

from triarch.errors import UserError
from triarch.scaling.laws.formula import FormulaLaw
from triarch.scaling.laws.law import setting
from triarch.scaling.laws.schedules import STEP, RateCurve, schedules, spread_over_rows
from triarch.scaling.tables.columns import Columns
from triarch.scaling.tables.roles import LEARNING_RATE, LOSS, RUN

WARMUP_HELP = "tissue, multi_power: steps over which the learning rate rose from 0 (default: 0)"


@dataclasses.dataclass(frozen=True)
class Tissue(FormulaLaw):
    """Eq. 1: S1 is the sum of the learning rate so far, S2 of its falls, each remembered less from step to step."""

    name = "tissue"
    text = "L = L_0 + A / S1^alpha - C * S2"
    needs = (RUN, STEP, LEARNING_RATE, LOSS)

    warmup: float = setting(0.0, WARMUP_HELP, metavar="STEPS")
    annealing_memory: float = setting(
        0.999, "tissue: what share of a fall is remembered after a step, lambda (default: 0.999)", metavar="SHARE"
    )

    def inputs(self, columns: Columns) -> dict[str, np.ndarray]:
        """Returns S1 and S2 at each row."""
        if not 0.0 < self.annealing_memory < 1.0:
            raise UserError(f"annealing_memory is {self.annealing_memory:g}, expected a share between 0 and 1")
        found = list(schedules(columns, self.warmup).values())
        return {
            "S1": spread_over_rows(found, [one.total for one in found]),
            "S2": spread_over_rows(found, [self._annealed(one) for one in found]),
        }

    def _annealed(self, run: RateCurve) -> np.ndarray:
        """Returns the sum over steps of m_i = lambda m_(i-1) + eta_(i-1) - eta_i, float64[points]."""
        # A fall from one step to the next is remembered from the second on: half a step longer than from the middle.
        since = np.maximum(run.steps[:, None] - run.middle_step + 0.5, 0.0) * (run.steps[:, None] > run.middle_step)
        remembered = -np.expm1(np.log(self.annealing_memory) * since) / (1.0 - self.annealing_memory)
        return remembered @ run.fall
