"""Trackers beside metrics.jsonl; Weights & Biases with a stand-in, and offline where it is installed."""

from __future__ import annotations

import json
import sys
import time
import types

import pytest

from tests.training import tiny
from triarch.errors import UserError
from triarch.training.logs.metrics import MetricsLog
from triarch.training.logs.trackers import TensorBoard, WeightsAndBiases, open_trackers


class Run:
    def __init__(self, fails=False):
        self.lines, self.fails, self.finished = [], fails, False

    def define_metric(self, name, step_metric):
        assert (name, step_metric) == ("*", "step")

    def log(self, line):
        if self.fails:
            raise ConnectionError("no network")
        self.lines.append(line)

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    """A module with what is used of wandb; `begun` holds what each run was begun with."""
    module = types.ModuleType("wandb")
    module.begun, module.run = [], Run()
    module.Settings = lambda **settings: settings
    module.init = lambda **options: module.begun.append(options) or module.run
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_a_config_opens_the_trackers_that_it_asks_for(tmp_path, wandb):
    assert open_trackers(tiny.run_config(""), tmp_path, 0) == []
    config = tiny.run_config("", tensorboard=True, wandb_project="mine")
    first, second = open_trackers(config, tmp_path, 0)
    assert (type(first), type(second)) == (TensorBoard, WeightsAndBiases)
    assert wandb.begun[0]["project"] == "mine"
    assert wandb.begun[0]["config"]["steps"] == config.steps
    first.close()


def test_a_resumed_run_is_the_same_run_there(tmp_path, wandb):
    for project in ("mine", "mine", "another"):
        WeightsAndBiases(tmp_path, project, {}).close()
    first, resumed, other = (options["id"] for options in wandb.begun)
    assert first == resumed != other
    assert all(options["resume"] == "allow" for options in wandb.begun)


def test_every_number_goes_there(tmp_path, wandb):
    log = MetricsLog(tmp_path, 0, [WeightsAndBiases(tmp_path, "mine", {})])
    log.write({"step": 3, "loss": 2.5, "mfu": None})
    log.sync()
    log.close()
    assert wandb.run.lines == [{"step": 3, "loss": 2.5}]
    assert wandb.run.finished
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 3, "loss": 2.5, "mfu": None}


def test_what_fails_there_does_not_end_the_run(tmp_path, wandb, capsys):
    wandb.run.fails = True
    log = MetricsLog(tmp_path, 0, [WeightsAndBiases(tmp_path, "mine", {})])
    log.write({"step": 1, "loss": 2.0})
    log.write({"step": 2, "loss": 1.0})
    log.close()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    assert capsys.readouterr().err.count("Weights & Biases: no network") == 1


def test_a_missing_package_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"wandb_project = 'mine': wandb is not installed \(pip install"):
        WeightsAndBiases(tmp_path, "mine", {})


def test_offline_runs_are_kept_in_the_run_folder(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    tracker = WeightsAndBiases(tmp_path, "mine", {"steps": 2})
    tracker.write({"step": 1, "loss": 2.0})
    tracker.close()
    (record,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    # A process of wandb's own writes, a moment later.
    deadline = time.monotonic() + 30
    while b"loss" not in record.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert b"loss" in record.read_bytes()
