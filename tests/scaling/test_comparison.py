"""Two architectures whose laws are known: exponents, gaps, frontiers, crossover and multiplier."""

import json

import numpy as np
import pytest
import scipy.optimize

from triarch.scaling.checks.comparison import compare_chinchilla, compare_frontiers
from triarch.scaling.checks.frontier import Frontier, crossover
from triarch.scaling.fitting.bootstrap import paired_weights
from triarch.scaling.fitting.cost import Cost
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.chinchilla import compute_optimal, fit_chinchilla, optima
from triarch.scaling.laws.power import fit_power

pytestmark = pytest.mark.usefixtures("few_starts")

FIRST = {"E": 1.8, "A": 400.0, "B": 1800.0, "alpha": 0.34, "beta": 0.36}
SECOND = {"E": 1.75, "A": 520.0, "B": 2100.0, "alpha": 0.345, "beta": 0.36}


def design(points=40, seed=0):
    rng = np.random.default_rng(seed)
    params = 10 ** rng.uniform(7, 10, points)
    return params, params * 10 ** rng.uniform(0.5, 2.2, points)


def loss_of(law, params, tokens):
    return law["E"] + law["A"] / params ** law["alpha"] + law["B"] / tokens ** law["beta"]


def exact(law):
    params, tokens = design()
    return fit_chinchilla(params, tokens, loss_of(law, params, tokens), FitOptions(bootstraps=0))


@pytest.mark.parametrize("cost", [Cost(), Cost(2.4, 1.07, "paper")])
def test_the_frontier_is_the_least_loss_for_a_budget(cost):
    fit = exact(FIRST)
    frontier = Frontier.of_chinchilla(fit, cost)
    for flops in (1e17, 1e20, 1e23):
        best = scipy.optimize.minimize_scalar(
            lambda log_n, c=flops: float(fit.predict(np.exp(log_n), cost.tokens(np.exp(log_n), c))),
            bounds=(np.log(1e5), np.log(1e13)), method="bounded", options={"xatol": 1e-10},
        )  # fmt: skip
        assert float(frontier.loss(flops)) == pytest.approx(best.fun, rel=1e-9)
        params, tokens = compute_optimal(fit, flops, cost)
        assert params == pytest.approx(np.exp(best.x), rel=1e-3)
        assert cost.flops(params, tokens) == pytest.approx(flops, rel=1e-9)
        assert frontier.needed(best.fun)[0] == pytest.approx(flops, rel=1e-6)


def test_costs_are_read_off_runs():
    params, tokens = design()
    cost = Cost.of_runs(params, tokens, 3.1 * params**1.04 * tokens, "paper")
    assert (cost.coefficient, cost.exponent) == pytest.approx((3.1, 1.04))
    single = Cost.of_runs(np.full(4, 1e8), tokens[:4], 6e8 * tokens[:4], "one size")
    assert (single.coefficient, single.exponent) == pytest.approx((6.0, 1.0))


def test_the_crossover_is_where_the_laws_meet():
    first = fit_power(
        np.geomspace(1e17, 1e21, 12), 1.8 + 200 * np.geomspace(1e17, 1e21, 12) ** -0.12, FitOptions(bootstraps=0)
    )
    second = fit_power(
        np.geomspace(1e17, 1e21, 12), 1.9 + 230 * np.geomspace(1e17, 1e21, 12) ** -0.13, FitOptions(bootstraps=0)
    )
    frontiers = [Frontier.of_power(fit, "C") for fit in (first, second)]
    met = crossover(*frontiers)
    root = scipy.optimize.brentq(
        lambda log_c: 1.8 + 200 * np.exp(-0.12 * log_c) - 1.9 - 230 * np.exp(-0.13 * log_c), np.log(1e20), np.log(1e26)
    )
    assert met.x == pytest.approx(np.exp(root), rel=0.02)
    below = 1e17
    ahead = int(frontiers[1].loss(below) < frontiers[0].loss(below))
    assert met.ahead_below == ahead
    compared = compare_frontiers(("a", "b"), (first, second), [tuple(frontiers)], 0)
    assert {one.what: one.difference for one in compared.parameters}["alpha"] == pytest.approx(0.01, rel=1e-5)


def test_laws_that_do_not_meet_have_no_crossover():
    x = np.geomspace(1e17, 1e21, 12)
    first, second = (fit_power(x, 1.8 + scale * x**-0.12, FitOptions(bootstraps=0)) for scale in (200, 220))
    met = crossover(Frontier.of_power(first, "C"), Frontier.of_power(second, "C"))
    assert met.x is None and met.ahead_below == 0
    compared = compare_frontiers(("a", "b"), (first, second), [(Frontier.of_power(first, "C"),
                                                               Frontier.of_power(second, "C"))], 0)  # fmt: skip
    # Equal exponents and offsets: the second needs (220 / 200)^(1 / 0.12) times the compute at every loss.
    for multiplier in compared.axes[0].multipliers:
        assert multiplier.difference == pytest.approx(1.1 ** (1 / 0.12), rel=1e-4)


def test_gaps_at_equal_size_tokens_and_compute_are_the_laws():
    first, second = exact(FIRST), exact(SECOND)
    half = Cost(3.0, 1.0, "paper")
    found = compare_chinchilla(("dec", "red"), first, second, [(Cost(), half)], 0)
    for gap in found.gaps:
        assert gap.difference == pytest.approx(gap.second - gap.first)
    by_size = [gap for gap in found.gaps if gap.what == "N"]
    middle = np.sqrt(first.values[:, 1].min() * first.values[:, 1].max())
    for gap in by_size:
        expected = loss_of(SECOND, gap.at, middle) - loss_of(FIRST, gap.at, middle)
        assert gap.difference == pytest.approx(expected, abs=1e-7)
    difference = {one.what: one.difference for one in found.parameters}
    assert difference["alpha"] == pytest.approx(0.005, abs=1e-6)
    exponent = SECOND["beta"] / (SECOND["alpha"] + SECOND["beta"]) - FIRST["beta"] / (FIRST["alpha"] + FIRST["beta"])
    assert difference["optimal_exponent_N"] == pytest.approx(exponent, abs=1e-6)
    json.dumps(found.to_json(), allow_nan=False)


def test_pairs_share_their_noise_and_narrow_the_difference():
    rng = np.random.default_rng(1)
    params, tokens = design(60)
    shared = np.exp(0.02 * rng.normal(size=60))
    own = [np.exp(0.001 * rng.normal(size=60)) for _ in range(2)]
    values = np.column_stack([params, tokens])
    weights = paired_weights([range(60)] * 2, [values] * 2, 150, 5, 0)
    np.testing.assert_array_equal(weights[0], weights[1])
    losses = [loss_of(law, params, tokens) * shared * noise for law, noise in zip((FIRST, SECOND), own, strict=True)]
    paired = [
        fit_chinchilla(params, tokens, loss, FitOptions(bootstraps=150, weights=w))
        for loss, w in zip(losses, weights, strict=True)
    ]
    apart = [
        fit_chinchilla(params, tokens, loss, FitOptions(bootstraps=150, seed=seed)) for seed, loss in enumerate(losses)
    ]

    def width(fits):
        found = compare_chinchilla(("a", "b"), *fits, [(Cost(), Cost())], 60)
        low, high = next(one.interval for one in found.parameters if one.what == "alpha")
        return high - low

    assert width(paired) < 0.5 * width(apart)


def test_keys_bind_rows_within_and_across_groups():
    keys = [["a", "a", "b", "c", "d"], ["d", "c", "b", "a"]]
    values = [np.array([[1.0], [2], [3], [4], [5]]), np.array([[1.0], [2], [3], [4]])]
    first, second = paired_weights(keys, values, 200, 2, 0)
    np.testing.assert_array_equal(first[:, 0], first[:, 1])
    np.testing.assert_array_equal(first[:, [0, 2, 3, 4]], second[:, [3, 2, 1, 0]])
    assert paired_weights(keys, values, 10, 4, 0) is None


def test_optima_for_a_budget_carry_intervals():
    rng = np.random.default_rng(2)
    params, tokens = design()
    loss = loss_of(FIRST, params, tokens) * np.exp(0.003 * rng.normal(size=40))
    fit = fit_chinchilla(params, tokens, loss, FitOptions(bootstraps=200))
    (best,) = optima(fit, Cost(), [1e21])
    expected = Cost().optimum(FIRST, 1e21)
    assert best.params_interval[0] < expected[0] < best.params_interval[1]
    assert best.tokens_interval[0] < expected[1] < best.tokens_interval[1]
    assert best.loss_interval[0] < loss_of(FIRST, *expected) < best.loss_interval[1]
    assert best.beyond == pytest.approx(1e21 / (6 * params * tokens).max())
