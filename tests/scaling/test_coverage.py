"""How often 95 % intervals hold the truth, over many draws of data from known laws. Prints the shares."""

import numpy as np
import pytest

from triarch.scaling.checks.comparison import compare_chinchilla
from triarch.scaling.checks.profile import profiles
from triarch.scaling.fitting.bootstrap import paired_weights
from triarch.scaling.fitting.cost import Cost
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.chinchilla import fit_chinchilla
from triarch.scaling.laws.formula import Formula
from triarch.scaling.laws.log_linear import fit_log_linear
from triarch.scaling.laws.optima.isoflop import fit_isoflop
from triarch.scaling.laws.power import fit_power
from triarch.scaling.laws.published.data_constrained import fit_data_constrained
from triarch.scaling.laws.published.downstream import fit_downstream
from triarch.scaling.tables.columns import Columns

EPOCH = {"E": 1.8169, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
BOOTSTRAPS = 400


class Tally:
    """Counts, parameter by parameter, how often an interval held the truth."""

    def __init__(self, name):
        self.name, self.held, self.draws = name, {}, {}

    def add(self, intervals, truth):
        for name, value in truth.items():
            low, high = intervals[name]
            held = (low is None or low <= value) and (high is None or value <= high)
            self.held[name] = self.held.get(name, 0) + held
            self.draws[name] = self.draws.get(name, 0) + 1

    def report(self):
        shares = {name: self.held[name] / self.draws[name] for name in self.held}
        print(f"\n{self.name}: " + ", ".join(f"{name} {share:.1%}" for name, share in shares.items()), end="")
        return shares

    def check(self):
        """95 +- 2 %, each parameter and all, with two binomial standard errors for the finite number of draws."""
        shares = self.report()
        slack = {name: 2 * np.sqrt(0.95 * 0.05 / self.draws[name]) for name in shares}
        for name, share in shares.items():
            assert 0.93 - slack[name] <= share <= 0.97 + slack[name], (self.name, name, share)
        # The parameters of one draw are held or missed together: it counts as one.
        overall, room = sum(self.held.values()) / sum(self.draws.values()), max(slack.values())
        assert 0.93 - room <= overall <= 0.97 + room, (self.name, overall)


def chinchilla_design(points, seed):
    rng = np.random.default_rng(seed)
    flops, ratio = 10 ** rng.uniform(18, 22, points), 10 ** rng.uniform(-0.7, 0.7, points)
    params = np.sqrt(flops / 120) * ratio
    return params, flops / 6 / params


def chinchilla_loss(law, params, tokens):
    return law["E"] + law["A"] / params ** law["alpha"] + law["B"] / tokens ** law["beta"]


def noise(rng, kind, points):
    """Relative errors of about 0.5 %, as seeds and evaluation give: normal, or with heavy tails."""
    return 0.005 * (rng.normal(size=points) if kind == "normal" else rng.standard_t(4, points) / np.sqrt(2))


@pytest.mark.coverage
@pytest.mark.parametrize(("points", "kind", "draws"), [(60, "normal", 300), (150, "heavy", 200)])
def test_chinchilla(few_starts, points, kind, draws):
    rng = np.random.default_rng(points)
    percentile, profile = (Tally(f"chinchilla, {points} points, {kind}, {what}") for what in ("bootstrap", "profile"))
    params, tokens = chinchilla_design(points, 5)
    for draw in range(draws):
        loss = chinchilla_loss(EPOCH, params, tokens) * np.exp(noise(rng, kind, points))
        fit = fit_chinchilla(params, tokens, loss, FitOptions(bootstraps=BOOTSTRAPS, seed=draw))
        percentile.add(fit.intervals, EPOCH)
        if draw < 100:
            profile.add({one.name: one.interval for one in profiles(fit)}, EPOCH)
    percentile.check()
    profile.report()


@pytest.mark.coverage
@pytest.mark.parametrize(("points", "kind", "draws"), [(16, "normal", 400), (40, "heavy", 400)])
def test_power_with_offset(points, kind, draws):
    rng = np.random.default_rng(points)
    truth = {"A": 50.0, "alpha": 0.3, "E": 1.5}
    percentile, profile = (Tally(f"power, {points} points, {kind}, {what}") for what in ("bootstrap", "profile"))
    x = np.geomspace(1e6, 1e9, points)
    for draw in range(draws):
        loss = (50 * x**-0.3 + 1.5) * np.exp(noise(rng, kind, points))
        fit = fit_power(x, loss, FitOptions(bootstraps=BOOTSTRAPS, seed=draw), offset="free")
        percentile.add(fit.intervals, truth)
        if draw < 200:
            profile.add({one.name: one.interval for one in profiles(fit)}, truth)
    percentile.check()
    profile.check()


@pytest.mark.coverage
@pytest.mark.parametrize("points", [4, 6, 9, 14])
def test_power_of_few_sizes_and_gaps_of_pairs(points):
    rng = np.random.default_rng(points)
    tally = Tally(f"pure power, {points} sizes, in pairs")
    x = np.geomspace(1e7, 1e9, points)
    exact, truth = 20.0 * x**-0.1, {"A": 20.0, "alpha": 0.1}
    keys = [f"{size:.3g}" for size in x]
    for draw in range(200):
        shared, fits = 0.004 * rng.normal(size=points), []
        for scale in (1.0, 1.02):
            loss = scale * exact * np.exp(shared + 0.003 * rng.normal(size=points))
            options = FitOptions(bootstraps=BOOTSTRAPS, seed=draw, keys=keys)
            fits.append(fit_power(x, loss, options, offset="zero"))
        (gap,) = (fits[1].draws(x[-1:]) - fits[0].draws(x[-1:])).T
        intervals = {**fits[0].intervals, "gap": fits[0].options.interval(gap)}
        tally.add(intervals, {**truth, "gap": 0.02 * exact[-1]})
    tally.check()


@pytest.mark.coverage
@pytest.mark.parametrize("points", [5, 8])
def test_offsets_of_few_sizes(points):
    rng = np.random.default_rng(points)
    tally = Tally(f"power with offset, {points} sizes")
    x = np.geomspace(1e6, 1e9, points)
    for draw in range(200):
        loss = (50 * x**-0.3 + 1.5) * np.exp(noise(rng, "normal", points))
        fit = fit_power(x, loss, FitOptions(bootstraps=BOOTSTRAPS, seed=draw), offset="free")
        tally.add(fit.intervals, {"A": 50.0, "alpha": 0.3, "E": 1.5})
    tally.check()


@pytest.mark.coverage
def test_checkpoints_of_ten_runs(few_starts):
    rng = np.random.default_rng(8)
    tally = Tally("chinchilla, ten runs of 25 checkpoints")
    params = np.repeat(np.geomspace(2e7, 2e9, 10), 25)
    tokens = np.tile(np.geomspace(0.08, 1, 25), 10) * 20 * params
    runs, truth = np.repeat(np.arange(10), 25), EPOCH | {"N": EPOCH["beta"] / (EPOCH["alpha"] + EPOCH["beta"])}
    for draw in range(150):
        error = np.repeat(0.005 * rng.normal(size=10), 25) + 0.002 * rng.normal(size=250)
        (weights,) = paired_weights([runs], [np.column_stack([params, tokens])], BOOTSTRAPS, 1, draw)
        options = FitOptions(bootstraps=BOOTSTRAPS, seed=draw, weights=weights, freedom=9)
        fit = fit_chinchilla(params, tokens, chinchilla_loss(EPOCH, params, tokens) * np.exp(error), options)
        tally.add({**fit.intervals, "N": options.interval(fit.exponents()["N"][1])}, truth)
    tally.check()


@pytest.mark.coverage
def test_a_formula_with_tied_exponents():
    rng = np.random.default_rng(9)
    tally = Tally("E + A/N^a + B/D^b with a = b, 30 points")
    law = Formula(formula="E + A/N^a + B/D^b")
    params, tokens = chinchilla_design(30, 5)
    truth = {"E": 1.8, "A": 480.0, "B": 2000.0, "a": 0.355, "b": 0.355}
    exact = truth["E"] + truth["A"] / params**0.355 + truth["B"] / tokens**0.355
    for draw in range(150):
        columns = Columns.of_arrays(N=params, D=tokens, loss=exact * np.exp(noise(rng, "normal", 30)))
        fit = law.fit(columns, FitOptions(bootstraps=BOOTSTRAPS, seed=draw, fixed={"a": "b"}))
        tally.add(fit.intervals, truth)
    tally.check()


@pytest.mark.coverage
@pytest.mark.parametrize("points", [8, 24])
def test_optimum_lines(points):
    rng = np.random.default_rng(1)
    tally = Tally(f"log-linear, {points} points")
    flops = np.geomspace(1e17, 1e21, points)
    for draw in range(600):
        y = 0.1 * flops**0.5 * np.exp(0.1 * rng.normal(size=points))
        fit = fit_log_linear([flops], y, FitOptions(bootstraps=BOOTSTRAPS, seed=draw))
        tally.add(fit.intervals, {"coefficient": 0.1, "exponent": 0.5})
    tally.check()


@pytest.mark.coverage
@pytest.mark.parametrize(("budgets", "sizes"), [(7, 9), (4, 5)])
def test_isoflop(budgets, sizes):
    rng = np.random.default_rng(2)
    tally = Tally(f"IsoFLOP, {budgets} budgets of {sizes} sizes")
    for draw in range(500):
        rows = []
        for flops in np.geomspace(1e17, 1e20, budgets):
            best = 0.1 * flops**0.5
            params = best * 2.0 ** np.linspace(-2, 2, sizes) * np.exp(rng.uniform(-0.3, 0.3))
            log_loss = np.log(3 * flops**-0.03) + 0.02 * np.log(params / best) ** 2 + 0.003 * rng.normal(size=sizes)
            rows += list(zip(params, flops / 6 / params, np.exp(log_loss), np.full(sizes, flops), strict=True))
        fit = fit_isoflop(*np.array(rows).T, FitOptions(bootstraps=BOOTSTRAPS, seed=draw))
        tally.add(fit.intervals, {"k_N": 0.1, "a": 0.5, "b": 0.5, "k_L": 3.0, "c": -0.03})
    tally.check()


@pytest.mark.coverage
def test_repeated_data():
    rng = np.random.default_rng(3)
    tally = Tally("data-constrained, 120 points")
    law = {"E": 1.87, "A": 521.0, "B": 1488.0, "alpha": 0.353, "beta": 0.353}
    truth = {"R_D": 15.4, "R_N": 5.3}
    params, unique = 10 ** rng.uniform(7, 9.7, 120), 10 ** rng.uniform(8, 10.5, 120)
    tokens = unique * 10 ** rng.uniform(0, 2, 120)
    exact = fit_data_constrained(params, tokens, unique, np.full(120, 3.0), FitOptions(fixed=law | truth, bootstraps=0))
    for draw in range(200):
        loss = exact.predict(params, tokens, unique) * np.exp(noise(rng, "normal", 120))
        fit = fit_data_constrained(
            params, tokens, unique, loss, FitOptions(fixed=law, bootstraps=BOOTSTRAPS, seed=draw)
        )
        tally.add(fit.intervals, truth)
    tally.check()


@pytest.mark.coverage
def test_downstream():
    rng = np.random.default_rng(4)
    tally = Tally("downstream, 40 points")
    loss = np.linspace(2.2, 3.6, 40)
    accuracy = 0.25 + 0.6 / (1 + np.exp(5 * (loss - 2.8)))
    for draw in range(300):
        fit = fit_downstream(
            loss, accuracy + 0.008 * rng.normal(size=40), FitOptions(bootstraps=BOOTSTRAPS, seed=draw), floor=0.25
        )
        tally.add(fit.intervals, {"ceiling": 0.85, "k": 5.0, "midpoint": 2.8})
    tally.check()


@pytest.mark.coverage
def test_paired_differences(few_starts):
    rng = np.random.default_rng(6)
    tally = Tally("paired difference of two Chinchilla laws, 60 pairs")
    other = EPOCH | {"A": 560.0, "alpha": 0.352}
    params, tokens = chinchilla_design(60, 7)
    values = np.column_stack([params, tokens])
    cost = Cost()
    truth = {name: other[name] - EPOCH[name] for name in ("E", "alpha", "beta")}
    fits = [_exact(law, params, tokens) for law in (EPOCH, other)]
    exact = compare_chinchilla(("a", "b"), *fits, [(cost, cost)], 0).axes[0]
    for draw in range(150):
        shared = noise(rng, "normal", 60)
        weights = paired_weights([range(60)] * 2, [values] * 2, BOOTSTRAPS, 5, draw)
        first, second = (
            fit_chinchilla(
                params, tokens, chinchilla_loss(law, params, tokens) * np.exp(shared + noise(rng, "normal", 60) / 2),
                FitOptions(bootstraps=BOOTSTRAPS, weights=own),
            )
            for law, own in zip((EPOCH, other), weights, strict=True)
        )  # fmt: skip
        found = compare_chinchilla(("a", "b"), first, second, [(cost, cost)], 60)
        intervals = {one.what: one.interval for one in found.parameters if one.what in truth}
        wanted = dict(truth)
        gap = found.axes[0].gaps[1]
        intervals["gap"], wanted["gap"] = gap.interval, exact.gaps[1].difference
        tally.add(intervals, wanted)
    tally.check()


def _exact(law, params, tokens):
    return fit_chinchilla(params, tokens, chinchilla_loss(law, params, tokens), FitOptions(bootstraps=0))
