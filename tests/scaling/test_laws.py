"""Fits against published laws, scipy, and what each set of points can and cannot identify."""

import numpy as np
import pytest
import scipy.optimize
import scipy.special
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from triarch.errors import UserError
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.chinchilla import compute_optimal, fit_chinchilla
from triarch.scaling.laws.power import fit_power

HOFFMANN = {"E": 1.6934, "A": 406.40, "B": 410.72, "alpha": 0.33917, "beta": 0.28491}
EPOCH = {"E": 1.8169, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}


def chinchilla_runs(points, seed=0):
    rng = np.random.default_rng(seed)
    flops, ratio = 10 ** rng.uniform(18, 22, points), 10 ** rng.uniform(-0.7, 0.7, points)
    params = np.sqrt(flops / 120) * ratio
    return params, flops / 6 / params


def chinchilla_loss(law, params, tokens):
    return law["E"] + law["A"] / params ** law["alpha"] + law["B"] / tokens ** law["beta"]


@pytest.mark.parametrize("law", [HOFFMANN, EPOCH], ids=["hoffmann", "epoch"])
def test_published_chinchilla_laws_are_recovered_exactly(law):
    params, tokens = chinchilla_runs(40)
    fit = fit_chinchilla(params, tokens, chinchilla_loss(law, params, tokens), FitOptions(bootstraps=0))
    for name, value in law.items():
        assert fit.parameters[name] == pytest.approx(value, rel=1e-8)
    assert fit.objective < 1e-20
    assert fit.num_points == 40 and fit.intervals == {} and fit.warnings == ()


def test_units_change_only_the_scales():
    params, tokens = chinchilla_runs(30)
    loss = chinchilla_loss(EPOCH, params, tokens) * np.exp(0.01 * np.random.default_rng(1).normal(size=30))
    plain = fit_chinchilla(params, tokens, loss, FitOptions(bootstraps=0)).parameters
    millions = fit_chinchilla(params / 1e6, tokens / 1e9, loss, FitOptions(bootstraps=0)).parameters
    for name in ("E", "alpha", "beta"):
        assert millions[name] == pytest.approx(plain[name], rel=1e-6)
    assert millions["A"] == pytest.approx(plain["A"] / 1e6 ** plain["alpha"], rel=1e-5)
    assert millions["B"] == pytest.approx(plain["B"] / 1e9 ** plain["beta"], rel=1e-5)


def test_noisy_chinchilla_fit_is_scipys_huber_optimum():
    params, tokens = chinchilla_runs(60, seed=2)
    log_loss = np.log(chinchilla_loss(HOFFMANN, params, tokens)) + 0.01 * np.random.default_rng(3).standard_t(3, 60)

    def residual(theta):
        a, b, e, alpha, beta = theta
        terms = [a - alpha * np.log(params), b - beta * np.log(tokens), np.full(60, e)]
        return scipy.special.logsumexp(terms, axis=0) - log_loss

    best = scipy.optimize.least_squares(
        residual,
        [6.0, 6.0, 0.5, 0.34, 0.28],
        loss="huber",
        f_scale=1e-3,
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
        max_nfev=20_000,
    )
    reference = scipy.special.huber(1e-3, residual(best.x)).sum()
    fit = fit_chinchilla(params, tokens, np.exp(log_loss), FitOptions(bootstraps=0))
    assert fit.objective <= reference * (1 + 1e-9)
    assert fit.objective == pytest.approx(reference, rel=1e-3)
    assert fit.parameters["alpha"] == pytest.approx(best.x[3], abs=2e-3)


def test_compute_optimum_is_the_least_loss_on_its_isoflop():
    # Epoch's optimum at 1e18 FLOPs: 81M parameters, 2.1B tokens, loss 3.49.
    params, tokens = chinchilla_runs(30)
    fit = fit_chinchilla(params, tokens, chinchilla_loss(EPOCH, params, tokens), FitOptions(bootstraps=0))
    best_params, best_tokens = compute_optimal(fit, 1e18)
    assert best_params == pytest.approx(8.1e7, rel=0.01) and best_tokens == pytest.approx(2.1e9, rel=0.03)
    assert float(fit.predict(best_params, best_tokens)) == pytest.approx(3.49, abs=0.005)
    swept = np.geomspace(best_params / 10, best_params * 10, 20_001)
    losses = fit.predict(swept, 1e18 / 6 / swept)
    assert swept[losses.argmin()] == pytest.approx(best_params, rel=1e-3)


@settings(max_examples=25, deadline=None)
@given(
    scale=st.floats(0.5, 500),
    alpha=st.floats(0.05, 1.0),
    offset=st.floats(0.2, 3.0),
    unit=st.sampled_from([1e-6, 1.0, 1e15]),
)
def test_power_law_with_offset_is_recovered(scale, alpha, offset, unit):
    x = np.geomspace(1e3, 1e7, 7)
    assume(scale * 1e3**-alpha > 1e-3 * offset)  # A power that a loss would show.
    fit = fit_power(x * unit, scale * x**-alpha + offset, FitOptions(bootstraps=0))
    assert fit.offset_fitted
    assert fit.parameters["alpha"] == pytest.approx(alpha, rel=1e-4)
    assert fit.parameters["E"] == pytest.approx(offset, rel=1e-4)
    assert fit.parameters["A"] == pytest.approx(scale * unit**alpha, rel=2e-3)


def test_power_law_reproduces_redllms_printed_exponents():
    # Digitised final losses and FLOPs of arXiv 2510.26622, figure 2; printed exponents 0.20 and 0.24.
    decoder = fit_power(
        [7.88e20, 4.50e21, 8.30e21, 1.385e22, 3.15e22], [2.08, 1.72, 1.61, 1.54, 1.43], FitOptions(bootstraps=0)
    )
    encoder_decoder = fit_power(
        [3.91e20, 2.26e21, 4.22e21, 6.52e21, 1.545e22], [2.26, 1.83, 1.72, 1.65, 1.53], FitOptions(bootstraps=0)
    )
    assert decoder.parameters["alpha"] == pytest.approx(0.20, abs=0.03)
    assert encoder_decoder.parameters["alpha"] == pytest.approx(0.24, abs=0.03)
    assert decoder.parameters["alpha"] < encoder_decoder.parameters["alpha"]


def test_three_points_fall_back_to_the_pure_power_law_and_say_so():
    x = np.array([1e6, 1e7, 1e8])
    fit = fit_power(x, 3 * x**-0.1 + 1, FitOptions(bootstraps=50), name="N")
    assert fit.parameters["E"] == 0.0 and not fit.offset_fitted and "E" not in fit.intervals
    assert any("not identified" in warning and "3 different values of N" in warning for warning in fit.warnings)
    free = fit_power(x, 3 * x**-0.1 + 1, FitOptions(bootstraps=50), offset="free")
    assert free.parameters["E"] == pytest.approx(1.0, rel=1e-6) and free.intervals == {}
    assert any("passes through every point" in warning for warning in free.warnings)


def test_an_offset_at_its_bound_is_reported_as_not_identified():
    x = np.geomspace(1e6, 1e9, 8)
    fit = fit_power(x, 30 * x**-0.1, FitOptions(bootstraps=0))
    assert fit.parameters["E"] == 0.0 and not fit.offset_fitted
    assert fit.parameters["A"] == pytest.approx(30, rel=1e-8) and fit.parameters["alpha"] == pytest.approx(
        0.1, rel=1e-8
    )
    assert any("bound 0" in warning for warning in fit.warnings)


def test_pure_power_law_is_the_median_regression_line():
    # With the offset gone the objective is convex: scipy's Huber regression must agree to the last digits.
    rng = np.random.default_rng(5)
    x = np.geomspace(1e6, 1e9, 40)
    log_loss = np.log(20 * x**-0.12) + 0.02 * rng.standard_t(2, 40)
    fit = fit_power(x, np.exp(log_loss), FitOptions(bootstraps=0), offset="zero")
    log_x = np.log(x) - np.log(x).mean()
    best = scipy.optimize.minimize(
        lambda t: scipy.special.huber(1e-3, t[0] - t[1] * log_x - log_loss).sum() * 1e3,
        [log_loss.mean(), 0.1],
        method="Nelder-Mead",
        options={"xatol": 1e-12, "fatol": 1e-14, "maxiter": 20_000},
    )
    assert fit.parameters["alpha"] == pytest.approx(best.x[1], rel=1e-6)
    assert fit.objective == pytest.approx(best.fun * 1e-3, rel=1e-9)


def test_bootstrap_is_repeatable_and_brackets_the_estimate():
    rng = np.random.default_rng(7)
    x = np.geomspace(1e6, 1e9, 30)
    loss = (50 * x**-0.3 + 1.5) * np.exp(0.005 * rng.normal(size=30))
    first, again, other = (fit_power(x, loss, FitOptions(bootstraps=200, seed=seed)) for seed in (1, 1, 2))
    assert first.intervals == again.intervals != other.intervals
    for name, (low, high) in first.intervals.items():
        assert low < first.parameters[name] < high
    narrow = fit_power(x, loss, FitOptions(bootstraps=200, seed=1, confidence=0.5))
    assert narrow.intervals["alpha"][0] > first.intervals["alpha"][0]
    low, high = first.band(x)
    assert np.all(low <= high) and np.all(low < first.predict(x)) and np.all(first.predict(x) < high)


def test_each_resample_is_a_fit_of_its_own():
    # A bootstrap estimate must equal the fit to the rows it drew, started afresh, under the resamples' smoother loss,
    # moved by what that loss does to the fit of all rows.
    rng = np.random.default_rng(8)
    x = np.geomspace(1e6, 1e9, 20)
    loss = (50 * x**-0.3 + 1.5) * np.exp(0.005 * rng.normal(size=20))
    fit = fit_power(x, loss, FitOptions(bootstraps=5, seed=3))
    spread = 1.4826 * np.median(np.abs(fit.residuals())) * np.sqrt(20 / 17)
    assert fit.resample_delta == pytest.approx(max(1e-3, spread * 20**-0.2))
    smooth = FitOptions(bootstraps=0, delta=fit.resample_delta)
    centre = fit_power(x, loss, smooth, offset="free").parameters["alpha"]
    weights = np.random.default_rng(3).multinomial(20, np.full(20, 1 / 20), 5)
    for i in range(5):
        rows = np.repeat(np.arange(20), weights[i])
        again = fit_power(x[rows], loss[rows], smooth, offset="free").parameters["alpha"]
        assert fit.samples["alpha"][i] == pytest.approx(again - centre + fit.parameters["alpha"], rel=1e-4)


def test_intervals_cover_the_truth():
    rng = np.random.default_rng(11)
    x = np.geomspace(1e5, 1e9, 40)
    draws, held = 60, 0
    for _ in range(draws):
        loss = (50 * x**-0.3 + 1.5) * np.exp(0.01 * rng.normal(size=40))
        low, high = fit_power(x, loss, FitOptions(bootstraps=150)).intervals["alpha"]
        held += low <= 0.3 <= high
    assert held / draws >= 0.85  # Nominally 0.95; four standard errors below.


def test_what_cannot_be_told_apart_is_said():
    params = np.geomspace(1e7, 1e10, 12)
    ladder = fit_chinchilla(params, 20 * params, chinchilla_loss(EPOCH, params, 20 * params), FitOptions(bootstraps=0))
    assert any("move together" in warning for warning in ladder.warnings)
    rng = np.random.default_rng(0)
    x = np.geomspace(1e6, 1e8, 8)
    flat = fit_power(x, 3 + 0.05 * rng.normal(size=8), FitOptions(bootstraps=200), offset="zero")
    assert any("holds 0" in warning or "does not fall" in warning for warning in flat.warnings)
    short = fit_power(x[:5], 3 * x[:5] ** -0.05 * np.exp(0.003 * rng.normal(size=5)), FitOptions(bootstraps=100))
    assert short.intervals and not any("no intervals" in warning for warning in short.warnings)
    three = fit_power(x[:3], 3 * x[:3] ** -0.05, FitOptions(bootstraps=100))
    assert not three.intervals and any("no intervals can be drawn" in warning for warning in three.warnings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1e6, 1e6, 1e6, 1e6], [3, 3.1, 2.9, 3]), "1 different points of x"),
        (([1e6, 1e7, -1, 1e9], [3, 3, 3, 3]), r"x, row 3: -1\.0"),
        (([1e6, 1e7, 1e8, 1e9], [3, np.nan, 3, 3]), "loss, row 2: nan"),
        (([1e6, 1e7], [3, 2, 1]), "x has 2 values, loss has 3"),
    ],
)
def test_bad_points_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        fit_power(*arguments)


def test_too_few_points_and_single_values_are_refused():
    params, tokens = chinchilla_runs(8)
    with pytest.raises(UserError, match="4 different points of N and D: a law with 5 parameters needs at least 5"):
        fit_chinchilla(params[:4], tokens[:4], np.full(4, 3.0))
    with pytest.raises(UserError, match="N is 1e\\+07 in every row"):
        fit_chinchilla(np.full(8, 1e7), tokens, np.linspace(3, 2, 8))
    with pytest.raises(UserError, match="offset is 'fre'"):
        fit_power(params, tokens, offset="fre")
    with pytest.raises(UserError, match="confidence is 95"):
        fit_power(params, tokens, FitOptions(confidence=95))
    with pytest.raises(UserError, match="bootstraps is -1"):
        fit_power(params, tokens, FitOptions(bootstraps=-1))


def test_json_holds_the_contract():
    params, tokens = chinchilla_runs(30)
    loss = chinchilla_loss(EPOCH, params, tokens) * np.exp(0.01 * np.random.default_rng(1).normal(size=30))
    result = fit_chinchilla(params, tokens, loss, FitOptions(bootstraps=40)).to_json()
    assert result["law"] == "chinchilla" and result["num_points"] == 30
    assert set(result["parameters"]) == set(result["intervals"]) == {"E", "A", "B", "alpha", "beta"}
    assert all(low <= high for low, high in result["intervals"].values())
    assert result["optimal_exponents"]["N"] + result["optimal_exponents"]["D"] == pytest.approx(1.0)
