"""IsoFLOP parabolas, envelopes and learning-rate laws on data whose optimum is known."""

import numpy as np
import pytest

from triarch.errors import UserError
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.optima.envelope import fit_envelope
from triarch.scaling.laws.optima.hyperparameters import fit_hyperparameters
from triarch.scaling.laws.optima.isoflop import fit_isoflop, group_budgets

EPOCH = {"E": 1.8169, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}


def isoflop_runs(budgets=6, sizes=7, noise=0.0, seed=0, reach=2.0):
    rng = np.random.default_rng(seed)
    rows = []
    for flops in np.geomspace(1e17, 1e20, budgets):
        best = 0.1 * flops**0.5
        params = best * 2.0 ** np.linspace(-reach, reach, sizes)
        log_loss = np.log(3 * flops**-0.03) + 0.02 * np.log(params / best) ** 2 + noise * rng.normal(size=sizes)
        rows += list(zip(params, flops / 6 / params, np.exp(log_loss), np.full(sizes, flops), strict=True))
    return np.array(rows).T


def test_parabolas_give_their_minima_back():
    fit = fit_isoflop(*isoflop_runs(), FitOptions(bootstraps=0))
    expected = {"k_N": 0.1, "a": 0.5, "k_D": 1 / 0.6, "b": 0.5, "k_L": 3.0, "c": -0.03}
    assert fit.parameters == pytest.approx(expected, rel=1e-9)
    assert fit.num_points == 42 and fit.warnings == ()
    assert fit.optimum(1e22)["N"][0] == pytest.approx(1e10, rel=1e-9)


def test_each_vertex_is_polyfits():
    params, tokens, loss, flops = isoflop_runs(noise=0.01)
    fit = fit_isoflop(params, tokens, loss, flops, FitOptions(bootstraps=200))
    own = flops == flops[7]
    quadratic = np.polyfit(np.log(params[own]), np.log(loss[own]), 2)
    assert np.log(fit.optima["N"][1]) == pytest.approx(-quadratic[1] / 2 / quadratic[0], rel=1e-9)
    low, high = fit.intervals["a"]
    assert low < fit.parameters["a"] < high
    row = fit.to_json()["optima"][1]
    assert row["N_interval"][0] < row["N"] < row["N_interval"][1]


def test_budgets_are_runs_of_nearly_the_same_flops():
    np.testing.assert_array_equal(group_budgets(np.array([1e18, 1.02e18, 5e18, 0.99e18, 5.1e18])), [0, 0, 1, 0, 1])


def test_a_window_keeps_sizes_about_the_best():
    params, tokens, loss, flops = isoflop_runs(sizes=11, reach=4.0)
    skewed = loss * np.exp(0.003 * np.abs(np.log(params / (0.1 * flops**0.5))) ** 3 * (params > 0.1 * flops**0.5))
    wide = fit_isoflop(params, tokens, skewed, flops, FitOptions(bootstraps=0))
    narrow = fit_isoflop(params, tokens, skewed, flops, FitOptions(bootstraps=0), window=4.0)
    assert abs(narrow.parameters["k_N"] - 0.1) < abs(wide.parameters["k_N"] - 0.1)
    with pytest.raises(UserError, match=r"window is 0\.5"):
        fit_isoflop(params, tokens, loss, flops, window=0.5)


def test_an_optimum_at_or_beyond_the_edge_of_the_grid_is_said():
    params, tokens, loss, flops = isoflop_runs(sizes=9)
    inner = ~((flops > 9e19) & (params > 0.08 * flops**0.5))
    fit = fit_isoflop(params[inner], tokens[inner], loss[inner], flops[inner], FitOptions(bootstraps=0))
    assert len(fit.flops) == 5
    assert any("no minimum inside its sizes" in w and "largest N" in w for w in fit.warnings)
    near = ~((flops > 9e19) & (params > 0.11 * flops**0.5))
    noisy = loss * np.where((flops > 9e19) & (params < 0.09 * flops**0.5), 1.02, 1.0)
    edge = fit_isoflop(params[near], tokens[near], noisy[near], flops[near], FitOptions(bootstraps=0))
    assert any("edge of the grid" in w or "no minimum" in w for w in edge.warnings)


def test_tables_without_budgets_are_refused():
    params, tokens, loss, flops = isoflop_runs()
    with pytest.raises(UserError, match="0 budgets with 4 sizes or more among 42 values of FLOPs"):
        fit_isoflop(params, tokens, loss, np.geomspace(1e17, 1e22, 42))
    with pytest.raises(UserError, match="1 budgets with 4 sizes"):
        fit_isoflop(params, tokens, loss, np.full(42, 1e18))
    with pytest.raises(UserError, match="0 of 6 budgets have a minimum inside"):
        fit_isoflop(params, tokens, 1 / loss, flops)


def training_curves(sizes=16, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    names, rows = [], []
    for index, params in enumerate(np.geomspace(3e6, 3e9, sizes)):
        tokens = params * np.geomspace(1, 80, 250)
        loss = EPOCH["E"] + EPOCH["A"] / params ** EPOCH["alpha"] + EPOCH["B"] / tokens ** EPOCH["beta"]
        loss = loss * np.exp(noise * rng.normal(size=250))
        names += [f"run{index}"] * 250
        rows += list(zip(np.full(250, params), tokens, loss, 6 * params * tokens, strict=True))
    return names, np.array(rows).T


def test_the_envelope_finds_the_exponent_of_the_law_behind_the_curves():
    names, columns = training_curves(noise=0.003)
    fit = fit_envelope(names, *columns, FitOptions(bootstraps=200))
    exact = EPOCH["beta"] / (EPOCH["alpha"] + EPOCH["beta"])
    assert fit.parameters["a"] == pytest.approx(exact, abs=0.03)
    assert fit.intervals["a"][0] < exact < fit.intervals["a"][1]
    assert fit.parameters["a"] + fit.parameters["b"] == pytest.approx(1.0, abs=1e-3)
    assert any("edge of the grid" in warning for warning in fit.warnings)


def test_the_envelope_is_the_least_loss_at_each_budget():
    names, columns = training_curves(sizes=6)
    fit = fit_envelope(names, *columns, FitOptions(bootstraps=0), smoothing=0)
    for index in (0, len(fit.flops) // 2, -1):
        flops = fit.flops[index]
        here = [
            np.interp(np.log(flops), np.log(columns[3][rows]), np.log(columns[2][rows]))
            for rows in (np.flatnonzero(np.array(names) == f"run{k}") for k in range(6))
            if columns[3][rows][0] <= flops <= columns[3][rows][-1]
        ]
        assert np.log(fit.optima["loss"][index]) == pytest.approx(min(here), rel=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n, c: (["one"] * len(n), c), "run 'one' has 16 sizes"),
        (lambda n, c: (n[:500], c[:, :500]), "2 sizes: an envelope needs at least 3"),
        (lambda n, c: (n, c * np.array([1, 1, 1, 0])[:, None] + np.array([0, 0, 0, 1e18])[:, None]), "do not grow"),
    ],
)
def test_curves_that_are_none_are_refused(change, message):
    names, columns = change(*training_curves())
    with pytest.raises(UserError, match=message):
        fit_envelope(names, *columns)


def learning_rate_grid(noise=0.0, seed=0, around=1.0):
    rng = np.random.default_rng(seed)
    rows = []
    for params in (1e8, 3e8, 1e9):
        for tokens in (2e9, 1e10, 5e10):
            rate, batch = 1.8 * params**-0.71 * tokens**0.31, 0.6 * tokens**0.57
            for i in np.arange(-4, 5):
                for j in np.arange(-4, 5):
                    shape = 0.01 * (0.35 * i) ** 2 + 0.008 * (0.35 * j) ** 2
                    loss = 3 * params**-0.05 * tokens**-0.03 * np.exp(shape + noise * rng.normal())
                    rows.append((params, tokens, around * rate * 2 ** (i / 2), batch * 2 ** (j / 2), loss))
    return np.array(rows).T


@pytest.mark.parametrize("tolerance", [0.0, 0.0025])
def test_the_best_learning_rate_and_batch_are_found(tolerance):
    fit = fit_hyperparameters(*learning_rate_grid(), FitOptions(bootstraps=50), tolerance=tolerance)
    rate, batch = fit.learning_rate.parameters, fit.batch.parameters
    assert (rate["exponent_N"], rate["exponent_D"]) == pytest.approx((-0.71, 0.31), abs=1e-9)
    assert rate["coefficient"] == pytest.approx(1.8, rel=1e-6)
    assert (batch["coefficient"], batch["exponent"]) == pytest.approx((0.6, 0.57), rel=1e-6)
    assert fit.best(1e9, 2e11)["batch"][0] == pytest.approx(0.6 * 2e11**0.57, rel=1e-6)
    assert not any("edge" in warning for warning in fit.warnings)
    assert len(fit.cells) == 9 and fit.to_json()["num_points"] == 729


def test_a_best_learning_rate_at_the_end_of_the_grid_is_said():
    params, tokens, rate, batch, loss = learning_rate_grid()
    low = rate < 1.01 * 1.8 * params**-0.71 * tokens**0.31 / 2
    fit = fit_hyperparameters(params[low], tokens[low], rate[low], batch[low], loss[low], FitOptions(bootstraps=20))
    assert any("best learning rate" in w and "edge of the grid" in w and "and 5 more" in w for w in fit.warnings)


def test_a_batch_that_moves_with_size_is_said():
    params, tokens, rate, batch, loss = learning_rate_grid()
    fit = fit_hyperparameters(params, tokens, rate, batch * (params / 1e8) ** -0.3, loss, FitOptions(bootstraps=100))
    assert any("batch moves with N too: exponent -0.300" in warning for warning in fit.warnings)


def test_too_few_cells_are_refused():
    columns = learning_rate_grid()
    with pytest.raises(UserError, match="3 cells of one N and one D"):
        fit_hyperparameters(*columns[:, columns[0] == 1e8])
