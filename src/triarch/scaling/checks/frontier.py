"""The least loss for a budget, E + K / C^gamma, of one architecture; where two of them cross, and at what cost."""

from __future__ import annotations

import dataclasses

import numpy as np

from triarch.scaling.fitting.allocation import Allocation
from triarch.scaling.fitting.cost import Cost
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.fitting.result import Fit

# A crossover is looked for this far beyond what was measured.
LOOK_BEYOND = 1e3
GRID = 600


@dataclasses.dataclass(frozen=True)
class Frontier:
    """A law of one input, as power laws have and as compute-optimal training follows.

    Attributes:
      axis: what the input is, "flops_train" or "N".
      E, K, gamma: the law E + K / x^gamma.
      samples: float64[bootstraps, 3], the same three for each resample; None without bootstraps.
      low, high: the range of x that was measured.
      options: of the intervals.
    """

    axis: str
    E: float
    K: float
    gamma: float
    samples: np.ndarray | None
    low: float
    high: float
    options: FitOptions

    @classmethod
    def of_power(cls, fit: Fit, axis: str) -> Frontier:
        """Takes a power law in any input."""
        names = ("E", "A", "alpha")
        samples = np.column_stack([fit.samples[name] for name in names]) if fit.samples else None
        E, K, gamma = (fit.parameters[name] for name in names)
        x = fit.values[:, 0]
        return cls(axis, E, K, gamma, samples, float(x.min()), float(x.max()), fit.options)

    @classmethod
    def of_chinchilla(cls, fit: Fit, cost: Cost) -> Frontier:
        """Takes the compute-optimal runs of a Chinchilla law at a cost."""
        K, gamma = cost.frontier(fit.parameters)
        samples = None
        if fit.samples:
            with np.errstate(all="ignore"):
                drawn = cost.frontier(fit.samples)
            samples = np.column_stack([fit.samples["E"], *drawn])
        flops = cost.flops(*fit.values[:, :2].T)
        return cls(cost.name, fit.parameters["E"], float(K), float(gamma), samples, float(flops.min()),
                   float(flops.max()), fit.options)  # fmt: skip

    @classmethod
    def of_allocation(cls, fit: Allocation, axis: str) -> Frontier:
        """Takes the line through the losses of found optima; it has no offset."""
        p = fit.parameters
        samples = None
        if fit.samples:
            samples = np.column_stack([np.zeros(fit.bootstraps), fit.samples["k_L"], -fit.samples["c"]])
        return cls(axis, 0.0, p["k_L"], -p["c"], samples, float(fit.flops.min()), float(fit.flops.max()), fit.options)

    def loss(self, x: np.ndarray | float) -> np.ndarray:
        """Returns the loss at x."""
        return self.E + self.K * np.asarray(x, np.float64) ** -self.gamma

    def losses(self, x: np.ndarray) -> np.ndarray:
        """Returns each resample's loss at x float64[points], float64[bootstraps, points]."""
        assert self.samples is not None
        offset, scale, exponent = self.samples.T[:, :, None]
        with np.errstate(all="ignore"):
            return offset + scale * np.atleast_1d(x)[None, :] ** -exponent

    def needed(self, loss: float) -> tuple[float, np.ndarray | None]:
        """Returns the x that reaches a loss, and each resample's (infinite where E is above the loss)."""
        drawn = None
        if self.samples is not None:
            drawn = _inverse(loss, *self.samples.T)
        return float(_inverse(loss, np.array(self.E), np.array(self.K), np.array(self.gamma))), drawn


def _inverse(loss: float, offset: np.ndarray, scale: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.where(loss > offset, (scale / np.maximum(loss - offset, 1e-300)) ** (1.0 / exponent), np.inf)


@dataclasses.dataclass(frozen=True)
class Crossover:
    """Where two frontiers meet.

    Attributes:
      x: of the meeting; None where they do not meet within what was looked at.
      interval: over the resamples that have one; None without.
      share: of the resamples that have one.
      ahead_below: 0 or 1, which of the two has the lower loss below it (everywhere, if they do not meet).
      measured: whether x lies within the range both measured.
    """

    x: float | None
    interval: tuple[float, float] | None
    share: float | None
    ahead_below: int
    measured: bool


def crossover(first: Frontier, second: Frontier) -> Crossover:
    """Returns where the second frontier's loss passes the first's, nearest to the middle of what was measured.

    Looked for up to LOOK_BEYOND times beyond the measured range to either side.
    """
    low, high = min(first.low, second.low), max(first.high, second.high)
    log_x = np.linspace(np.log(low / LOOK_BEYOND), np.log(high * LOOK_BEYOND), GRID)
    x = np.exp(log_x)
    gap = second.loss(x) - first.loss(x)
    root = float(_roots(log_x, gap[None], 0.5 * np.log(low * high))[0])
    ahead = int(gap[np.searchsorted(log_x, root) - 1 if np.isfinite(root) else GRID // 2] < 0)
    common = (max(first.low, second.low), min(first.high, second.high))
    measured = bool(np.isfinite(root) and common[0] <= np.exp(root) <= common[1])
    interval = share = None
    if first.samples is not None and second.samples is not None:
        count = min(len(first.samples), len(second.samples))
        drawn = second.losses(x)[:count] - first.losses(x)[:count]
        near = root if np.isfinite(root) else 0.5 * np.log(low * high)
        roots = _roots(log_x, drawn, near)
        share = float(np.mean(np.isfinite(roots)))
        found = roots[np.isfinite(roots)]
        if len(found) > 1 and np.isfinite(root):
            below, above = first.options.interval(found)
            interval = (float(np.exp(below)), float(np.exp(above)))
    return Crossover(float(np.exp(root)) if np.isfinite(root) else None, interval, share, ahead, measured)


def _roots(log_x: np.ndarray, gap: np.ndarray, near: float) -> np.ndarray:
    """Returns where rows float64[draws, grid] change sign, the place nearest to `near`; NaN where they do not."""
    changes = (gap[:, :-1] * gap[:, 1:]) < 0
    with np.errstate(all="ignore"):
        share = gap[:, :-1] / (gap[:, :-1] - gap[:, 1:])
    places = log_x[:-1] + share * np.diff(log_x)
    distance = np.where(changes, np.abs(places - near), np.inf)
    best = distance.argmin(axis=1)
    rows = np.arange(len(gap))
    return np.where(np.isfinite(distance[rows, best]), places[rows, best], np.nan)
