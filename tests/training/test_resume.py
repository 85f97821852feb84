"""A killed run resumes as if nothing had happened."""

import random
import shutil
import signal
import time

import numpy as np
import pytest

from tests.training import tiny
from triarch.loading import load
from triarch.models.network import flatten

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


_PHASES = """
import sys, time
from tests.training.test_phases import chain
from triarch.training import train
from triarch.training.logs.reporter import Reporter

short, long, workdir, cache, pause = sys.argv[1:]
report = Reporter.report

def slowly(self, pending):
    time.sleep(float(pause))
    return report(self, pending)

Reporter.report = slowly
train(chain((short, long), cache), workdir, "")
"""


@pytest.mark.slow
def test_killed_at_random_moments_a_chain_of_phases_is_the_same_run(store, tmp_path):
    """Killed again and again, as often as it takes to be complete, whichever phase it is in."""
    long = tiny.write_store(tmp_path / "long", 48, seed=1, window=32)
    cache, whole, killed = (tmp_path / name for name in ("cache", "whole", "killed"))
    process = tiny.python(_PHASES, store, long, whole, cache, 0.0, optimise=False)
    assert process.communicate(timeout=300)[0] is not None and process.returncode == 0
    kills = 0
    for moment in sorted(random.sample(range(1, 17), 4)):
        process = tiny.python(_PHASES, store, long, killed, cache, 0.2, optimise=False)
        log = killed / "metrics.jsonl"
        deadline = time.monotonic() + 300
        while f'"step": {moment},' not in (log.read_text() if log.exists() else "") and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.2))
        process.kill()
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    process = tiny.python(_PHASES, store, long, killed, cache, 0.0, optimise=False)
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0, errors
    assert kills >= 2
    assert tiny.losses(killed) == tiny.losses(whole)
    one, other = (flatten(load(path).params) for path in (whole, killed))
    for name, value in one.items():
        np.testing.assert_array_equal(np.asarray(other[name]), np.asarray(value), err_msg=name)
