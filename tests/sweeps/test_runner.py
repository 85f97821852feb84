"""Sweeps run each stage once, whatever fails, kills or joins them."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from tests.sweeps.chains import CODE, WRITE, stage, sweep
from triarch.errors import UserError
from triarch.sweeps.ledger import Ledger
from triarch.sweeps.runner import SweepProgress
from triarch.sweeps.workers import Worker, WorkerDied

# A stage that takes a moment, and says when it began.
SLOW = "import pathlib, time; pathlib.Path(result + '.began').open('a').write('x'); time.sleep(0.3); " + WRITE


def events(folder, *statuses):
    found = Ledger(folder / "ledger.jsonl").entries()
    return sorted((one["owner"], one["stage"], one["status"]) for one in found if one["status"] in statuses)


def test_runs_each_stage_once_and_in_order(tmp_path):
    chains = {owner: [stage(tmp_path, owner, name) for name in ("train", "evaluate")] for owner in "abc"}
    sweep(tmp_path, chains)
    sweep(tmp_path, chains)
    assert [one.result.read_text() for chain in chains.values() for one in chain] == ["x"] * 6
    assert events(tmp_path, "done") == sorted((o, s, "done") for o in "abc" for s in ("train", "evaluate"))
    assert [e["stage"] for e in Ledger(tmp_path / "ledger.jsonl").entries() if e["owner"] == "a"] == [
        "train", "train", "evaluate", "evaluate",
    ]  # fmt: skip


def test_a_failure_ends_its_chain_only_and_a_later_sweep_tries_again(tmp_path):
    flag = tmp_path / "mended"
    flaky = (
        f"import pathlib\nif not pathlib.Path({str(flag)!r}).exists(): print('out of\\nluck'); raise SystemExit(3)\n"
    )
    chains = {
        "bad": [stage(tmp_path, "bad", "train", flaky + WRITE), stage(tmp_path, "bad", "evaluate")],
        "good": [stage(tmp_path, "good", "train"), stage(tmp_path, "good", "evaluate")],
    }
    with pytest.raises(UserError, match="bad train: luck"):
        sweep(tmp_path, chains, attempts=2)
    assert chains["good"][1].done and not chains["bad"][0].done and not chains["bad"][1].done
    assert events(tmp_path, "failed") == [("bad", "train", "failed")] * 2
    flag.touch()
    sweep(tmp_path, chains)
    assert all(one.result.read_text() == "x" for chain in chains.values() for one in chain)


def test_a_stage_that_fails_once_is_tried_again_at_once(tmp_path):
    code = "import pathlib\np = pathlib.Path(result + '.tried')\nif not p.exists(): p.touch(); raise ValueError\n"
    chains = {"a": [stage(tmp_path, "a", "train", code + WRITE)]}
    sweep(tmp_path, chains, attempts=2)
    assert chains["a"][0].result.read_text() == "x"
    assert events(tmp_path, "failed", "done") == [("a", "train", "done"), ("a", "train", "failed")]


def test_a_command_that_succeeds_without_its_result_has_failed(tmp_path):
    with pytest.raises(UserError, match="a train: all is well"):
        sweep(tmp_path, {"a": [stage(tmp_path, "a", "train", "print('all is well')")]})


def test_a_worker_that_dies_fails_its_stage_alone(tmp_path):
    died = stage(tmp_path, "a", "train", "import os; os.kill(os.getpid(), 9)")
    chains = {"a": [died], "b": [stage(tmp_path, "b", "train")]}
    with pytest.raises(UserError, match="a train: its process was ended by SIGKILL"):
        sweep(tmp_path, chains, parallel=1)
    assert chains["b"][0].done


def test_interrupt_stops_children(tmp_path):
    slow = stage(tmp_path, "a", "train", "import time; time.sleep(60)")

    def interrupt(progress):
        if progress.states["a"][1] == "running":
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        sweep(tmp_path, {"a": [slow]}, show=interrupt)
    assert time.monotonic() - began < 30
    assert events(tmp_path, "stopped", "failed") == [("a", "train", "stopped")]


def start_sweep(folder, owners):
    """Starts a sweep of slow stages in a process of its own."""
    code = f"""
        import pathlib
        from tests.sweeps.chains import stage, sweep
        folder = pathlib.Path({str(folder)!r})
        names = ("train", "evaluate")
        chains = {{o: [stage(folder, o, name, {SLOW!r}) for name in names] for o in {owners!r}}}
        sweep(folder, chains, parallel=1)
    """
    path = os.pathsep.join(["src", ".", os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], env=os.environ | {"PYTHONPATH": path})


def wait_for(condition):
    for _ in range(2400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited in vain")


@pytest.mark.slow
def test_kill_9_and_again(tmp_path):
    owners = "abcd"
    killed = start_sweep(tmp_path, owners)
    wait_for(lambda: (tmp_path / "b.train.result.began").exists())
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    time.sleep(0.5)
    # The worker is gone with it: what it was at in the middle has no result.
    assert not (tmp_path / "b.train.result").exists()
    assert start_sweep(tmp_path, owners).wait() == 0
    stages = [f"{owner}.{name}.result" for owner in owners for name in ("train", "evaluate")]
    assert [(tmp_path / name).read_text() for name in stages] == ["x"] * 8
    began = {name: len((tmp_path / f"{name}.began").read_text()) for name in stages}
    assert began == {name: 2 if name == "b.train.result" else 1 for name in stages}
    started = [one for one in events(tmp_path, "started") if one[:2] == ("b", "train")]
    assert len(started) == 2


@pytest.mark.slow
def test_two_sweeps_at_once_share_the_runs(tmp_path):
    owners = "abcdef"
    both = [start_sweep(tmp_path, owners) for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]
    stages = [f"{owner}.{name}.result" for owner in owners for name in ("train", "evaluate")]
    assert [(tmp_path / f"{name}.began").read_text() for name in stages] == ["x"] * 12
    entries = Ledger(tmp_path / "ledger.jsonl").entries()
    assert len({one["process"] for one in entries}) == 2
    assert len(entries) == 24


def test_a_worker_serves_many_commands_with_one_process(tmp_path):
    worker = Worker(set(), tmp_path / "cache", (sys.executable, "-c", CODE))
    code = "import os, pathlib; pathlib.Path(result).open('a').write(f'{os.getpid()} ')"
    for _ in range(3):
        assert worker.run((code, str(tmp_path / "pids")), tmp_path / "log") == 0
    assert len(set((tmp_path / "pids").read_text().split())) == 1
    with pytest.raises(WorkerDied, match="status 7"):
        worker.run(("import os; os._exit(7)", ""), tmp_path / "log")
    assert worker.run((code, str(tmp_path / "pids")), tmp_path / "log") == 0
    assert len(set((tmp_path / "pids").read_text().split())) == 2
    worker.close()


def test_ledger_survives_a_torn_line(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.record("a", "train", "failed", 1.5)
    with open(tmp_path / "ledger.jsonl", "a") as file:
        file.write('{"owner": "a", "st')
    assert ledger.seconds() == {("a", "train"): 1.5}
    ledger.record("a", "train", "done", 2.0)
    assert ledger.seconds() == {("a", "train"): 3.5}


def test_a_ledger_that_is_none_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "ledger.jsonl")
    with pytest.raises(UserError, match=r"ledger\.jsonl: is a FIFO"):
        Ledger(tmp_path / "ledger.jsonl").entries()


def test_time_left_follows_the_work():
    states = {"a": ("", "done"), "b": ("", "done"), "c": ("train", "waiting"), "d": ("train", "waiting")}
    work = {"a": 1.0, "b": 3.0, "c": 10.0, "d": 20.0}
    progress = SweepProgress(states, work, {"a": 7.0, "b": 11.0}, parallel=2)
    # 5 s each and 2 s a unit of work: (5 + 20) + (5 + 40), two at a time.
    assert progress.seconds_left() == pytest.approx(35.0)
    assert SweepProgress(states, work, {}, parallel=2).seconds_left() is None


def test_time_at_work_counts_stages_side_by_side_once(tmp_path):
    path = tmp_path / "ledger.jsonl"
    entries = [("a", 10.0, 110.0), ("b", 6.0, 112.0), ("c", 5.0, 130.0), ("d", 1.0, 108.0)]
    lines = [
        json.dumps({"owner": owner, "stage": "train", "status": "done", "seconds": seconds, "time": end})
        for owner, seconds, end in entries
    ]
    path.write_text("\n".join([*lines, json.dumps({"owner": "a", "stage": "x", "status": "started", "seconds": 0})]))

    assert Ledger(path).elapsed() == pytest.approx(12.0 + 5.0)
