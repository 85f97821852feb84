"""Rows of one run err together: they are found, and resampled whole."""

import numpy as np
import pytest

from triarch.errors import UserError
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.chinchilla import Chinchilla
from triarch.scaling.laws.registry import make
from triarch.scaling.requests.outcome import fit_table
from triarch.scaling.requests.request import FitRequest
from triarch.scaling.requests.runs import runs_of
from triarch.scaling.tables.table import Table

pytestmark = pytest.mark.usefixtures("few_starts")


@pytest.fixture(autouse=True)
def no_checks(monkeypatch):
    """Profiles take most of a fit's time, and nothing here looks at them."""
    monkeypatch.setattr(Chinchilla, "diagnose", lambda *arguments: None)


COLUMNS = {"params": "N", "tokens": "D", "loss": "loss"}


def curves(points=6, seed=0, **more):
    """Eight runs' checkpoints, each run with an error of its own."""
    rng, rows = np.random.default_rng(seed), []
    for run, size in enumerate(np.geomspace(2e7, 2e9, 8)):
        shift = 0.01 * rng.normal()
        for step, share in enumerate(np.linspace(0.1, 1, points), start=1):
            tokens = 20 * size * share
            loss = (1.8 + 480 / size**0.35 + 2085 / tokens**0.366) * np.exp(shift + 0.001 * rng.normal())
            own = {"run": f"r{run}", "step": 100 * step, "N": size, "D": tokens, "loss": loss}
            rows.append(own | {name: value(own) for name, value in more.items()})
    return rows


def request(run=None, law="chinchilla", columns=COLUMNS, **more):
    return FitRequest(make(law, {}), columns, run=run, options=FitOptions(bootstraps=30), held_out=0.0, **more)


def table(rows, *without):
    return Table.from_rows([{name: cell for name, cell in row.items() if name not in without} for row in rows])


def width(outcome):
    low, high = outcome.result["intervals"]["alpha"]
    return high - low


def test_runs_are_resampled_whole_where_asked_and_where_a_table_tells():
    rows = curves()
    asked = fit_table(table(rows), request("run"))
    assert asked.result["parameters"] == fit_table(table(rows), request("none")).result["parameters"]
    # Errors that eight runs share say eight things about size, not 48.
    assert width(asked) > 2 * width(fit_table(table(rows), request("none")))
    assert not any("err together" in warning for warning in asked.result["warnings"])
    for own, told in ((table(rows), "of one run"), (table(rows, "run"), "rising step at one N")):
        found = fit_table(own, request())
        assert found.result["intervals"]["alpha"] == asked.result["intervals"]["alpha"] or "step" in told
        assert width(found) > 2 * width(fit_table(table(rows), request("none")))
        assert any(told in warning and "--run_column=none" in warning for warning in found.result["warnings"])


def test_rows_that_are_runs_of_their_own_are_left_so():
    rows = curves()
    assert runs_of(table(rows, "run", "step"), request()) is None
    last = [row for row in rows if row["step"] == 600]
    assert runs_of(table(last), request()) is None
    # A family is no run: it has many sizes.
    families = [row | {"run": f"family{k % 2}", "step": 1} for k, row in enumerate(rows)]
    assert runs_of(table(families), request()) is None
    # Steps of finished runs of one size are not even.
    uneven = [row | {"step": 100 * 2 ** (k % 6)} for k, row in enumerate(rows)]
    assert runs_of(table(uneven, "run"), request()) is None
    assert runs_of(table(rows), request("none")) is None


def test_groups_and_pairs_draw_runs_too():
    rows = [row | {"group": group, "loss": row["loss"] * scale, "run": group + row["run"], "pair": row["run"]}
            for group, scale in (("a", 1.0), ("b", 1.02)) for row in curves()]  # fmt: skip
    apart = fit_table(table(rows), request("run", group="group"))
    pairs = fit_table(table(rows), request("run", group="group", pair="pair"))
    assert pairs.comparisons[0].pairs == 8 and pairs.comparisons[0].gaps[0].interval is not None
    # Both have the same errors: drawn together they leave nothing of them.
    gaps = [one.comparisons[0].gaps[0].interval for one in (apart, pairs)]
    assert gaps[1][1] - gaps[1][0] < 0.2 * (gaps[0][1] - gaps[0][0])
    by_row = [row | {"pair": f"{row['pair']}@{row['step']}"} for row in rows]
    again = fit_table(table(by_row), request("run", group="group", pair="pair"))
    assert again.comparisons[0].pairs == 8
    assert again.comparisons[0].gaps[0].interval == pytest.approx(gaps[1], abs=0.2 * (gaps[0][1] - gaps[0][0]))


def test_one_run_and_laws_that_resample_no_rows_are_refused():
    rows = [row | {"run": "only"} for row in curves()]
    with pytest.raises(UserError, match="run names one run, 'only': intervals resample runs and need two or more"):
        fit_table(table(rows), request("run"))
    with pytest.raises(UserError, match="no column 'runs'"):
        fit_table(table(rows), request("runs"))
    with pytest.raises(UserError, match="fit --law=isoflop resamples no rows: it has no use for --run_column"):
        fit_table(table(rows), request("run", law="isoflop"))
