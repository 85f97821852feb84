"""A killed run resumes as if nothing had happened."""

import random
import shutil
import signal
import time

import pytest

from tests.training import tiny

# Every step is slowed down, so that there is a middle to be killed in.
_SCRIPT = """
import dataclasses, sys, time
from tests.training import tiny
from triarch.training import CheckpointConfig, train
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.logs.reporter import Reporter
from triarch.training.optimizers.schedules import Constant

store, workdir, cache, pause, *changed = sys.argv[1:]
report = Reporter.report

def slowly(self, pending):
    time.sleep(float(pause))
    report(self, pending)

Reporter.report = slowly
checkpoint = CheckpointConfig(every=3, keep_last=2)
config = tiny.run_config(store, "encoder-only", steps=30, checkpoint=checkpoint, compilation_cache=cache)
if changed:
    config = dataclasses.replace(config, steps=45, batch_size=4, optimizer=AdamW(Constant(1e-3)))
train(config, workdir, "", may_change=bool(changed))
"""


def start(store, workdir, cache, *changed, devices=1, pause=0.0):
    return tiny.python(_SCRIPT, store, workdir, cache, pause, *changed, devices=devices, optimise=False)


def finish(*arguments, **options):
    process = start(*arguments, **options)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return errors


def kill(moment, *arguments, **options):
    """Kills a run as soon as step `moment` is logged, and a bit."""
    process = start(*arguments, **options, pause=0.1)
    log = arguments[1] / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while f'"step": {moment},' not in (log.read_text() if log.exists() else ""):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(random.uniform(0, 0.1))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_killed_twice_and_resumed_the_losses_are_the_same(store, tmp_path):
    cache = tmp_path / "cache"
    whole, killed, moved, eight = (tmp_path / name for name in ("whole", "killed", "moved", "eight"))
    finish(store, whole, cache)
    reference = tiny.losses(whole)
    assert sorted(reference) == list(range(1, 31))

    kill(random.randint(4, 12), store, killed, cache)
    assert len(tiny.losses(killed)) < 30
    kill(random.randint(14, 24), store, killed, cache)
    shutil.copytree(killed, moved)
    assert "going on from step" in finish(store, killed, cache)
    assert tiny.losses(killed) == reference

    # From one device to eight, and from eight to one.
    assert "going on from step" in finish(store, moved, cache, devices=8)
    assert tiny.losses(moved) == pytest.approx(reference, rel=1e-4)
    kill(random.randint(8, 20), store, eight, cache, devices=8)
    assert "data=1" in finish(store, eight, cache)
    assert tiny.losses(eight) == pytest.approx(reference, rel=1e-4)


@pytest.mark.slow
def test_killed_in_its_second_segment_the_losses_are_the_same(store, tmp_path):
    cache = tmp_path / "cache"
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(store, whole, cache)
    shutil.copytree(whole, killed)
    finish(store, whole, cache, "changed")
    kill(random.randint(32, 41), store, killed, cache, "changed")
    assert "going on from step" in finish(store, killed, cache, "changed")
    assert tiny.losses(killed) == tiny.losses(whole)
    assert sorted(tiny.losses(whole)) == list(range(1, 46))
