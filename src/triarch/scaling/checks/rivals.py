"""Laws compared by how they predict the largest runs, all fitted to the same smaller ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from triarch.scaling.checks.extrapolation import SHARE, HeldOut, largest_rows, predict_rows
from triarch.scaling.fitting.form import Form

DRAWS = 2000


@dataclasses.dataclass(frozen=True)
class RivalForm:
    """A form that some columns allow.

    Attributes:
      label: what it is called in a ranking.
      form: the law.
      inputs: float64[points] each.
    """

    label: str
    form: Form
    inputs: tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Rival:
    """A law's held-out error.

    Attributes:
      label: which law.
      formula: fitted to the rows that were not held out.
      num_parameters: how many were fitted.
      held_out: its errors; None where too few rows were left for it.
      behind: interval of its root mean square error minus the best law's, over resamples of the held-out rows; None
        for the best.
    """

    label: str
    formula: str
    num_parameters: int
    held_out: HeldOut | None
    behind: tuple[float, float] | None

    def to_json(self) -> dict[str, object]:
        """Returns the numbers."""
        kept = {name: getattr(self.held_out, name, None) for name in ("rms", "bias", "worst", "rms_fitted")}
        return {
            "law": self.label,
            "formula": self.formula,
            "num_parameters": self.num_parameters,
            **kept,
            "rms_behind_best": list(self.behind) if self.behind else None,
        }


def compare_laws(
    candidates: Sequence[RivalForm],
    loss: np.ndarray,
    by: str,
    column: np.ndarray,
    *,
    share: float = SHARE,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Rival]:
    """Fits every candidate without the largest runs, and ranks them by their error there.

    Args:
      candidates: the laws that the columns allow.
      loss: float64[points], above zero.
      by: what the largest runs are told by.
      column: float64[points], its values.
      share: of rows held out.
      confidence, seed: of the intervals.

    Returns:
      The laws, the best first; those without enough rows last.
    """
    rows = largest_rows(column, share)
    found = []
    for one in candidates:
        form = one.form
        held = predict_rows(form, np.column_stack(one.inputs), loss, rows, by, column, form.delta, {})
        formula = form.formula(held.parameters, 4) if held else ""
        found.append(Rival(one.label, formula, len(form.names) - len(form.constants), held, None))
    found.sort(key=lambda rival: rival.held_out.rms if rival.held_out else np.inf)
    return [_beside_best(rival, found[0], confidence, seed) for rival in found]


def _beside_best(rival: Rival, best: Rival, confidence: float, seed: int) -> Rival:
    if rival is best or rival.held_out is None or best.held_out is None:
        return rival
    rng = np.random.default_rng(seed)
    residuals = rival.held_out.residual, best.held_out.residual
    count = len(residuals[1])
    drawn = rng.integers(0, count, (DRAWS, count))
    own, other = (np.sqrt(np.mean(one[drawn] ** 2, axis=1)) for one in residuals)
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(own - other, [tail, 100.0 - tail])
    return dataclasses.replace(rival, behind=(float(low), float(high)))
