"""The law of repeated data against the paper's formulas, written out here by themselves, and finite differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triarch.errors import UserError
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.chinchilla import fit_chinchilla
from triarch.scaling.laws.published.data_constrained import RepeatedData, fit_data_constrained, unique_params

# Muennighoff et al. 2023: the law of C4 and the published worth of repeats.
PUBLISHED = {
    "E": np.exp(0.6254804), "A": np.exp(6.255414), "B": np.exp(7.3049974), "alpha": 0.3526596, "beta": 0.3526596,
    "R_D": 15.387756, "R_N": 5.309743,
}  # fmt: skip


def by_hand(n, d, u, p):
    """arXiv 2305.16264, eqs. 5 and 6, with U_N from Hoffmann et al. 2022, eq. 4, one run at a time."""
    g = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / (p["alpha"] + p["beta"]))
    flops = 6 * (u * g) ** ((p["alpha"] + p["beta"]) / p["alpha"])
    u_n = min(n, g * (flops / 6) ** (p["beta"] / (p["alpha"] + p["beta"])))
    r_d, r_n = d / u - 1, n / u_n - 1
    d_worth = u + u * p["R_D"] * (1 - np.exp(-r_d / p["R_D"]))
    n_worth = u_n + u_n * p["R_N"] * (1 - np.exp(-r_n / p["R_N"]))
    return p["E"] + p["A"] / n_worth ** p["alpha"] + p["B"] / d_worth ** p["beta"]


def design(points=60, seed=0):
    rng = np.random.default_rng(seed)
    params, unique = 10 ** rng.uniform(7, 9.7, points), 10 ** rng.uniform(8, 10.5, points)
    return params, unique * 10 ** rng.uniform(0, 2, points), unique


def test_predictions_are_the_papers():
    params, tokens, unique = design()
    expected = [by_hand(*run, PUBLISHED) for run in zip(params, tokens, unique, strict=True)]
    found = RepeatedData().predict(PUBLISHED, (params, tokens, unique))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_without_repeats_and_excess_it_is_chinchillas():
    params, tokens, _ = design()
    params = np.minimum(params, unique_params(PUBLISHED, tokens))
    chinchilla = PUBLISHED["E"] + PUBLISHED["A"] / params**0.3526596 + PUBLISHED["B"] / tokens**0.3526596
    np.testing.assert_allclose(RepeatedData().predict(PUBLISHED, (params, tokens, tokens)), chinchilla, rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_gradient_is_finite_differences(seed):
    rng = np.random.default_rng(seed)
    params, tokens, unique = design(15, seed)
    loss = RepeatedData().predict(PUBLISHED, (params, tokens, unique))
    # A wide delta, so that no point stands within a step of the kink in the second derivative.
    problem = RepeatedData().problem(np.column_stack([params, tokens, unique]), loss, 50.0)
    theta = problem.starts[rng.integers(len(problem.starts))] + 0.05 * rng.normal(size=7)
    steps = 1e-6 * np.eye(7)
    value = lambda one: problem.objective.value_and_gradient(one[None])[0][0]  # noqa: E731
    slopes = [(value(theta + step) - value(theta - step)) / 2e-6 for step in steps]
    gradient = problem.objective.value_and_gradient(theta[None])[1][0]
    np.testing.assert_allclose(gradient, slopes, rtol=2e-4, atol=1e-7)


def test_the_worth_of_repeats_is_recovered_with_the_law_held_and_with_all_free():
    params, tokens, unique = design(120)
    loss = RepeatedData().predict(PUBLISHED, (params, tokens, unique))
    held = {name: PUBLISHED[name] for name in ("E", "A", "B", "alpha", "beta")}
    fit = fit_data_constrained(params, tokens, unique, loss, FitOptions(fixed=held, bootstraps=0))
    assert fit.parameters["R_D"] == pytest.approx(15.387756, rel=1e-5)
    assert fit.parameters["R_N"] == pytest.approx(5.309743, rel=1e-5)
    free = fit_data_constrained(params, tokens, unique, loss, FitOptions(bootstraps=0))
    assert free.parameters == pytest.approx(PUBLISHED, rel=1e-3)
    assert "R_D = 15.4" in free.formula()


def test_repeats_matter_to_the_fit(few_starts):
    params, tokens, unique = design(80)
    loss = RepeatedData().predict(PUBLISHED, (params, tokens, unique))
    assert fit_chinchilla(params, tokens, loss, FitOptions(bootstraps=0)).objective > 1e-3


def test_what_cannot_be_is_refused():
    params, tokens, unique = design(20)
    with pytest.raises(UserError, match=r"U, row 1: .* different tokens in"):
        fit_data_constrained(params, unique, tokens, np.full(20, 3.0))
    with pytest.raises(UserError, match="no row repeats data"):
        fit_data_constrained(params, tokens, tokens, np.full(20, 3.0))
    few = fit_data_constrained(
        params, np.minimum(tokens, 2 * unique), unique, np.linspace(3, 2, 20), FitOptions(bootstraps=0)
    )
    assert any("repeated 2.0 times at most" in warning for warning in few.warnings)
