"""Whole runs: what they write, how they stop, and how they go on."""

import dataclasses
import errno
import json
import math
import os
import shutil
import signal
import subprocess
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from tests.training import tiny
from triarch.errors import UserError
from triarch.runtime.watchdog import Watchdog
from triarch.training import CheckpointConfig, checkpoints, loop, train
from triarch.training.best import Best
from triarch.training.logs.profiling import StepTrace
from triarch.training.logs.reporter import Pending, Reporter
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """A run without any interruption."""
    workdir = tmp_path_factory.mktemp("whole")
    config = dataclasses.replace(config, eval_every=6, eval_batches=2, tensorboard=True)
    return workdir, config, train(config, workdir, "the config\n")


def test_a_run_writes_all_its_files(whole):
    workdir, _, summary = whole
    assert (workdir / "config.gin").read_text() == "the config\n"
    assert json.loads((workdir / "config.json").read_text())["optimizer"]["learning_rate"]["class"] == "Cosine"
    assert json.loads((workdir / "summary.json").read_text()) == summary
    assert any((workdir / "tensorboard").iterdir())
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["12", "8"]


def test_every_logged_line_is_complete(whole):
    workdir, config, summary = whole
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13))
    for line in lines:
        step = line["step"]
        assert {"loss", "z_loss", "accuracy", "grad_norm", "tokens_per_second", "seconds"} <= line.keys()
        assert line["tokens"] == step * 8 * tiny.WINDOW
        assert line["mfu"] is None
        assert line["flops_paper"] == step * 8 * config.model.flops(0, tiny.WINDOW, "paper")
        assert line["flops_train"] == step * 8 * config.model.flops(0, tiny.WINDOW, "train")
        assert line["learning_rate"] == pytest.approx(float(config.optimizer.learning_rate(step - 1, 12)))
    assert lines[0]["loss"] == pytest.approx(math.log(tiny.VOCABULARY), rel=0.02)
    assert [line["step"] for line in lines if "validation_loss" in line] == [6, 12]
    assert lines[-1]["validation_loss"] == summary["validation_loss"] < lines[5]["validation_loss"]
    assert summary["loss"] == lines[-1]["loss"] < lines[0]["loss"]
    assert lines[0]["tokens_per_second"] is None
    assert summary["tokens_per_second"] == pytest.approx(np.median([line["tokens_per_second"] for line in lines[1:]]))


def test_a_complete_run_stays_as_it_is(whole, capsys):
    workdir, config, summary = whole
    again = train(config, workdir, "the config\n")
    assert again == summary
    assert sorted(tiny.losses(workdir)) == list(range(1, 13))


def stopping_after(monkeypatch, step, number):
    """Sends this process a signal while the given step is reported."""
    report = Reporter.report

    def patched(self, pending):
        report(self, pending)
        if pending.step == step:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Reporter, "report", patched)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on(whole, tmp_path, monkeypatch, capsys, number):
    reference, config, _ = whole
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        stopping_after(patch, 5, number)
        result = train(config, tmp_path, "the config\n")
    assert result["status"] == "interrupted"
    assert 5 < result["step"] < 8
    assert f"saved at step {result['step']}; run again to resume" in capsys.readouterr().err
    assert not (tmp_path / "summary.json").exists()
    assert signal.getsignal(number) == before
    summary = train(config, tmp_path, "the config\n")
    assert tiny.losses(tmp_path) == tiny.losses(reference)
    assert summary["validation_loss"] == json.loads((reference / "summary.json").read_text())["validation_loss"]


@dataclasses.dataclass(frozen=True)
class Exploding(Constant):
    """Constant, but astronomic from update 6 on."""

    def __call__(self, step, total_steps):
        return jnp.where(jnp.asarray(step) < 6, 1e-3, 1e38)


def test_nan_stops_the_run_and_leaves_good_checkpoints(config, tmp_path):
    optimizer = AdamW(Exploding(1e-3), max_grad_norm=None)
    config = dataclasses.replace(config, optimizer=optimizer, checkpoint=CheckpointConfig(every=3, keep_last=9))
    with pytest.raises(UserError, match=r"(loss|grad_norm) is (nan|inf) at step 8: stopped"):
        train(config, tmp_path, "")
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["3", "6"]
    assert all(map(math.isfinite, tiny.losses(tmp_path).values()))
    assert sorted(tiny.losses(tmp_path)) == list(range(1, 8))


def test_a_poisoned_state_is_not_saved(config, tmp_path):
    """The update of step 7 makes parameters infinite though its own loss is finite."""
    optimizer = AdamW(Exploding(1e-3), max_grad_norm=None, weight_decay=10.0)
    config = dataclasses.replace(config, optimizer=optimizer, checkpoint=CheckpointConfig(every=7, keep_last=9))
    with pytest.raises(UserError, match="a parameter is infinite or NaN after step 7"):
        train(config, tmp_path, "")
    assert not list((tmp_path / "checkpoints").iterdir())


def copy_of(whole, tmp_path):
    workdir, config, _ = whole
    copy = tmp_path / "run"
    shutil.copytree(workdir, copy)
    return copy, config


def flip_a_bit(path: Path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def data_file(checkpoint: Path) -> Path:
    return max((path for path in checkpoint.rglob("d/*")), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize(
    "damage",
    [
        lambda step: flip_a_bit(data_file(step)),
        lambda step: os.truncate(data_file(step), 10),
        lambda step: data_file(step).unlink(),
        lambda step: (step / "optimizer" / checkpoints.RECORD).unlink(),
        lambda step: shutil.rmtree(step / "params"),
    ],
    ids=["bit", "truncated", "deleted", "no record", "no params"],
)
def test_a_damaged_checkpoint_is_passed_over_and_named(whole, tmp_path, capsys, damage):
    copy, config = copy_of(whole, tmp_path)
    damage(copy / "checkpoints" / "12")
    train(config, copy, "the config\n")
    said = capsys.readouterr().err
    assert "checkpoint 12 is damaged" in said
    assert "going on from step 8" in said
    assert tiny.losses(copy) == tiny.losses(whole[0])
    assert sorted(path.name for path in (copy / "checkpoints").iterdir()) == ["12", "8", "damaged-12"]


def test_no_whole_checkpoint_is_an_error_that_touches_nothing(whole, tmp_path):
    copy, config = copy_of(whole, tmp_path)
    for step in (8, 12):
        flip_a_bit(data_file(copy / "checkpoints" / str(step)))
    with pytest.raises(UserError, match=r"none of 2 checkpoints is whole; the newest, of step 12: .* has changed"):
        train(config, copy, "the config\n")
    assert sorted(path.name for path in (copy / "checkpoints").iterdir()) == ["12", "8"]
    assert len(tiny.losses(copy)) == 12


def test_another_config_is_refused_with_the_difference(whole, tmp_path):
    copy, config = copy_of(whole, tmp_path)
    changed = dataclasses.replace(config, steps=20, optimizer=AdamW(Constant(3e-3)))
    with pytest.raises(UserError) as error:
        train(changed, copy, "another\n")
    assert "steps: 12 -> 20" in str(error.value)
    assert "optimizer.learning_rate: Cosine -> Constant" in str(error.value)
    assert (copy / "config.gin").read_text() == "the config\n"


def test_how_a_run_is_computed_and_watched_may_change(whole, tmp_path):
    copy, config = copy_of(whole, tmp_path)
    changed = dataclasses.replace(config, log_every=3, microbatches=2, checkpoint=CheckpointConfig(every=6))
    train(changed, copy, "another\n")
    assert (copy / "config.gin").read_text() == "another\n"


def test_a_full_disk_is_one_line_and_harms_no_checkpoint(whole, tmp_path, monkeypatch):
    _, config, _ = whole
    write_record = checkpoints.write_record

    def full(item, checksums):
        if len(list((tmp_path / "checkpoints").iterdir())) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_record(item, checksums)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_record", full)
        with pytest.raises(UserError, match=r"the disk is full \(.* left\); the newest checkpoint is that of step 4"):
            train(config, tmp_path, "the config\n")
    train(config, tmp_path, "the config\n")
    assert tiny.losses(tmp_path) == tiny.losses(whole[0])


def test_a_disk_that_is_really_full(config, tmp_path, caplog, capfd):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=640k", "tmpfs", str(small)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        changed = dataclasses.replace(config, checkpoint=CheckpointConfig(every=2, keep_last=20))
        with pytest.raises(UserError, match=r"the disk is full \(.* left\); the newest checkpoint is that of step"):
            train(changed, small / "run", "")
        assert not caplog.records, "one line, not Orbax's own account"
        assert "Traceback" not in capfd.readouterr().err
        newest = max(int(path.name) for path in (small / "run" / "checkpoints").iterdir() if path.name.isdigit())
        assert not checkpoints.find_faults(small / "run" / "checkpoints" / str(newest), ("params", "optimizer"))
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_metrics_are_fetched_while_the_next_step_runs():
    """The order of events with a run that only writes down what is asked of it."""
    events = []

    class FakeRun:
        config = dataclasses.make_dataclass("C", ["steps", "eval_every", "checkpoint"])(
            4, None, CheckpointConfig(every=100)
        )

        def batches(self, step):
            yield from range(step, 10)

        def train_step(self, state, batch):
            events.append(f"start {batch + 1}")
            return state, {}

        def stored(self, state):
            return state

    class FakeReporter:
        def report(self, pending: Pending):
            events.append(f"fetch {pending.step}")

        def paused(self):
            return open(os.devnull)

    class FakeCheckpoints:
        def save(self, state, step):
            events.append(f"save {step}")

    state = dataclasses.make_dataclass("S", ["params"])({"w": jnp.ones(1)})
    never = dataclasses.make_dataclass("I", [])()
    never.due = lambda step: False
    trace = StepTrace(None, Path(), print)
    kept = loop.Kept(FakeCheckpoints(), Best(CheckpointConfig()), None)
    trial = dataclasses.make_dataclass("T", [])()
    trial.after_step = lambda metrics: None
    arguments = (FakeRun(), state, 0, 4, kept, FakeReporter(), None, never, Watchdog(print), trace, trial)
    assert loop._loop(*arguments) == (state, 4)
    expected = ["start 1", "start 2", "fetch 1", "start 3", "fetch 2", "start 4", "fetch 3", "fetch 4", "save 4"]
    assert events == expected
