"""Laws given by a formula, against built-in laws, scipy and differences."""

import argparse
import json

import numpy as np
import pytest
import scipy.optimize

from triarch.cli.verbs import fit as verb
from triarch.errors import UserError
from triarch.scaling.checks.profile import profiles
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.chinchilla import Chinchilla, fit_chinchilla
from triarch.scaling.laws.formula import Formula
from triarch.scaling.requests import output
from triarch.scaling.tables.columns import Columns

pytestmark = pytest.mark.usefixtures("few_starts")

LAW = {"E": 1.8169, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
CHINCHILLA = "E + A/N^alpha + B/D^beta"
ALONE = FitOptions(bootstraps=0)


def runs(points=40, seed=0, noise=0.005, law=LAW):
    rng = np.random.default_rng(seed)
    flops, ratio = 10 ** rng.uniform(18, 22, points), 10 ** rng.uniform(-0.7, 0.7, points)
    params = np.sqrt(flops / 120) * ratio
    tokens = flops / 6 / params
    loss = law["E"] + law["A"] / params ** law["alpha"] + law["B"] / tokens ** law["beta"]
    return params, tokens, loss * np.exp(noise * rng.normal(size=points))


def fitted(formula, options=ALONE, settings=None, **arrays):
    return Formula(formula=formula, **(settings or {})).fit(Columns.of_arrays(**arrays), options)


def test_chinchillas_formula_is_the_built_in_law():
    n, d, loss = runs()
    wanted = fit_chinchilla(n, d, loss, FitOptions(bootstraps=50))
    found = fitted(CHINCHILLA, FitOptions(bootstraps=50), N=n, D=d, loss=loss)
    assert found.parameters == pytest.approx(wanted.parameters, rel=1e-6)
    assert found.objective == pytest.approx(wanted.objective, rel=1e-9)
    for name, interval in wanted.intervals.items():
        # Resamples are minimised in other coordinates, each to its own tolerance.
        width = interval[1] - interval[0]
        assert found.intervals[name] == pytest.approx(interval, abs=0.02 * width)
    own = {one.name: one.interval for one in profiles(found)}
    for one in profiles(wanted):
        assert own[one.name] == pytest.approx(one.interval, rel=1e-3)


@pytest.mark.parametrize("scale", [1e-9, 1e6])
def test_units_do_not_matter(scale):
    n, d, loss = runs()
    plain = fitted(CHINCHILLA, N=n, D=d, loss=loss)
    scaled = fitted(CHINCHILLA, N=scale * n, D=d, loss=loss)
    assert scaled.objective == pytest.approx(plain.objective, rel=1e-9)
    assert scaled.parameters["A"] == pytest.approx(plain.parameters["A"] * scale ** plain.parameters["alpha"], rel=1e-5)


def test_least_squares_of_plain_values_is_scipys():
    n, d, loss = runs(seed=3)
    options = FitOptions(bootstraps=0, delta=np.inf)
    found = fitted(CHINCHILLA, options, {"residuals": "plain"}, N=n, D=d, loss=loss)

    def residual(p):
        e, a, alpha, b, beta = p
        return e + np.exp(a) / n**alpha + np.exp(b) / d**beta - loss

    best = scipy.optimize.least_squares(residual, [1.8, 6.0, 0.34, 7.0, 0.36], xtol=1e-15, ftol=1e-15, gtol=1e-15)
    assert found.objective == pytest.approx(best.cost, rel=1e-9)
    assert found.parameters["alpha"] == pytest.approx(best.x[2], rel=1e-5)
    assert found.to_json()["least_squares"] is True


@pytest.mark.parametrize(
    ("formula", "truth", "settings"),
    [
        ("((Nc/N)^(a/b) + Dc/D)^b", {"Nc": 6.4e13, "a": 0.076, "b": 0.103, "Dc": 1.8e13}, {}),
        ("alpha * (1/D + C)^p", {"alpha": 300.0, "C": 2e-10, "p": 0.25}, {}),
        ("exp(a + b*log(N) + c*log(D) + e*log(N)*log(D))", {"a": 6.0, "b": -0.2, "c": -0.25, "e": 0.008},
         {"free_parameters": "a,b,c,e"}),
        ("floor + (1 - floor) * sigmoid(k * (log10(N) - middle))", {"floor": 0.25, "k": 2.0, "middle": 9.0},
         {"parameter_bounds": "floor=0:1"}),
        ("E + (A / N^alpha) * (1 + (N / knee)^2)^(-tilt)", {"E": 1.5, "A": 30.0, "alpha": 0.2, "knee": 1e9,
         "tilt": 0.1}, {}),
    ],
)  # fmt: skip
def test_simulated_laws_are_recovered(formula, truth, settings):
    n, d, _ = runs(60, seed=5)
    columns = {name: values for name, values in {"N": n, "D": d}.items() if name in formula}
    exact = Formula(formula=formula, **settings).form(Columns.of_arrays(**columns, loss=np.ones(60)))
    loss = exact.predict(truth, list(columns[name] for name in exact.inputs))
    found = fitted(formula, settings=settings, **columns, loss=loss)
    assert found.parameters == pytest.approx(truth, rel=1e-4)


def test_derivatives_of_the_posed_problem():
    n, d, loss = runs()
    law = Formula(formula="E + A/N^alpha + b*log(D)", free_parameters="b", parameter_bounds="alpha=0:1")
    form = law.form(Columns.of_arrays(N=n, D=d, loss=loss))
    problem = form.problem(np.column_stack([n, d]), loss, 1e-3)
    theta, step = problem.starts[3], 1e-6
    count = len(theta)
    moves = np.concatenate([theta + step * np.eye(count), theta - step * np.eye(count)])
    moved = problem.objective.curve(moves)[0]
    differences = (moved[:count] - moved[count:]) / (2 * step)
    for one, wanted in zip(problem.objective.curve(theta[None])[1], differences, strict=True):
        np.testing.assert_allclose(np.broadcast_to(one, (1, 40))[0], wanted, rtol=1e-6, atol=1e-8)


def test_parameters_tied_and_held():
    n, d, loss = runs(law=LAW | {"beta": LAW["alpha"]})
    tied = fitted(CHINCHILLA, FitOptions(bootstraps=30, fixed={"alpha": "beta"}), N=n, D=d, loss=loss)
    assert tied.parameters["alpha"] == pytest.approx(tied.parameters["beta"], rel=1e-12)
    written = fitted("E + A/N^beta + B/D^beta", N=n, D=d, loss=loss)
    assert {k: v for k, v in tied.parameters.items() if k != "alpha"} == pytest.approx(written.parameters, rel=1e-6)
    assert tied.intervals["alpha"] == tied.intervals["beta"] and tied.to_json()["fixed"] == {"alpha": "beta"}
    built_in = fit_chinchilla(n, d, loss, FitOptions(bootstraps=0, fixed={"alpha": "beta"}))
    assert built_in.parameters == pytest.approx(tied.parameters, rel=1e-6)
    both = fitted(CHINCHILLA, FitOptions(bootstraps=0, fixed={"alpha": "beta", "E": 1.8}), N=n, D=d, loss=loss)
    assert both.parameters["E"] == pytest.approx(1.8, rel=1e-12)
    assert both.objective >= tied.objective


@pytest.mark.parametrize(
    ("formula", "options", "settings", "message"),
    [
        ("E + A/N^a + K*0*N", ALONE, {}, "K is not identified: no row's prediction depends on it"),
        ("E + A*B/N^a", ALONE, {}, "A and B cannot be told apart by these rows"),
        ("E + A/one^a + B/N^b", ALONE, {}, "a is not identified"),
        ("log(0 - N) + A", ALONE, {}, r"row 1: the formula is not a number above zero at N = .*, whatever"),
        ("E + A/N^a", FitOptions(bootstraps=0, fixed={"alpha": 1.0}), {}, r"the law has no parameter 'alpha' \(.*a"),
        ("E + A/N^a", FitOptions(bootstraps=0, fixed={"E": "a", "a": "A"}), {}, "a is held itself"),
        ("E + A/N^a", FitOptions(bootstraps=0, fixed={"E": "a"}), {"free_parameters": "a"}, "same bounds"),
        ("E + A/N^a", ALONE, {"free_parameters": "b"}, "no parameter 'b'"),
        ("E + A/N^a", ALONE, {"parameter_bounds": "a=1:0"}, "expected LOW:HIGH, the lower first"),
        ("E + A/N^a", ALONE, {"parameter_bounds": "a"}, "expected NAME=LOW:HIGH"),
        ("E + A/N^a", ALONE, {"parameter_starts": "a=x"}, "'x' is no finite number"),
        ("", ALONE, {}, "needs --formula=TEXT"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(formula, options, settings, message):
    n, _, loss = runs()
    with pytest.raises(UserError, match=message) as caught:
        fitted(formula, options, settings, N=n, one=np.ones(40), loss=loss)
    assert "\n" not in str(caught.value)


def test_the_best_run_for_a_budget_is_the_built_in_laws():
    n, d, loss = runs()
    columns = Columns.of_arrays(params=n, tokens=d, loss=loss)
    law, built_in = Formula(formula=CHINCHILLA), Chinchilla()
    budgets, options = (1e20, 1e22), FitOptions(bootstraps=40)
    found, wanted = (one.optima(one.fit(columns, options), columns, budgets).rows for one in (law, built_in))
    for one, other in zip(found, wanted, strict=True):
        assert one.params == pytest.approx(other.params, rel=1e-3) and one.loss == pytest.approx(other.loss, rel=1e-6)
        assert one.params_interval == pytest.approx(other.params_interval, rel=0.02)
        assert one.params * one.tokens * 6 == pytest.approx(one.flops)
    rising = Formula(formula="E + A/N^alpha + 0*D")
    assert rising.optima(rising.fit(columns, ALONE), columns, budgets).rows == ()
    assert law.optima(fitted("E + A/N^alpha", N=n, loss=loss), columns, budgets) is None


def run(*argv):
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return verb.run(parser.parse_args([str(argument) for argument in argv]))


@pytest.fixture
def table(tmp_path):
    n, d, loss = runs(30)
    rows = [f"{a},{b},{c},{'ab'[k % 2]}" for k, (a, b, c) in enumerate(zip(n, d, loss, strict=True))]
    path = tmp_path / "runs.csv"
    path.write_text("num_params,D,loss,family\n" + "\n".join(rows) + "\n")
    return path


def test_on_the_command_line_with_everything(table, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(output, "SUFFIXES", (".svg",))
    flags = ("--law=formula", f"--formula={CHINCHILLA}", "--params_column=num_params", "--bootstraps=30")
    result = run(table, *flags, "--compare_laws", "--fixed=alpha=beta", f"--output={tmp_path / 'out'}")
    json.dumps(result, allow_nan=False)
    assert {"law", "parameters", "intervals", "objective", "num_points", "held_out", "profile_intervals"} <= set(result)
    assert set(result["parameters"]) == set(LAW) and "alpha" not in result["profile_intervals"]
    ranked = [one["law"] for one in result["laws_compared"]]
    assert "formula" in ranked and "chinchilla" in ranked
    written = {one.name for one in (tmp_path / "out").iterdir()}
    assert {"law.svg", "residuals-N.svg", "profile-beta.svg", "fit.json", "resamples.csv"} <= written
    shown = capsys.readouterr().out
    assert f"loss = {CHINCHILLA}, 30 points" in shown and "held equal to beta" in shown
    groups = run(table, *flags, "--group_column=family", "--held_out=0", "--fixed=E=1.8", "--fixed=alpha=beta")
    (compared,) = groups["comparisons"]
    assert [one["what"] for one in compared["gaps"]] == ["N"] * 3 + ["D"] * 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--formula=E + A/N^alpha",), "the formula has no column: none of E, A, N, alpha is given by --column"),
        (
            ("--formula=E + A/D^alpha", "--params_column=num_params"),
            "no name N, as --params_column is called in formulas",
        ),
        (("--formula=E + A/D^alpha", "--column=W=width"), "no name W, as --column=W is called in formulas"),
        (("--formula=E + A/W^alpha", "--column=W=width"), "no column 'width'"),
        ((), "needs --formula=TEXT"),
    ],
)
def test_mistakes_on_the_command_line(table, flags, message):
    with pytest.raises(UserError, match=message):
        run(table, "--law=formula", "--bootstraps=0", *flags)
