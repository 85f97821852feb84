"""What an optimiser would have done with the mean of the losses instead of their sum."""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy
import threadpoolctl

from triarch.scaling.fitting.result import Fit

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
    """Fits a law as published code did: L-BFGS-B, the mean, logarithms as they come.

    The mean of a few hundred losses of size 1e-5 moves less than a default tolerance long before its minimum
    (Besiroglu et al. 2024, arXiv 2404.10102, found this behind Hoffmann et al.'s estimates).

    Returns:
      None for laws that no such code is known of.
    """
    problem = fit.form.as_published(fit.values, fit.target, fit.delta)
    if problem is None or fit.fixed:
        return None
    share = fit.delta / fit.num_points

    def mean(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = problem.objective.value_and_gradient(theta[None])
        return value[0] * share, gradient[0] * share

    starts = problem.starts[:: max(1, len(problem.starts) // STARTS)]
    # For matrices of a few numbers OpenBLAS would wake its threads tens of thousands of times.
    with threadpoolctl.threadpool_limits(1, "blas"):
        ended = [scipy.optimize.minimize(mean, start, jac=True, method="L-BFGS-B") for start in starts]
    best = min(ended, key=lambda result: result.fun)
    parameters = {name: float(column[0]) for name, column in problem.parameters(best.x[None]).items()}
    excess = best.fun * fit.num_points / max(fit.objective, 1e-300) - 1.0
    return MeanObjective(parameters, float(excess))
