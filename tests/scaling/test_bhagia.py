"""Accuracy in two steps: both laws recovered, drawn together, and on the command line's path."""

import json

import numpy as np
import pytest

from triarch.errors import UserError
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.published.bhagia import fit_bhagia
from triarch.scaling.laws.registry import make
from triarch.scaling.requests.outcome import fit_table
from triarch.scaling.requests.request import FitRequest
from triarch.scaling.requests.text import describe
from triarch.scaling.tables.table import Table

pytestmark = pytest.mark.usefixtures("few_starts")


def ladder(noise=0.0, seed=0):
    """Four sizes by four amounts of data, as the paper's ladder."""
    rng = np.random.default_rng(seed)
    params = np.repeat([190e6, 370e6, 760e6, 1.3e9], 4)
    tokens = params * np.tile([20, 40, 100, 200], 4)
    loss = (0.5 + 120 / params**0.29 + 300 / tokens**0.3) * np.exp(noise * rng.normal(size=16))
    accuracy = 0.95 / (1 + np.exp(4.0 * (loss - 1.1))) + noise * rng.normal(size=16)
    return params, tokens, loss, accuracy


def test_both_steps_are_recovered():
    fit = fit_bhagia(*ladder(), FitOptions(bootstraps=0))
    assert fit.parameters["loss_alpha"] == pytest.approx(0.29, rel=1e-4)
    assert fit.parameters["accuracy_ceiling"] == pytest.approx(0.95, rel=1e-4)
    assert fit.parameters["accuracy_k"] == pytest.approx(4.0, rel=1e-4)
    # Seven billion parameters after 40 tokens each: what the two laws say one after the other.
    loss = 0.5 + 120 / 7e9**0.29 + 300 / 2.8e11**0.3
    assert fit.predict(7e9, 2.8e11) == pytest.approx(0.95 / (1 + np.exp(4.0 * (loss - 1.1))), rel=1e-4)
    assert fit.interval(7e9, 2.8e11) is None


def test_a_table_of_the_ladder():
    rows = [
        dict(zip(("N", "D", "bpb", "accuracy"), map(float, row), strict=True))
        for row in zip(*ladder(noise=0.005), strict=True)
    ]
    columns = {"params": "N", "tokens": "D", "loss": "bpb", "y": "accuracy"}
    outcome = fit_table(
        Table.from_rows(rows), FitRequest(make("bhagia", {}), columns, options=FitOptions(bootstraps=60))
    )
    json.dumps(outcome.result, allow_nan=False)
    low, high = outcome.result["largest_run"]["interval"]
    assert low < outcome.result["largest_run"]["predicted"] < high and high - low < 0.1
    assert outcome.result["accuracy_rms"] < 0.02
    assert len(outcome.parts[0].fit.samples["loss_E"]) == len(outcome.parts[0].fit.samples["accuracy_k"]) == 60
    assert "accuracy_ceiling" in describe(outcome)
    panels = make("bhagia", {}).panels(outcome.parts[0], "")
    assert [panel.name for panel in panels] == ["law", "loss"]


def test_accuracies_in_per_cent_are_refused():
    params, tokens, loss, accuracy = ladder()
    with pytest.raises(UserError, match="expected a share from 0 to 1"):
        fit_bhagia(params, tokens, loss, 100 * accuracy, FitOptions(bootstraps=0))
