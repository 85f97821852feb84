"""What an optimiser would have done with the mean of the losses instead of their sum."""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.optimize
import threadpoolctl

from triarch.scaling.fitting.objective import HuberObjective
from triarch.scaling.fitting.result import Fit
from triarch.scaling.laws.forms import PowerSum, hoffmann_grid

STARTS = 90


@dataclasses.dataclass(frozen=True)
class MeanObjective:
    """Where L-BFGS-B stops, with its default tolerances, on the mean of the Huber losses.

    Attributes:
      parameters: the best it ends at, over a sample of the published starts.
      excess: how far above the minimum that is, as a share of the minimum.
    """

    parameters: dict[str, float]
    excess: float


def stopped_early(fit: Fit) -> MeanObjective | None:
    """Fits a Chinchilla law as published code did: L-BFGS-B, the mean, logarithms as they come.

    The mean of a few hundred losses of size 1e-5 moves less than a default tolerance long before its minimum
    (Besiroglu et al. 2024, arXiv 2404.10102, found this behind Hoffmann et al.'s estimates).

    Returns:
      None for other laws.
    """
    if not isinstance(fit.form, PowerSum) or fit.law != "chinchilla" or not fit.offset_fitted or fit.fixed:
        return None
    objective = HuberObjective(np.log(fit.values), np.log(fit.target), True, fit.delta)
    share = fit.delta / fit.num_points

    def mean(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = objective.value_and_gradient(theta[None])
        return value[0] * share, gradient[0] * share

    grid = hoffmann_grid()
    starts = grid[:: len(grid) // STARTS]
    # For matrices of a few numbers OpenBLAS would wake its threads tens of thousands of times.
    with threadpoolctl.threadpool_limits(1, "blas"):
        ended = [scipy.optimize.minimize(mean, start, jac=True, method="L-BFGS-B") for start in starts]
    best = min(ended, key=lambda result: result.fun)
    a, b, alpha, beta, e = best.x
    parameters = {"E": np.exp(e), "A": np.exp(a), "B": np.exp(b), "alpha": alpha, "beta": beta}
    excess = best.fun * fit.num_points / max(fit.objective, 1e-300) - 1.0
    return MeanObjective({name: float(value) for name, value in parameters.items()}, float(excess))
