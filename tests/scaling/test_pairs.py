"""Pairs in every law that compares architectures: noise that both share cancels, whatever is resampled."""

import dataclasses
import itertools

import numpy as np
import pytest

from triarch.errors import UserError
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.registry import make
from triarch.scaling.requests.outcome import fit_table
from triarch.scaling.requests.request import FitRequest
from triarch.scaling.tables.table import Table


def isoflop_rows():
    """Two architectures on one grid; a run of both at one size and budget has the same noise."""
    rng = np.random.default_rng(3)
    rows = []
    for flops in np.geomspace(1e17, 1e20, 5):
        for step in range(-3, 4):
            noise = 0.004 * rng.normal()
            for group, scale in (("a", 3.0), ("b", 2.9)):
                params = 0.1 * flops**0.5 * 2.0 ** (step / 2)
                loss = scale * flops**-0.03 * np.exp(0.03 * np.log(params / (0.1 * flops**0.5)) ** 2 + noise)
                rows.append({"group": group, "cell": f"{step}@{flops:.3g}", "N": params, "D": flops / 6 / params,
                             "loss": loss, "C": flops})  # fmt: skip
    return rows


def envelope_rows():
    rng = np.random.default_rng(4)
    rows = []
    for size in np.geomspace(1e6, 1e9, 10):
        noise = 0.01 * rng.normal()
        for group, scale in (("a", 1.0), ("b", 0.97)):
            for tokens in np.geomspace(2e7, 3e10, 40):
                loss = scale * np.exp(noise) * (1.7 + 400 / size**0.34 + 410 / tokens**0.28)
                rows.append({"group": group, "cell": f"{size:.3g}", "run": f"{group}{size:.3g}", "N": size,
                             "D": tokens, "loss": loss})  # fmt: skip
    return rows


def downstream_rows():
    rng = np.random.default_rng(5)
    rows = []
    for index, loss in enumerate(np.linspace(2.2, 3.6, 24)):
        noise = 0.01 * rng.normal()
        for group, ceiling in (("a", 0.85), ("b", 0.80)):
            accuracy = 0.25 + (ceiling - 0.25) / (1 + np.exp(5 * (loss - 2.8))) + noise
            rows.append({"group": group, "cell": index, "loss": loss, "accuracy": accuracy})
    return rows


def settings_rows():
    """Learning rates and batches tried at each size and number of tokens; a cell of both has the same chance shift.

    A run's name holds its learning rate and batch, as those of a sweep do; the group's own rates are not the other's.
    """
    rng = np.random.default_rng(6)
    rows = []
    for params in (1e7, 4e7, 1.6e8):
        for tokens in (1e9, 4e9, 1.6e10):
            shift = 0.3 * rng.normal(size=2)
            for group, scale in (("a", 1.8), ("b", 2.4)):
                rate = scale * params**-0.7 * tokens**0.3 * np.exp(shift[0])
                batch = 0.6 * tokens**0.57 * np.exp(shift[1])
                for i, j in itertools.product(range(-3, 4), range(-2, 3)):
                    chosen = 1e-3 * 2.0 ** (round(np.log2(rate / 1e-3)) + i), batch * 2.0**j
                    off = np.log(np.array(chosen) / (rate, batch))
                    rows.append({"group": group, "cell": f"{params:g}-{tokens:g}-{chosen[0]:.4g}-{j}", "N": params,
                                 "D": tokens, "lr": chosen[0], "bs": chosen[1],
                                 "loss": 3.0 * np.exp(0.003 * off @ off)})  # fmt: skip
    return rows


SETTINGS = {"params": "N", "tokens": "D", "learning_rate": "lr", "batch": "bs", "loss": "loss"}
LAWS = {
    "hyperparameters": (settings_rows, SETTINGS, "learning_rate_exponent_D"),
    "isoflop": (isoflop_rows, {"params": "N", "tokens": "D", "loss": "loss", "flops": "C"}, "k_L"),
    "envelope": (envelope_rows, {"run": "run", "params": "N", "tokens": "D", "loss": "loss"}, "k_L"),
    "downstream": (downstream_rows, {"loss": "loss", "y": "accuracy"}, "ceiling"),
}


def request(law, **settings):
    floor = {"floor": 0.25} if law == "downstream" else {}
    options = FitOptions(bootstraps=200)
    return FitRequest(
        make(law, floor | settings), LAWS[law][1], group="group", pair="cell", options=options, held_out=0.0
    )


def width(outcome, name):
    low, high = next(one.interval for one in outcome.comparisons[0].parameters if one.what == name)
    return high - low


@pytest.mark.parametrize("law", LAWS)
def test_pairs_share_their_noise_and_narrow_the_difference(law):
    make, _, parameter = LAWS[law]
    table = Table.from_rows(make())
    paired = fit_table(table, request(law))
    apart = fit_table(table, dataclasses.replace(request(law), pair=None))
    runs = {(row["N"], row["D"]) if law == "hyperparameters" else row["cell"] for row in make()}
    assert paired.comparisons[0].pairs == len(runs)
    assert apart.comparisons[0].pairs == 0
    assert width(paired, parameter) < 0.5 * width(apart, parameter)  # 0.01 to 0.3, whatever the noise drawn
    for parts in zip(paired.parts, apart.parts, strict=True):
        assert parts[0].result["parameters"] == parts[1].result["parameters"]


def test_runs_without_a_partner_are_left_out():
    rows = [row for row in isoflop_rows() if (row["group"], row["cell"]) != ("b", "-3@1e+17")]
    outcome = fit_table(Table.from_rows(rows), request("isoflop"))
    assert outcome.comparisons[0].pairs == 34
    assert any("no partner by cell" in warning for warning in outcome.result["warnings"])


@pytest.mark.parametrize(("law", "words"), [("isoflop", "names 5 runs"), ("envelope", "paired both as")])
def test_a_pair_names_one_run(law, words):
    key = (lambda row: row["cell"].split("@")[0]) if law == "isoflop" else (lambda row: f"{row['D']:.1g}")
    rows = [row | {"cell": key(row)} for row in LAWS[law][0]()]
    with pytest.raises(UserError, match=words):
        fit_table(Table.from_rows(rows), request(law))


def test_best_settings_are_compared_at_equal_size_and_tokens():
    rows = [row for row in settings_rows() if (row["group"], row["N"], row["D"]) != ("b", 1e7, 1e9)]
    outcome = fit_table(Table.from_rows(rows), request("hyperparameters", tolerance=0.05))
    (found,) = outcome.comparisons
    assert found.pairs == 8 and any("no partner by cell" in one for one in outcome.result["warnings"])
    assert [one.what for one in found.settings[::3]] == ["learning_rate at N", "learning_rate at D", "batch at D"]
    for one in found.settings:
        wanted = 2.4 / 1.8 if one.what.startswith("learning") else 1.0
        # Rates are tried by powers of two: each cell's mean over those near the optimum lies within half a step.
        assert one.difference == pytest.approx(wanted, rel=0.25)
        assert one.difference == one.second / one.first and one.interval[0] <= one.difference <= one.interval[1]


def test_a_pair_of_cells_is_one_of_each_group():
    rows = [row | {"cell": f"{row['N']:g}"} for row in settings_rows()]
    with pytest.raises(UserError, match="cell: its values tie several sizes and numbers of tokens of a together"):
        fit_table(Table.from_rows(rows), request("hyperparameters"))
