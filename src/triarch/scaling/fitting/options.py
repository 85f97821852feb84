"""How a law is fitted, whichever law it is: the bootstrap behind its intervals, the Huber loss, what is held fixed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from triarch.errors import UserError


@dataclasses.dataclass(frozen=True)
class FitOptions:
    """Options that every law takes; one that has no use for one leaves it.

    Attributes:
      bootstraps: resamples for the intervals; 0 for none.
      confidence: of the percentile intervals.
      seed: of the resampling.
      weights: float64[bootstraps, rows], how often each row counts in each resample, where rows are not drawn one by
        one (pairs, clusters); of cells, by N and then by D, for the learning-rate law. None draws them here.
      freedom: of `weights`, how many units were drawn less one, where these are so few that their own spread is unsure;
        None where it is not.
      keys: a name for each row, where residuals, errors or whole runs are drawn: fits to runs of the same names and
        seed draw those of the same runs. None draws for this fit alone.
      delta: where the Huber loss turns from square to absolute, in log units (of accuracy where the law is of
        accuracy); infinite for least squares, None for the law's own.
      fixed: parameters held at given values, or equal to another one, by its name.

    Raises:
      UserError: a confidence outside (0, 1), a delta that is not above zero, or fewer than no bootstraps.
    """

    bootstraps: int = 1000
    confidence: float = 0.95
    seed: int = 0
    weights: np.ndarray | None = None
    freedom: int | None = None
    keys: Sequence[str] | None = None
    delta: float | None = None
    fixed: Mapping[str, float | str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0.0 < self.confidence < 1.0:
            raise UserError(f"confidence is {self.confidence}, expected a number between 0 and 1, such as 0.95")
        if self.delta is not None and not self.delta > 0:
            raise UserError(f"huber_delta is {self.delta:g}, expected a number above zero, or squares")
        if self.bootstraps < 0:
            raise UserError(f"bootstraps is {self.bootstraps}, expected 0 or more")

    def interval(self, samples: np.ndarray) -> tuple[float, float]:
        """Returns the percentile interval of float64[bootstraps]."""
        tail = 50.0 * (1.0 - self.confidence)
        low, high = np.percentile(samples, [tail, 100.0 - tail])
        return float(low), float(high)

    def for_group(self, index: int) -> FitOptions:
        """Returns the options for one of several groups: their runs are different runs, so each draws its own."""
        return dataclasses.replace(self, seed=self.seed + index)


DEFAULTS = FitOptions()
