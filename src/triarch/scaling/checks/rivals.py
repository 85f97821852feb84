"""Laws compared by how they predict the largest runs, all fitted to the same smaller ones."""

from __future__ import annotations

import dataclasses

import numpy as np

from triarch.scaling.checks.extrapolation import SHARE, HeldOut, largest_rows, predict_rows
from triarch.scaling.fitting.objective import DELTA
from triarch.scaling.laws.data_constrained import DataConstrained
from triarch.scaling.laws.forms import Form, PowerSum

DRAWS = 2000


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
    columns: dict[str, np.ndarray],
    loss: np.ndarray,
    *,
    share: float = SHARE,
    confidence: float = 0.95,
    seed: int = 0,
    delta: float = DELTA,
) -> list[Rival]:
    """Fits every law that the columns allow without the largest runs, and ranks them by their error there.

    Args:
      columns: "params" and "tokens" (and "unique_tokens"), or "x"; float64[points] each, above zero.
      loss: float64[points], above zero.
      share: of rows held out, the largest sizes (or x).
      confidence, seed: of the intervals.
      delta: of the Huber loss.

    Returns:
      The laws, the best first; those without enough rows last.
    """
    by = "params" if "params" in columns else "x"
    rows = largest_rows(columns[by], share)
    found = []
    for label, form, inputs in _candidates(columns):
        values = np.column_stack(inputs)
        held = predict_rows(form, values, loss, rows, by, columns[by], delta, {})
        formula = form.formula(held.parameters, 4) if held else ""
        found.append(Rival(label, formula, len(form.names) - len(form.constants), held, None))
    found.sort(key=lambda rival: rival.held_out.rms if rival.held_out else np.inf)
    return [_beside_best(rival, found[0], confidence, seed) for rival in found]


def _candidates(columns: dict[str, np.ndarray]) -> list[tuple[str, Form, list[np.ndarray]]]:
    if "x" in columns:
        x = [columns["x"]]
        return [("power with offset", PowerSum(("x",)), x), ("pure power", PowerSum(("x",), offset=False), x)]
    n, d = columns["params"], columns["tokens"]
    flops = [6.0 * n * d]
    found = [
        ("chinchilla", PowerSum(("N", "D")), [n, d]),
        ("chinchilla without offset", PowerSum(("N", "D"), offset=False), [n, d]),
        ("power in N with offset", PowerSum(("N",)), [n]),
        ("pure power in N", PowerSum(("N",), offset=False), [n]),
        ("power in D with offset", PowerSum(("D",)), [d]),
        ("power in C = 6ND with offset", PowerSum(("C",)), flops),
        ("pure power in C = 6ND", PowerSum(("C",), offset=False), flops),
    ]
    if "unique_tokens" in columns:
        found.append(("data-constrained", DataConstrained(), [n, d, columns["unique_tokens"]]))
    return found


def _beside_best(rival: Rival, best: Rival, confidence: float, seed: int) -> Rival:
    if rival is best or rival.held_out is None or best.held_out is None:
        return rival
    rng = np.random.default_rng(seed)
    count = len(best.held_out.residual)
    drawn = rng.integers(0, count, (DRAWS, count))
    own, other = (np.sqrt(np.mean(one.held_out.residual[drawn] ** 2, axis=1)) for one in (rival, best))
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(own - other, [tail, 100.0 - tail])
    return dataclasses.replace(rival, behind=(float(low), float(high)))
