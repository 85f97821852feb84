"""Tasks evaluated during a run, and the best checkpoint by a metric: kept, found again, safe from a kill."""

import dataclasses
import json
import shutil
import signal
import time

import numpy as np
import pytest

from tests.training import tiny
from triarch.errors import UserError
from triarch.loading import checkpoint_steps, load
from triarch.models.network import flatten
from triarch.training import CheckpointConfig, train
from triarch.training.best import Best
from triarch.training.checkpoints import Checkpoints

# The value of each step, so that the best one is neither the first nor the last.
VALUES = {3: 0.2, 6: 0.9, 9: None, 12: 0.4}


class Evaluator:
    """Gives the values of VALUES, and keeps what it saw."""

    def __init__(self, fails_at=None):
        self.fails_at = fails_at
        self.seen = {}
        self.checked = 0

    def check(self, model):
        self.checked += 1

    def __call__(self, model, step):
        batch = {"decoder_input_tokens": np.arange(4, 12)[None], "decoder_segment_ids": np.ones((1, 8), int)}
        self.seen[step] = (values_of(model), model.logits(batch))
        if step == self.fails_at:
            raise UserError("task t: a metric: ZeroDivisionError")
        return {"t/value": VALUES[step], "t/other": 1.0}


def config(store, **changes):
    checkpoint = CheckpointConfig(every=4, keep_last=1, keep_best="t/value")
    found = tiny.run_config(store, eval_tasks=("t",), eval_tasks_every=3, checkpoint=checkpoint)
    return dataclasses.replace(found, **changes)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny.write_store(tmp_path_factory.mktemp("store") / "store")


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    workdir, evaluator = tmp_path_factory.mktemp("run") / "run", Evaluator()
    return workdir, evaluator, train(config(store), workdir, "", task_evaluator=evaluator)


def values_of(model):
    return np.concatenate([np.array(value).ravel() for value in flatten(model.params).values()])


def lines_of(workdir):
    return {line["step"]: line for line in map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())}


def test_metrics_are_logged_and_the_best_checkpoint_stays(run):
    workdir, evaluator, summary = run
    lines = lines_of(workdir)
    assert {step: line["t/value"] for step, line in lines.items() if "t/value" in line} == VALUES
    assert checkpoint_steps(workdir) == [6, 12] and checkpoint_steps(workdir, step="best") == [6]
    assert (summary["best_step"], summary["best_value"]) == (6, 0.9)
    assert evaluator.checked == 1


def test_what_is_evaluated_is_the_checkpoint(run):
    """Parameters that are put into the one model of all evaluations: those of the step, and so are its programs'."""
    workdir, evaluator, _ = run
    assert not np.array_equal(*(evaluator.seen[step][0] for step in (3, 6)))
    best = load(workdir, step="best")
    assert best.origin.step == 6
    np.testing.assert_array_equal(values_of(best), evaluator.seen[6][0])
    batch = {"decoder_input_tokens": np.arange(4, 12)[None], "decoder_segment_ids": np.ones((1, 8), int)}
    np.testing.assert_array_equal(best.logits(batch), evaluator.seen[6][1])


def test_training_is_the_same_with_tasks_and_without(run, store, tmp_path):
    plain = config(store, eval_tasks=(), eval_tasks_every=None, checkpoint=CheckpointConfig(every=4))
    train(plain, tmp_path / "plain", "")
    assert tiny.losses(tmp_path / "plain") == tiny.losses(run[0])


def test_going_on_knows_the_best_again(run, store, tmp_path):
    """From the checkpoint of step 8 on: the best, of step 6, is known from the log, and stays."""
    workdir = tmp_path / "run"
    first = dataclasses.replace(config(store), checkpoint=CheckpointConfig(every=4, keep_last=4, keep_best="t/value"))
    train(first, workdir, "", task_evaluator=Evaluator())
    shutil.rmtree(workdir / "checkpoints" / "12")
    assert checkpoint_steps(workdir) == [4, 6, 8]
    train(config(store), workdir, "", task_evaluator=Evaluator())
    assert checkpoint_steps(workdir) == [6, 12] and checkpoint_steps(workdir, step="best") == [6]
    assert tiny.losses(workdir) == tiny.losses(run[0])
    assert [line.get("t/value") for line in lines_of(workdir).values()] == [
        line.get("t/value") for line in lines_of(run[0]).values()
    ]


def test_a_validation_loss_is_best_where_it_is_least(store, tmp_path):
    least = CheckpointConfig(every=100, keep_last=1, keep_best="validation_loss")
    found = tiny.run_config(store, eval_every=4, eval_batches=1, checkpoint=least)
    summary = train(found, tmp_path, "")
    losses = {step: line["validation_loss"] for step, line in lines_of(tmp_path).items() if "validation_loss" in line}
    assert summary["best_step"] == min(losses, key=losses.get)
    assert summary["best_step"] in checkpoint_steps(tmp_path)
    most = Best(CheckpointConfig(keep_best="validation_loss", keep_best_mode="max"))
    most.read({"step": step, "validation_loss": loss} for step, loss in losses.items())
    assert most.step == max(losses, key=losses.get)


def test_a_metric_that_fails_does_not_end_the_run(store, tmp_path, capsys):
    summary = train(config(store), tmp_path, "", task_evaluator=Evaluator(fails_at=6))
    assert summary["best_step"] == 12
    assert "step 6: tasks could not be evaluated: task t: a metric: ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "best", "message"),
    [
        ({}, "t/valu", "CheckpointConfig.keep_best = 't/valu': no such metric (did you mean 't/value'?)"),
        ({}, "value", "CheckpointConfig.keep_best = 'value': expected a task's metric, as TASK/METRIC, or validation_"),
        ({}, "validation_loss", "keep_best = 'validation_loss': is never evaluated: set RunConfig.eval_every"),
        ({"eval_tasks_every": None}, None, "RunConfig.eval_tasks = ('t',): set RunConfig.eval_tasks_every too"),
        ({"eval_tasks": ()}, None, "RunConfig.eval_tasks_every = 3: set RunConfig.eval_tasks too"),
        ({"eval_tasks": (), "eval_tasks_every": None}, "t/value", "name its task in RunConfig.eval_tasks"),
    ],
)
def test_what_cannot_be_evaluated_is_told(store, tmp_path, changes, best, message):
    bad = config(store, checkpoint=CheckpointConfig(keep_best=best), **changes)
    with pytest.raises(UserError) as error:
        train(bad, tmp_path / "run", "", task_evaluator=Evaluator())
    assert message in str(error.value)


def test_who_is_to_evaluate_and_what_is_best_are_asked_for(run, store, tmp_path):
    with pytest.raises(UserError, match="in Python give `train` a task_evaluator"):
        train(config(store), tmp_path / "run", "")
    plain = tiny.run_config(store, steps=6)
    train(plain, tmp_path / "plain", "")
    with pytest.raises(UserError, match=r"keeps no best checkpoint \(CheckpointConfig.keep_best names a metric\)"):
        load(tmp_path / "plain", step="best")


_SCRIPT = """
import sys
from tests.training import test_tasks
from triarch.training import train

store, workdir = sys.argv[1:]
train(test_tasks.config(store), workdir, "", task_evaluator=test_tasks.Evaluator())
"""


@pytest.mark.slow
def test_a_kill_while_the_best_is_saved_leaves_a_best(run, store, tmp_path):
    """Killed at any moment after a first evaluation, again and again: in the end as if nothing had happened."""
    workdir = tmp_path / "run"
    for moment in (3, 6, 9):
        process = tiny.python(_SCRIPT, store, workdir, optimise=False)
        log = workdir / "metrics.jsonl"
        deadline = time.monotonic() + 300
        while f'"step": {moment},' not in (log.read_text() if log.exists() else ""):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode == -signal.SIGKILL and (workdir / "checkpoints").exists() and moment > 6:
            assert 6 in checkpoint_steps(workdir)
    process = tiny.python(_SCRIPT, store, workdir, optimise=False)
    assert process.wait(300) == 0, process.communicate()[1]
    assert checkpoint_steps(workdir) == [6, 12] and checkpoint_steps(workdir, step="best") == [6]
    assert tiny.losses(workdir) == tiny.losses(run[0])


def test_the_best_outlives_newer_ones(tmp_path):
    from tests.training.test_checkpoints import state

    best = Best(CheckpointConfig(keep_best="t/value"))
    checkpoints = Checkpoints(tmp_path / "checkpoints", CheckpointConfig(keep_last=1), lambda: best.step)
    for step, value in enumerate([0.1, 0.5, 0.3, 0.5, 0.2], 1):
        best.note({"step": step, "t/value": value})
        checkpoints.save(state(step), step)
    checkpoints.wait()
    assert checkpoints.steps() == [2, 5]
    checkpoints.close()
