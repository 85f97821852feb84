"""Checks of a fit: each against the thing done by hand."""

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from triarch.errors import UserError
from triarch.scaling.checks.diagnosis import diagnose
from triarch.scaling.checks.extrapolation import held_out, largest_rows
from triarch.scaling.checks.influence import influence
from triarch.scaling.checks.mean_objective import stopped_early
from triarch.scaling.checks.profile import profiles
from triarch.scaling.checks.rivals import compare_laws
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.chinchilla import fit_chinchilla
from triarch.scaling.laws.log_linear import fit_log_linear
from triarch.scaling.laws.power import fit_power
from triarch.scaling.laws.registry import candidates
from triarch.scaling.tables.columns import Columns

pytestmark = pytest.mark.usefixtures("few_starts")

LAW = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}


def power_fit(points=30, noise=0.01, seed=0, bootstraps=200, wild=None):
    rng = np.random.default_rng(seed)
    x = np.geomspace(1e6, 1e9, points)
    loss = (50 * x**-0.3 + 1.5) * np.exp(noise * rng.normal(size=points))
    if wild is not None:
        loss[wild] *= 1.3
    return fit_power(x, loss, FitOptions(bootstraps=bootstraps), offset="free")


def chinchilla_fit(points=40, noise=0.005, seed=0, bootstraps=100):
    rng = np.random.default_rng(seed)
    params, tokens = 10 ** rng.uniform(7, 10, points), 10 ** rng.uniform(9, 11, points)
    loss = LAW["E"] + LAW["A"] / params ** LAW["alpha"] + LAW["B"] / tokens ** LAW["beta"]
    return fit_chinchilla(
        params, tokens, loss * np.exp(noise * rng.normal(size=points)), FitOptions(bootstraps=bootstraps)
    )


def test_the_profile_of_a_least_squares_line_is_its_likelihood_interval():
    rng = np.random.default_rng(0)
    x = np.geomspace(1e17, 1e21, 25)
    fit = fit_log_linear([x], 0.1 * x**0.5 * np.exp(0.1 * rng.normal(size=25)), FitOptions(bootstraps=300))
    profile = next(one for one in profiles(fit) if one.name == "exponent")
    z = np.log(x) - np.log(x).mean()
    error = np.sqrt(np.sum(fit.residuals() ** 2) / 23 / np.sum(z**2))
    # (n - p) log(1 + t^2 / (n - p)) = chi-square: the likelihood of a normal with its scale profiled out.
    half = error * np.sqrt(23 * np.expm1(scipy.stats.chi2.ppf(0.95, 1) / 23))
    centre = fit.parameters["exponent"]
    assert profile.interval == pytest.approx((centre - half, centre + half), rel=2e-3)


def test_a_profile_is_the_minimum_with_the_parameter_held():
    fit = power_fit()
    for profile in profiles(fit):
        assert profile.interval[0] < fit.parameters[profile.name] < profile.interval[1]
        for place in (3, 24):
            value = profile.values[place]
            held = fit_power(
                fit.values[:, 0], fit.target, FitOptions(fixed={profile.name: value}, bootstraps=0), offset="free"
            )
            assert held.objective > fit.objective
            if place == 3:
                first = held.objective, profile.deviance[place]
            else:
                # The deviance orders places as the objective does.
                assert (held.objective > first[0]) == (profile.deviance[place] > first[1])


def test_profiles_agree_with_percentiles_where_all_is_well():
    fit = chinchilla_fit(points=120, bootstraps=400)
    for profile in profiles(fit):
        low, high = fit.intervals[profile.name]
        width = high - low
        assert profile.interval == pytest.approx((low, high), abs=0.35 * width), profile.name


def test_an_offset_that_data_do_not_show_is_open_below():
    rng = np.random.default_rng(3)
    x = np.geomspace(1e6, 1e8, 12)
    fit = fit_power(x, (30 * x**-0.1) * np.exp(0.02 * rng.normal(size=12)), FitOptions(bootstraps=200), offset="free")
    profile = next(one for one in profiles(fit) if one.name == "E")
    assert profile.interval[0] is None
    assert any("E is not identified" in warning for warning in diagnose(fit).warnings)


def test_influence_is_the_fit_without_the_row():
    fit = power_fit(points=20, wild=3)
    found = influence(fit)
    assert found.outlying[0] == 3
    for row in (0, 3, 19):
        kept = np.arange(20) != row
        without = fit_power(fit.values[kept, 0], fit.target[kept], FitOptions(bootstraps=0), offset="free")
        for k, name in enumerate(found.names):
            low, high = np.percentile(fit.samples[name], [16, 84])
            expected = (fit.parameters[name] - without.parameters[name]) / (0.5 * (high - low))
            assert found.shift[row, k] == pytest.approx(expected, abs=0.02)


def test_an_influential_row_is_named_by_its_number_in_the_file():
    x = np.concatenate([np.geomspace(1e6, 1e7, 12), [1e10]])
    rng = np.random.default_rng(1)
    loss = (50 * x**-0.3 + 1.5) * np.exp(0.01 * rng.normal(size=13))
    loss[12] *= 1.15
    diagnosis = diagnose(fit_power(x, loss, FitOptions(bootstraps=300), offset="free"), 0.0, numbers=range(101, 114))
    assert any("influential row" in warning and "113 (" in warning for warning in diagnosis.warnings)


def test_held_out_rows_are_the_largest_and_are_not_fitted():
    fit = power_fit(points=20, noise=0.0)
    found = held_out(fit, 0.2)
    assert found.rows == (16, 17, 18, 19)
    assert found.rms < 1e-8 and found.reach == pytest.approx(fit.values[19, 0] / fit.values[15, 0])
    bent = fit.target.copy()
    bent[16:] *= 1.05
    again = held_out(fit_power(fit.values[:, 0], bent, FitOptions(bootstraps=0), offset="free"), 0.2)
    assert again.parameters == pytest.approx(found.parameters, rel=1e-6)
    assert again.bias == pytest.approx(np.log(1.05), rel=1e-5)
    np.testing.assert_array_equal(largest_rows(np.array([1, 2, 3, 3, 3, 2]), 0.2), [2, 3, 4])
    with pytest.raises(UserError, match=r"share is 1\.5"):
        largest_rows(np.arange(4.0), 1.5)


@pytest.mark.slow
def test_a_law_that_extrapolates_badly_is_said():
    x = np.geomspace(1e6, 1e9, 20)
    loss = np.where(x < 1e8, 30 * x**-0.15, 30 * 1e8**-0.15)
    assert any("misses the larger runs" in w for w in diagnose(fit_power(x, loss, FitOptions(bootstraps=50))).warnings)
    few = fit_power(x[:4], loss[:4], FitOptions(bootstraps=0), offset="free")
    assert any("extrapolation is not tested" in w for w in diagnose(few, 0.6).warnings)


def test_laws_are_ranked_by_held_out_error():
    fit = chinchilla_fit(points=60)
    columns = Columns.of_arrays(params=fit.values[:, 0], tokens=fit.values[:, 1])
    ranked = compare_laws(candidates(columns), fit.target, "params", fit.values[:, 0])
    assert ranked[0].label == "chinchilla" and ranked[0].behind is None
    assert [one.held_out.rms for one in ranked] == sorted(one.held_out.rms for one in ranked)
    assert ranked[-1].behind[0] > 0
    x = np.geomspace(1e6, 1e9, 20)
    offset, pure = compare_laws(candidates(Columns.of_arrays(x=x)), 50 * x**-0.3 + 1.5, "x", x)
    assert offset.label == "power with offset" and pure.held_out.rms > 10 * offset.held_out.rms


def test_the_mean_stops_early_and_the_sum_does_not():
    fit = chinchilla_fit(points=100)
    mean = stopped_early(fit)
    assert mean.excess > 0.01
    assert any("mean objective stops early" in warning for warning in diagnose(fit).warnings)
    # The same optimiser on the sum, with tolerances that mean something, gets there: it is the mean that stops it.
    problem = fit.form.problem(fit.values, fit.target, fit.delta)

    def total(theta):
        value, gradient = problem.objective.value_and_gradient(theta[None])
        return value[0], gradient[0]

    start = fit.theta + 0.05
    ended = scipy.optimize.minimize(total, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-9})
    assert ended.fun * fit.delta == pytest.approx(fit.objective, rel=2e-3)
    assert stopped_early(power_fit()) is None


def test_json_holds_plain_numbers():
    import json

    fit = power_fit()
    result = diagnose(fit).to_json(fit)
    json.dumps(result, allow_nan=False)
    assert set(result["profile_intervals"]) == {"A", "alpha", "E"}
    assert result["held_out"]["rows"] == [25, 26, 27, 28, 29, 30]
