"""The batched minimiser against scipy, start by start."""

import numpy as np
import pytest
import scipy.optimize

from triarch.scaling.fitting import bfgs
from triarch.scaling.fitting.objective import HuberObjective
from triarch.scaling.laws.power_sum import PowerSum


def noisy_problem(points, noise, seed=0):
    rng = np.random.default_rng(seed)
    log_inputs = np.log(np.column_stack([10 ** rng.uniform(7, 10, points), 10 ** rng.uniform(8.5, 11.5, points)]))
    loss = 1.7 + 400 * np.exp(-0.34 * log_inputs[:, 0]) + 410 * np.exp(-0.28 * log_inputs[:, 1])
    log_loss = np.log(loss) + noise * rng.standard_t(4, points)
    return HuberObjective(log_inputs - log_inputs.mean(axis=0), log_loss - log_loss.mean(), True)


def all_starts(objective):
    return PowerSum(("N", "D"))._starts(objective)


def scipy_best(objective, starts, weights=None):
    weights = None if weights is None else weights[None]

    def value(theta):
        found, gradient = objective.value_and_gradient(theta[None], weights)
        return found[0], gradient[0]

    ended = [scipy.optimize.minimize(value, start, jac=True, method="BFGS", options={"gtol": 1e-9}) for start in starts]
    return min(ended, key=lambda result: result.fun)


@pytest.mark.slow
def test_best_of_all_starts_is_scipys():
    objective = noisy_problem(30, 0.02)
    starts = all_starts(objective)
    assert len(starts) == 4500
    batched = bfgs.minimize(objective, starts)
    reference = scipy_best(objective, starts[::90])
    best = bfgs.polish(objective, batched.theta[batched.value.argmin()])
    assert objective.value_and_gradient(best[None])[0][0] <= reference.fun * (1 + 1e-9)
    np.testing.assert_allclose(best, reference.x, atol=1e-4)


def test_no_start_ends_above_where_scipy_takes_it_by_much():
    objective = noisy_problem(40, 0.01, seed=3)
    starts = all_starts(objective)[7::300]
    batched = bfgs.minimize(objective, starts)
    alone = np.array([scipy_best(objective, [start]).fun for start in starts])
    assert np.mean(batched.value <= alone * 1.001 + 1e-9) > 0.9


def test_weighted_problems_are_solved_each_by_its_own_weights():
    objective = noisy_problem(30, 0.02)
    weights = np.random.default_rng(1).multinomial(30, np.full(30, 1 / 30), 6).astype(float)
    start = bfgs.minimize(objective, all_starts(objective)[::100])
    best = start.theta[start.value.argmin()]
    batched = bfgs.minimize(objective, np.repeat(best[None], 6, axis=0), weights)
    for i in range(6):
        reference = scipy_best(objective, [best], weights[i])
        np.testing.assert_allclose(batched.value[i], reference.fun, rtol=1e-5)


def test_polish_reaches_a_stationary_point_and_never_climbs():
    objective = noisy_problem(50, 0.01)
    ended = bfgs.minimize(objective, all_starts(objective)[::50], tolerance=1e-3)
    rough = ended.theta[ended.value.argmin()]
    fine = bfgs.polish(objective, rough)
    value, gradient = objective.value_and_gradient(np.stack([rough, fine]))
    assert value[1] <= value[0]
    assert np.abs(gradient[1]).max() < 1e-6


def test_a_result_depends_on_its_own_start_only():
    objective = noisy_problem(25, 0.02)
    starts = all_starts(objective)[::500]
    together = bfgs.minimize(objective, starts)
    alone = bfgs.minimize(objective, starts[4:5])
    np.testing.assert_allclose(together.value[4], alone.value[0], rtol=1e-8)
