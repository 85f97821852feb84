"""Where the plan that was chosen has no memory, the next smaller one is tried, until one fits or none is left."""

import dataclasses
import itertools
import json

import jax
import pytest

from tests.training.choosing.test_choice import EIGHT, wide
from triarch.errors import UserError
from triarch.training import loop, train
from triarch.training.choosing.choice import Choice, choose_on
from triarch.training.choosing.facts import Facts

FULL = "XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 101.2G of 95.7G hbm.\nmore"


def test_each_next_plan_needs_less_and_in_the_end_none_is_left():
    config, refused, needs = wide(batch_size=1024), [], []
    facts = Facts(config, "tpu")
    with pytest.raises(UserError, match=r"no plan is left that needs less than .* a device by the estimate"):
        while True:
            choice = choose_on(config, EIGHT, None, facts, refused)
            needs.append(choice.needed_bytes)
            refused.append(choice.option)
    assert len(needs) > 2 and all(after <= 0.95 * before for before, after in itertools.pairwise(needs))
    assert refused[0].remat == "none" and refused[-1].remat == "full"
    record = choose_on(config, EIGHT, None, facts).record(config)
    assert choose_on(config, EIGHT, record, facts, refused[:1]).option != refused[0]


class Plans:
    """Stands for `choose` and the loop: of the plans of a TPU, those of `full` have no memory."""

    def __init__(self, full):
        self.full, self.tried = full, []

    def choose(self, config, devices, before=None, refused=()):
        assert before is None or not refused
        option = dataclasses.replace(self.plain, remat=("none", "save_projections", "full")[len(refused)])
        return Choice(option, EIGHT, ("remat",), 2.0**30)

    def loop(self, run, *arguments):
        self.tried.append(run.config.execution.remat)
        if self.tried[-1] in self.full:
            raise RuntimeError(FULL)
        return self.real(run, *arguments)


@pytest.fixture
def plans(config, monkeypatch):
    one = Plans(())
    one.real = loop._loop
    one.plain = loop.choose(config, jax.devices()[:1]).option
    monkeypatch.setattr(loop, "choose", one.choose)
    monkeypatch.setattr(loop, "_loop", one.loop)
    return one


@pytest.mark.slow
def test_a_run_takes_the_next_plan(config, plans, tmp_path, capsys):
    plans.full = ("none",)
    config = dataclasses.replace(config, execution=dataclasses.replace(config.execution, remat="auto"))
    assert train(config, tmp_path, "")["status"] == "complete"
    assert plans.tried == ["none", "save_projections"]
    said = capsys.readouterr().out
    assert "remat none: does not fit (XLA:TPU compile permanent error. Ran out of memory" in said
    assert json.loads((tmp_path / "config.json").read_text())["chosen"]["remat"] == "save_projections"


@pytest.mark.slow
def test_what_the_config_says_itself_is_not_changed(config, plans, tmp_path, monkeypatch):
    plans.full = ("none", "save_projections", "full")
    monkeypatch.setattr(loop, "choose", lambda *arguments: Choice(plans.plain, EIGHT, ()))
    with pytest.raises(UserError, match="out of memory"):
        train(config, tmp_path, "")
