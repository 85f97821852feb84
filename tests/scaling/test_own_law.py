"""A law of a user's own: the guide's example as it stands, and what is refused."""

import argparse
import dataclasses
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

import triarch
from triarch.cli.verbs import fit as verb
from triarch.errors import UserError
from triarch.scaling.checks.profile import profiles
from triarch.scaling.laws.law import Law, setting
from triarch.scaling.laws.log_linear import LogLinear
from triarch.scaling.laws.parametric import ParametricLaw
from triarch.scaling.laws.power_sum import PowerSum
from triarch.scaling.laws.registry import LAWS, make, register
from triarch.scaling.requests import output
from triarch.scaling.tables.roles import LOSS, PARAMS, Role

GUIDE = Path(__file__).parents[2] / "docs" / "laws.md"
TRUTH = {"E": 1.8, "A": 2e4, "alpha": 0.2, "beta": 0.3}


@pytest.fixture(autouse=True)
def laws(few_starts):
    before = dict(LAWS)
    yield
    LAWS.clear()
    LAWS.update(before)


@pytest.fixture
def guide(tmp_path):
    """The module of the guide's law, and its example in Python."""
    _, law, example = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    path = tmp_path / "product.py"
    path.write_text(law)
    spec = importlib.util.spec_from_file_location("product", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, example


# Made before any law is registered, as on the command line, where a module is imported once its flag is read.
PARSER = argparse.ArgumentParser()
verb.add_arguments(PARSER)


def run(*argv):
    return verb.run(PARSER.parse_args([str(argument) for argument in argv]))


def table(tmp_path, **more):
    rng = np.random.default_rng(0)
    columns = {"N": 10 ** rng.uniform(7, 9, 40), "D": 10 ** rng.uniform(9, 11, 40)}
    columns["loss"] = TRUTH["E"] + TRUTH["A"] / (columns["N"] ** TRUTH["alpha"] * columns["D"] ** TRUTH["beta"])
    columns["loss"] *= np.exp(0.001 * rng.normal(size=40))
    columns |= more
    path = tmp_path / "runs.csv"
    rows = zip(*columns.values(), strict=True)
    path.write_text(",".join(columns) + "\n" + "\n".join(",".join(map(str, row)) for row in rows) + "\n")
    return path


@pytest.mark.slow
def test_the_guides_law_is_fitted_checked_ranked_compared_and_drawn(guide, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(output, "SUFFIXES", (".svg",))  # One of each is enough to see them drawn.
    path = table(tmp_path, group=["a", "b"] * 20)
    flags = ("--law=product", "--params_column=N", "--tokens_column=D", "--bootstraps=60")
    result = run(path, *flags, "--compare_laws", f"--output={tmp_path / 'out'}")
    json.dumps(result, allow_nan=False)
    for name, value in TRUTH.items():
        low, high = result["intervals"][name]
        assert low < high and abs(result["parameters"][name] - value) < 3 * (high - low)
    assert result["parameters"]["alpha"] == pytest.approx(0.2, abs=0.02)
    assert result["law"] == "product" and result["held_out"]["rms"] < 0.01
    assert set(result["profile_intervals"]) == set(TRUTH)
    assert result["laws_compared"][0]["law"] == "product" and len(result["laws_compared"]) == 11
    written = {one.name for one in (tmp_path / "out").iterdir()}
    assert {"fit.json", "law.svg", "residuals-N.svg", "profile-alpha.svg", "held-out.svg", "resamples.csv"} <= written
    assert "L = E + A / (N^alpha D^beta), 40 points" in capsys.readouterr().out
    groups = run(path, *flags, "--group_column=group", "--held_out=0")
    assert [one["what"] for one in groups["comparisons"][0]["parameters"]] == ["E", "A", "alpha", "beta"]


def test_the_guides_derivatives_are_those_of_its_curve(guide):
    values = 10 ** np.random.default_rng(1).uniform(7, 11, (20, 2))
    form = guide[0].Product()
    problem = form.problem(values, form.predict(TRUTH, values.T), 1e-3)
    theta, step = problem.starts[7], 1e-6
    moves = np.concatenate([theta + step * np.eye(4), theta - step * np.eye(4)])
    predicted, derivatives = problem.objective.curve(moves)
    differences = (predicted[:4] - predicted[4:]) / (2 * step)
    _, derivatives = problem.objective.curve(theta[None])
    for one, wanted in zip(derivatives, differences, strict=True):
        np.testing.assert_allclose(np.broadcast_to(one, (1, 20))[0], wanted, atol=1e-8)


def test_the_guides_formula_in_a_class(tmp_path):
    (tmp_path / "balanced.py").write_text(re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)[0])
    spec = importlib.util.spec_from_file_location("balanced", tmp_path / "balanced.py")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    rng, truth = np.random.default_rng(0), {"E": 1.8, "A": 1e9, "B": 2e10, "gamma": 0.3}
    n, d = 10 ** rng.uniform(7, 10, 30), 10 ** rng.uniform(9, 11, 30)
    path = table(tmp_path, N=n, D=d, loss=1.8 + (1e9 / n + 2e10 / d) ** 0.3)
    flags = ("--law=balanced", "--params_column=N", "--tokens_column=D", "--bootstraps=0", "--held_out=0")
    assert run(path, *flags)["parameters"] == pytest.approx(truth, rel=1e-4)


def test_the_guides_python(guide, capsys):
    module, example = guide
    names = dict(vars(module))
    exec(compile(example, str(GUIDE), "exec"), names)
    assert names["fit"].parameters == pytest.approx(TRUTH, rel=1e-5)
    assert names["fit"].formula() in capsys.readouterr().out
    assert {one.name for one in profiles(names["fit"])} == set(TRUTH)


def test_columns_and_settings_without_flags_of_their_own(tmp_path):
    @register
    @dataclasses.dataclass(frozen=True)
    class Wide(ParametricLaw):
        name, text = "wide", "L = E + A / width^alpha"
        needs = (Role("width", "the model's width"), LOSS)
        offset: str = setting("free", "E", choices=("free", "zero"))
        power: float = setting(1.0, "of the width")
        halved: bool = setting(True, "whether half of it counts")

        def form(self, columns):
            return PowerSum(("width",), self.offset == "free")

        def inputs(self, columns):
            share = 0.5 if self.halved else 1.0
            return {name: share * values**self.power for name, values in super().inputs(columns).items()}

    width = np.geomspace(0.1, 10, 40)
    path = table(tmp_path, width=width, loss=3 * (1000 * width) ** -0.2)
    flags = (
        "--law=wide",
        "--column=width=width",
        "--unit=width=1e3",
        "--setting=halved=false",
        "--offset=zero",
        "--bootstraps=0",
        "--held_out=0",
    )
    parameters = run(path, *flags)["parameters"]
    assert parameters == pytest.approx({"A": 3.0, "alpha": 0.2, "E": 0.0}, rel=1e-6)
    assert run(path, *flags, "--setting=power=2")["parameters"]["alpha"] == pytest.approx(0.1, rel=1e-6)
    for changed, message in (
        (("--law=wide",), r"needs --column=width=NAME; .* has 'width'"),
        (("--law=wide", "--params_column=N"), r"has no --params_column; it takes --column=width and --loss_column"),
        (("--law=wide", "--column=height=N"), r"has no --column=height; it takes"),
        ((*flags, "--unit=width=0"), r"--unit=width=0: expected a number above zero"),
        ((*flags, "--setting=power=much"), r"--setting=power=much: expected a number"),
        ((*flags, "--setting=halved=no"), r"--setting=halved=no: expected true or false"),
        ((*flags, "--setting=powr=2"), r"fit --law=wide has no --powr \(did you mean 'power'\?\)"),
        ((*flags, "--window=2"), r"fit --law=wide has no --window; it is of --law=isoflop"),
    ):
        with pytest.raises(UserError, match=message):
            run(path, *changed)


def test_a_law_that_is_not_there_names_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"no law 'chinchila' \(did you mean 'chinchilla'\?\)"):
        run(table(tmp_path), "--law=chinchila")


def test_what_is_no_law_is_refused():
    class Plain(LogLinear):
        name = "plain"

    @dataclasses.dataclass(frozen=True)
    class Nameless(ParametricLaw):
        text, needs = "y", (PARAMS, LOSS)

    @dataclasses.dataclass(frozen=True)
    class Bare(LogLinear):
        name = "bare"
        depth: int = 3

    for law, message in (
        (int, r"expected a class derived from triarch\.scaling\.laws\.law\.Law, not <class 'int'>"),
        (Plain, "Plain: expected a frozen dataclass"),
        (Nameless, "Nameless: a law needs name, form"),
        (Bare, r"Bare\.depth: expected triarch\.scaling\.laws\.law\.setting\(default, help\)"),
    ):
        with pytest.raises(UserError, match=message):
            triarch.register_law(law)


def test_a_name_that_is_taken_is_refused_and_a_module_may_be_imported_anew():
    def made(name, module):
        return dataclasses.dataclass(frozen=True)(type("Mine", (LogLinear,), {"name": name, "__module__": module}))

    with pytest.raises(UserError, match=r"mine\.Mine: triarch has a law 'power': choose another name"):
        register(made("power", "mine"))
    register(made("mine", "mine"))
    again = register(made("mine", "mine"))
    assert LAWS["mine"] is again and isinstance(make("mine", {}), Law)
    with pytest.raises(UserError, match="module mine has a law 'mine'"):
        register(made("mine", "theirs"))
