"""The objective against scipy's Huber loss, and its derivatives against finite differences."""

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from triarch.scaling.fitting.objective import HuberObjective


def problem(seed, terms, offset, points=37, delta=1e-3):
    rng = np.random.default_rng(seed)
    return HuberObjective(rng.normal(size=(points, terms)), rng.normal(size=points), offset, delta)


def direct_value(objective, theta, counts=None):
    """The definition, term by term: Hoffmann et al. 2022, eq. 3."""
    terms = objective.num_terms
    logs = [theta[k] - theta[terms + k] * objective.log_inputs[:, k] for k in range(terms)]
    logs += [np.full(len(objective.log_loss), theta[-1])] if objective.offset else []
    residual = scipy.special.logsumexp(logs, axis=0) - objective.log_loss
    counts = np.ones(len(residual)) if counts is None else counts
    return float(np.sum(counts * scipy.special.huber(objective.delta, residual))) / objective.delta


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000), terms=st.sampled_from([1, 2]), offset=st.booleans(), delta=st.sampled_from([1e-3, 0.3])
)
def test_value_is_the_sum_of_huber_losses(seed, terms, offset, delta):
    objective = problem(seed, terms, offset, delta=delta)
    theta = np.random.default_rng(seed + 1).normal(size=(700, objective.num_parameters))  # More than one chunk.
    value, _ = objective.value_and_gradient(theta)
    np.testing.assert_allclose(value, [direct_value(objective, one) for one in theta], rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), terms=st.sampled_from([1, 2]), offset=st.booleans())
def test_gradient_and_hessian_are_finite_differences(seed, terms, offset):
    # A wide delta, so that no point stands within a step of the kink in the second derivative.
    objective = problem(seed, terms, offset, points=11, delta=50.0)
    theta = np.random.default_rng(seed + 1).normal(size=objective.num_parameters)
    _, gradient = objective.value_and_gradient(theta[None])
    step = 1e-5 * np.eye(len(theta))
    slopes = [(direct_value(objective, theta + s) - direct_value(objective, theta - s)) / 2e-5 for s in step]
    np.testing.assert_allclose(gradient[0], slopes, rtol=1e-6, atol=1e-8)
    ahead, behind = (objective.value_and_gradient(theta + sign * step)[1] for sign in (1, -1))
    np.testing.assert_allclose(objective.hessian(theta), (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-8)


def test_gradient_in_the_absolute_regime():
    objective = problem(3, 2, True, delta=1e-3)
    theta = np.random.default_rng(4).normal(size=5)
    slopes = [
        (direct_value(objective, theta + s) - direct_value(objective, theta - s)) / 2e-7 for s in 1e-7 * np.eye(5)
    ]
    np.testing.assert_allclose(objective.value_and_gradient(theta[None])[1][0], slopes, rtol=1e-5)


def test_weights_count_rows():
    objective = problem(5, 2, True)
    rng = np.random.default_rng(6)
    theta, counts = rng.normal(size=(4, 5)), rng.integers(0, 4, size=(4, 37)).astype(float)
    value, gradient = objective.value_and_gradient(theta, counts)
    for i in range(4):
        repeated = np.repeat(np.arange(37), counts[i].astype(int))
        own = HuberObjective(objective.log_inputs[repeated], objective.log_loss[repeated], True)
        expected_value, expected_gradient = own.value_and_gradient(theta[i : i + 1])
        np.testing.assert_allclose(value[i], expected_value[0], rtol=1e-12)
        np.testing.assert_allclose(gradient[i], expected_gradient[0], rtol=1e-10)


@pytest.mark.parametrize("extreme", [800.0, -800.0])
def test_extreme_parameters_neither_overflow_nor_underflow(extreme):
    objective = problem(7, 2, True)
    value, gradient = objective.value_and_gradient(np.array([[extreme, 1.0, 1.0, 1.0, -1.0]]))
    assert np.isfinite(value).all() and np.isfinite(gradient).all()
