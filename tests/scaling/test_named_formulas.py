"""Published laws: parameters that simulated tables were made with, and published fits where their points are known."""

import itertools

import numpy as np
import pytest

from triarch.errors import UserError
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.published.multi_power import MultiPower
from triarch.scaling.laws.registry import LAWS
from triarch.scaling.tables.columns import Columns
from triarch.scaling.tables.table import Table

ALONE = FitOptions(bootstraps=0)
# Those that were published, as far as they are known to us.
TRUTH = {
    "kaplan": {"N_c": 6.4e13, "alpha_N": 0.076, "alpha_D": 0.103, "D_c": 1.8e13},
    "gadre": {"E": 1.508, "a": 141.0, "eta": 0.1212, "b": 190.0},
    "gadre_error": {"epsilon": 0.85, "k": 2.2, "gamma": 0.7},
    "bansal": {"alpha": 300.0, "C": 2e-9, "p": 0.28},
    "ghorbani": {"E": 1.2, "A": 80.0, "p_e": 0.11, "p_d": 0.22},
    "clark": {"a": -0.082, "d": 1.104, "b": -0.108, "c": 0.009, "X_start": 1.85, "X_max": 314.5},
    "krajewski": {"c": 0.47, "g": 2.1, "gamma": 0.58, "a": 18.1, "alpha": 0.115, "b": 30.8, "beta": 0.147},
    "tao": {"E": 5.5, "A_1": 40.0, "alpha_1": 0.25, "A_2": 15.0, "alpha_2": 0.2, "B": 600.0, "beta": 0.3},
    "ruan": {"floor": 0.25, "height": 0.8, "k": 1.6, "middle": 21.0},
    "broken_power": {"E": 1.5, "A": 30.0, "alpha": 0.2, "knee": 3e8, "width": 0.3, "change": 0.15},
}


def columns(points=60, seed=1):
    rng = np.random.default_rng(seed)

    def between(low, high):
        return 10 ** rng.uniform(low, high, points)

    return {
        "params": between(7, 10),
        "tokens": between(8.5, 11),
        "encoder_params": between(7, 9),
        "decoder_params": between(7, 9),
        "experts": rng.choice([1.0, 2, 8, 16, 64, 256], points),
        "granularity": rng.choice([1.0, 2, 4, 8, 16], points),
        "other_params": between(7, 9.5),
        "vocabulary_params": between(6.5, 8.5),
        "flops": between(19, 23),
        "x": between(6.5, 10.5),
        "loss": rng.uniform(2, 4, points),
    }


@pytest.mark.parametrize("name", TRUTH)
def test_a_simulated_table_gives_back_its_parameters(name):
    law, given = LAWS[name](), columns()
    own = {role.name: given[role.name] for role in law.needs[:-1]}
    target = law.needs[-1].name
    inputs = law.inputs(Columns.of_arrays(**own, **{target: np.ones(60)}))
    exact = law.expression().value({**inputs, **TRUTH[name]})
    fit = law.fit(Columns.of_arrays(**own, **{target: exact}), ALONE)
    assert fit.parameters == pytest.approx(TRUTH[name], rel=1e-3)
    assert fit.objective < 1e-12


def test_taos_losses_may_be_negative():
    law, given = LAWS["tao"](), columns()
    own = {role.name: given[role.name] for role in law.needs[:-1]}
    exact = law.expression().value({**law.inputs(Columns.of_arrays(**own, loss=np.ones(60))), **TRUTH["tao"]})
    assert exact.min() < 0
    assert LAWS["tao"].needs[-1].positive is False


# github.com/mlfoundations/scaling at a003c49, exp_data/models: parameters, tokens and the loss on C4's validation set
# of the runs of 20 tokens a parameter and the smallest run of 320.
GADRE = {
    "c4_original": [
        (411616256, 8232325120, 3.0417367343404416),
        (78914048, 1578280960, 3.800284412392762),
        (153677376, 3073547520, 3.4326457499105776),
        (10569312, 211386240, 5.220676313056785),
        (10569312, 3382179840, 4.506403529656214),
    ],
    "rpj": [
        (411616256, 8232325120, 3.149769456671634),
        (78914048, 1578280960, 3.899942990231468),
        (153677376, 3073547520, 3.531147408490181),
        (10569312, 211386240, 5.38702091510821),
        (10569312, 3382179840, 4.572292613487238),
    ],
}


@pytest.mark.parametrize(
    ("data", "published"),
    [("c4_original", (1.508, 141, 0.121, 190)), ("rpj", (1.837, 212, 0.136, 367))],
)
def test_gadres_published_laws(data, published):
    params, tokens, loss = np.array(GADRE[data]).T
    found = LAWS["gadre"]().fit(Columns.of_arrays(params=params, tokens=tokens, loss=loss), ALONE).parameters
    wanted = dict(zip(("E", "a", "eta", "b"), published, strict=True))
    # To the digits that were printed.
    assert found == pytest.approx(wanted, abs=0.5, rel=0) and round(found["eta"], 3) == wanted["eta"]
    assert round(found["E"], 3) == wanted["E"]


def test_ghorbanis_best_split():
    law = LAWS["ghorbani"]()
    (line,) = law.summary({"parameters": {"p_e": 0.1, "p_d": 0.3}})
    assert "0.250" in line


def curves(steps=4000, every=100, warmup=200):
    """Rows of three schedules: constant, cosine to a tenth, and two falls."""
    rows = []
    at = np.arange(warmup, steps + 1, every, dtype=float)
    share = (at - warmup) / (steps - warmup)
    rates = {
        "constant": np.full(len(at), 1e-3),
        "cosine": 1e-4 + 0.5 * 9e-4 * (1 + np.cos(np.pi * share)),
        "stepped": np.where(share < 0.4, 1e-3, np.where(share < 0.7, 4e-4, 1e-4)),
    }
    for run, rate in rates.items():
        rows += [(run, step, one, 3.0) for step, one in zip(at, rate, strict=True)]
    return as_columns(rows)


def as_columns(rows):
    cells = dict(zip(("run", "step", "learning_rate", "loss"), map(list, zip(*rows, strict=True)), strict=True))
    values = {name: np.array(column) for name, column in cells.items() if name != "run"}
    return Columns(Table("curves", cells), {name: name for name in cells}, values, {})


def with_loss(made, loss):
    values = {**made.values, "loss": loss}
    return Columns(made.table, made.names, values, {})


@pytest.mark.slow
def test_tissues_inputs_are_sums_over_steps():
    law = LAWS["tissue"](warmup=200.0, annealing_memory=0.99)
    made = curves(steps=1200, every=1)
    inputs, runs = law.inputs(made), np.array(made.text("run"))
    rate = made.values["learning_rate"][runs == "cosine"]
    memory, falls = 0.0, []
    for before, now in itertools.pairwise(rate):
        memory = 0.99 * memory + before - now
        falls.append(memory)
    # Rates change within a step here, not between two: half a step of each.
    total = 1e-3 * 100 + np.concatenate([[0.0], np.cumsum(rate[1:])])
    np.testing.assert_allclose(inputs["S1"][runs == "cosine"], total, rtol=2e-3)
    np.testing.assert_allclose(inputs["S2"][runs == "cosine"][1:], np.cumsum(falls), rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "truth"),
    [
        ("tissue", {"L_0": 2.6, "A": 0.6, "alpha": 0.45, "C": 0.5}),
        ("multi_power",
         {"L_0": 2.65, "A": 0.6, "alpha": 0.45, "B": 200.0, "C": 1.5, "beta": 0.6, "gamma": 0.6}),
    ],
)  # fmt: skip
def test_simulated_curves_give_back_their_parameters(name, truth):
    law, made = LAWS[name](warmup=200.0), curves()
    loss = law.form(made).predict(truth, list(law.inputs(made).values()))
    fit = law.fit(with_loss(made, loss), ALONE)
    assert fit.parameters == pytest.approx(truth, rel=1e-3)
    assert np.abs(fit.residuals()).max() < 1e-8


def test_the_multi_power_law_is_its_sum_over_steps():
    """Against the sum over every step that the law is written with, for a cosine logged at each step."""
    p = {"L_0": 2.65, "A": 0.6, "alpha": 0.45, "B": 200.0, "C": 1.5, "beta": 0.6, "gamma": 0.6}
    made = curves(steps=700, every=1, warmup=200)
    law = LAWS["multi_power"](warmup=200.0)
    found = law.form(made).predict(p, list(law.inputs(made).values()))
    runs = np.array(made.text("run"))
    rate = np.concatenate([np.linspace(0, 1e-3, 200, endpoint=False), made.values["learning_rate"][runs == "cosine"]])
    total = np.cumsum(rate)
    for step in (250, 450, 700):
        grown = p["C"] * rate[1 : step + 1] ** -p["gamma"] * (total[step] - total[:step])
        falls = (rate[:step] - rate[1 : step + 1]) @ (1 - (1 + grown) ** -p["beta"])
        wanted = p["L_0"] + p["A"] * total[step] ** -p["alpha"] - p["B"] * falls
        # A learning rate changes within a step here, not between two: of a sum of 100 steps half a step is a 200th.
        assert found[runs == "cosine"][step - 200] == pytest.approx(wanted, abs=4e-3)


def test_the_multi_power_laws_derivatives():
    made = curves()
    law = LAWS["multi_power"](warmup=200.0)
    form, values = law.form(made), np.column_stack(list(law.inputs(made).values()))
    problem = form.problem(values, np.full(len(values), 3.0), 1e-3)
    theta, step = problem.starts[5], 1e-6
    moved = problem.objective.curve(np.concatenate([theta + step * np.eye(7), theta - step * np.eye(7)]))[0]
    for one, wanted in zip(problem.objective.curve(theta[None])[1], (moved[:7] - moved[7:]) / (2 * step), strict=True):
        np.testing.assert_allclose(np.broadcast_to(one, (1, len(values)))[0], wanted, rtol=1e-6, atol=1e-8)
    p = {name: float(value[0]) for name, value in problem.parameters(theta[None]).items()}
    value = problem.objective.value_and_gradient(theta[None])[0][0] * 1e-3
    residual = np.abs(form.residuals(p, values, np.full(len(values), 3.0)))
    wanted = np.where(residual < 1e-3, residual**2 / 2, 1e-3 * (residual - 5e-4)).sum()
    assert value == pytest.approx(wanted, rel=1e-9)
    assert isinstance(form, MultiPower)


@pytest.mark.parametrize(
    ("rows", "warmup", "message"),
    [
        ([("a", 1, 1.0, 3), ("a", 1, 1.0, 3)], 0.0, "run a: two rows of step 1"),
        ([("a", 1, 1.0, 3), ("b", 1, 1.0, 3), ("b", 2, 1.0, 3)], 0.0, "run a: one row"),
        ([("a", 1, 1.0, 3), ("a", 2, 1.0, 3)], 2.0, "run a: step 1 lies within the warm-up of 2 steps"),
        ([("a", 1, 1.0, 3), ("a", 2, 1.0, 3)], -1.0, "warmup is -1"),
        ([("a", k, 1.0, 3 - k / 10) for k in range(1, 11)], 0.0, "the learning rate of no run falls"),
    ],
)
def test_curves_that_cannot_be_read(rows, warmup, message):
    with pytest.raises(UserError, match=message):
        LAWS["multi_power"](warmup=warmup).fit(as_columns(rows), ALONE)
