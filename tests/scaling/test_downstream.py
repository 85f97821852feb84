"""The sigmoid of accuracy against scipy's least squares."""

import numpy as np
import pytest
import scipy.optimize

from triarch.errors import UserError
from triarch.scaling.checks.diagnosis import diagnose
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.published.downstream import fit_downstream


def sigmoid(loss, ceiling, k, midpoint, floor=0.25):
    return floor + (ceiling - floor) / (1 + np.exp(k * (loss - midpoint)))


def test_exact_accuracies_give_the_sigmoid_back():
    loss = np.linspace(2.0, 4.0, 25)
    fit = fit_downstream(loss, sigmoid(loss, 0.9, 4.0, 2.9), FitOptions(bootstraps=0), floor=0.25)
    assert fit.parameters == pytest.approx({"ceiling": 0.9, "k": 4.0, "midpoint": 2.9}, rel=1e-6)
    np.testing.assert_allclose(fit.residuals(), 0.0, atol=1e-8)
    assert fit.formula(3) == "0.25 + 0.65 / (1 + exp(4 (loss - 2.9)))"


def test_with_a_wide_delta_it_is_scipys_least_squares():
    rng = np.random.default_rng(0)
    loss = np.linspace(2.0, 4.0, 40)
    accuracy = sigmoid(loss, 0.8, 5.0, 2.7) + 0.01 * rng.normal(size=40)
    fit = fit_downstream(loss, accuracy, FitOptions(delta=10.0, bootstraps=0), floor=0.25)
    best, _ = scipy.optimize.curve_fit(sigmoid, loss, accuracy, p0=[0.8, 5, 2.7], xtol=1e-14, ftol=1e-14)
    assert list(fit.parameters.values()) == pytest.approx(list(best), rel=1e-5)


def test_one_wild_accuracy_moves_little():
    loss = np.linspace(2.0, 4.0, 25)
    accuracy = sigmoid(loss, 0.9, 4.0, 2.9)
    accuracy[12] = 0.3
    fit = fit_downstream(loss, accuracy, FitOptions(bootstraps=100), floor=0.25)
    assert fit.parameters["midpoint"] == pytest.approx(2.9, abs=0.01)
    assert diagnose(fit).influence.outlying == (12,)


def test_a_ceiling_that_is_not_shown_is_said_and_can_be_held():
    loss = np.linspace(3.2, 4.0, 20)
    accuracy = sigmoid(loss, 3.0, 4.0, 2.7)
    fit = fit_downstream(loss, accuracy, FitOptions(bootstraps=0), floor=0.25)
    assert fit.parameters["ceiling"] <= 1.0
    assert any("at its bound of 1" in warning for warning in diagnose(fit).warnings)
    held = fit_downstream(loss, accuracy, FitOptions(fixed={"ceiling": 1.0}, bootstraps=0), floor=0.25)
    assert held.parameters["ceiling"] == pytest.approx(1.0, abs=1e-12)


def test_no_resample_puts_a_ceiling_above_one():
    """Half of the way up is all that is seen: the ceiling may be anything from there to 1, and nothing else."""
    rng = np.random.default_rng(1)
    loss = np.linspace(2.8, 4.0, 20)
    accuracy = sigmoid(loss, 0.8, 4.0, 2.8) + 0.01 * rng.normal(size=20)
    fit = fit_downstream(loss, accuracy, FitOptions(bootstraps=200), floor=0.25)
    assert accuracy.max() - 0.05 < fit.samples["ceiling"].min() and fit.samples["ceiling"].max() <= 1.0


HELD = {"options": FitOptions(fixed={"ceiling": 1.1})}


@pytest.mark.parametrize(
    ("accuracy", "given", "message"),
    [
        ([0.3, 0.5, 45.0, 0.7], {}, "accuracy, row 3: 45, expected a share from 0 to 1"),
        ([0.3, 0.5, np.nan, 0.7], {}, "accuracy, row 3: nan"),
        ([0.3, 0.5, 0.6, 0.7], {"floor": 1.5}, "floor is 1.5"),
        ([0.3, 0.5, 0.6, 0.7], HELD, "ceiling is 1.1, expected a number from 0 to 1"),
    ],
)
def test_bad_accuracies_are_refused(accuracy, given, message):
    with pytest.raises(UserError, match=message):
        fit_downstream(np.array([4.0, 3.5, 3.0, 2.5]), accuracy, **given)


def test_what_such_accuracies_cannot_show_is_said():
    loss = np.linspace(2, 4, 10)
    assert any("rises with loss" in w for w in fit_downstream(loss, 0.3 + loss / 10, FitOptions(bootstraps=0)).warnings)
    assert any(
        "below the floor" in w
        for w in fit_downstream(loss, 0.9 - loss / 5, FitOptions(bootstraps=0), floor=0.5).warnings
    )
    flat = fit_downstream(loss, np.full(10, 0.26), FitOptions(bootstraps=0), floor=0.25)
    assert any("not identified" in warning for warning in flat.warnings)


def test_a_ceiling_stays_below_one_in_every_resample_and_says_where_it_reaches_it():
    rng = np.random.default_rng(2)
    loss = np.linspace(2.9, 3.6, 24)  # Nothing near the ceiling.
    accuracy = 0.25 + 0.6 / (1 + np.exp(5 * (loss - 2.8))) + 0.01 * rng.normal(size=24)
    fit = fit_downstream(loss, accuracy, FitOptions(bootstraps=100), floor=0.25)
    assert fit.samples["ceiling"].max() <= 1.0 and fit.intervals["ceiling"][1] > 0.999
    assert any("the interval of ceiling reaches its bound of 1" in warning for warning in fit.warnings)
    wide = np.linspace(2.0, 3.6, 24)
    seen = 0.25 + 0.6 / (1 + np.exp(5 * (wide - 2.8))) + 0.005 * rng.normal(size=24)
    whole = fit_downstream(wide, seen, FitOptions(bootstraps=100), floor=0.25)
    assert not any("reaches" in warning for warning in whole.warnings)
