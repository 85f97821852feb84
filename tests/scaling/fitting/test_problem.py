"""Posed problems: parameters read off theta, held, and recovered."""

import numpy as np
import pytest

from triarch.errors import UserError
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.chinchilla import fit_chinchilla
from triarch.scaling.laws.power import fit_power
from triarch.scaling.laws.power_sum import PowerSum

pytestmark = pytest.mark.usefixtures("few_starts")

LAW = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}


def runs(points=30, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    params, tokens = 10 ** rng.uniform(7, 10, points), 10 ** rng.uniform(9, 11, points)
    loss = LAW["E"] + LAW["A"] / params ** LAW["alpha"] + LAW["B"] / tokens ** LAW["beta"]
    return params, tokens, loss * np.exp(noise * rng.normal(size=points))


def test_coordinates_read_what_predict_takes():
    params, tokens, loss = runs()
    form = PowerSum(("N", "D"))
    problem = form.problem(np.column_stack([params, tokens]), loss, 1e-3)
    theta = problem.starts[34]
    parameters = {name: float(value[0]) for name, value in problem.parameters(theta[None]).items()}
    log_prediction = np.log(form.predict(parameters, (params, tokens)))
    value = problem.objective.value_and_gradient(theta[None])[0][0] * 1e-3
    residual = np.abs(log_prediction - np.log(loss))
    expected = np.where(residual < 1e-3, residual**2 / 2, 1e-3 * (residual - 5e-4)).sum()
    assert value == pytest.approx(expected, rel=1e-10)


def test_a_held_parameter_stays_and_the_others_are_at_their_minimum():
    params, tokens, loss = runs(noise=0.01)
    fit = fit_chinchilla(params, tokens, loss, FitOptions(fixed={"E": 1.6, "A": 400.0}, bootstraps=50))
    assert fit.parameters["E"] == pytest.approx(1.6, rel=1e-12)
    assert fit.parameters["A"] == pytest.approx(400.0, rel=1e-9)
    assert set(fit.intervals) == {"B", "alpha", "beta"}
    np.testing.assert_allclose(fit.samples["A"], 400.0, rtol=1e-9)
    for name in ("B", "alpha", "beta"):
        for factor in (1 - 1e-4, 1 + 1e-4):
            moved = fit_chinchilla(
                params,
                tokens,
                loss,
                FitOptions(fixed={**fit.parameters, name: fit.parameters[name] * factor}, bootstraps=0),
            )
            assert moved.objective >= fit.objective


def test_holding_the_truth_recovers_the_rest():
    params, tokens, loss = runs()
    fit = fit_chinchilla(params, tokens, loss, FitOptions(fixed={"E": LAW["E"], "beta": LAW["beta"]}, bootstraps=0))
    assert fit.parameters == pytest.approx(LAW, rel=1e-7)
    assert fit.to_json()["fixed"] == {"E": LAW["E"], "beta": LAW["beta"]}


def test_pinned_gradient_and_hessian_are_finite_differences():
    params, tokens, loss = runs(12)
    problem = PowerSum(("N", "D")).problem(np.column_stack([params, tokens]), loss, 50.0).pin({"B": 300.0})
    phi = problem.starts[77]
    value = lambda one: problem.objective.value_and_gradient(one[None])[0][0]  # noqa: E731
    gradient = problem.objective.value_and_gradient(phi[None])[1][0]
    free = [i for i in range(5) if i not in problem.objective.held]
    for i in free:
        step = 1e-5 * np.eye(5)[i]
        assert gradient[i] == pytest.approx((value(phi + step) - value(phi - step)) / 2e-5, rel=1e-5, abs=1e-9)
        ahead, behind = (problem.objective.value_and_gradient((phi + sign * step)[None])[1][0] for sign in (1, -1))
        np.testing.assert_allclose(problem.objective.hessian(phi)[i, free], ((ahead - behind) / 2e-5)[free], atol=1e-7)
    assert gradient[list(problem.objective.held)] == 0


def test_unknown_and_impossible_values_are_named():
    params, tokens, loss = runs()
    with pytest.raises(UserError, match=r"no parameter 'alfa'.*'alpha'"):
        fit_chinchilla(params, tokens, loss, FitOptions(fixed={"alfa": 0.3}))
    with pytest.raises(UserError, match="E is -1, expected a number above zero"):
        fit_power(params, loss, FitOptions(fixed={"E": -1.0}), offset="free")


def test_the_law_without_an_offset_is_fitted_too():
    params, tokens, _ = runs()
    loss = 300 / params**0.3 + 200 / tokens**0.25
    fit = fit_chinchilla(params, tokens, loss, FitOptions(bootstraps=0), offset="zero")
    assert not fit.offset_fitted and fit.parameters["E"] == 0.0
    assert [fit.parameters[name] for name in ("A", "B", "alpha", "beta")] == pytest.approx([300, 200, 0.3, 0.25])
