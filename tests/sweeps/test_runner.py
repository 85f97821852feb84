"""Sweeps skip what is finished, survive a failure, and try again."""

import json
import sys

import pytest

from triarch.errors import UserError
from triarch.sweeps import runner
from triarch.sweeps.stages import Stage

WRITE = "import sys, pathlib; pathlib.Path(sys.argv[1]).open('a').write('x')"


@pytest.fixture(autouse=True)
def python_commands(monkeypatch):
    """Lets a stage's arguments be Python code instead of a verb."""
    monkeypatch.setattr(Stage, "argv", property(lambda self: [sys.executable, "-c", *self.arguments]))


def stage(tmp_path, owner, name, code=WRITE):
    result = tmp_path / f"{owner}.{name}.result"
    return Stage(owner, name, (code, str(result)), result, tmp_path / f"{owner}.{name}.log")


def sweep(tmp_path, chains, parallel=2):
    runner.run_chains(chains, parallel, runner.Ledger(tmp_path / "ledger.jsonl"), lambda progress: None)


def entries(tmp_path):
    return [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]


def test_runs_each_stage_once(tmp_path):
    chains = {owner: [stage(tmp_path, owner, name) for name in ("train", "evaluate")] for owner in "abc"}
    sweep(tmp_path, chains)
    sweep(tmp_path, chains)
    assert [one.result.read_text() for chain in chains.values() for one in chain] == ["x"] * 6
    assert sorted((e["owner"], e["stage"], e["status"]) for e in entries(tmp_path)) == sorted(
        (owner, name, "done") for owner in "abc" for name in ("train", "evaluate")
    )


def test_a_failure_ends_its_chain_only_and_is_tried_again(tmp_path):
    flag = tmp_path / "mended"
    flaky = (
        f"import sys, pathlib\nif not pathlib.Path({str(flag)!r}).exists(): print('out of\\nluck'); sys.exit(3)\n"
        + WRITE
    )
    chains = {
        "bad": [stage(tmp_path, "bad", "train", flaky), stage(tmp_path, "bad", "evaluate")],
        "good": [stage(tmp_path, "good", "train"), stage(tmp_path, "good", "evaluate")],
    }
    with pytest.raises(UserError, match="bad train: luck"):
        sweep(tmp_path, chains)
    assert chains["good"][1].done and not chains["bad"][0].done and not chains["bad"][1].done
    flag.touch()
    sweep(tmp_path, chains)
    assert all(one.result.read_text() == "x" for chain in chains.values() for one in chain)


def test_a_command_that_succeeds_without_its_result_has_failed(tmp_path):
    silent = stage(tmp_path, "a", "train", "print('all is well')")
    with pytest.raises(UserError, match="a train: all is well"):
        sweep(tmp_path, {"a": [silent]})


def test_ledger_survives_a_torn_line(tmp_path):
    ledger = runner.Ledger(tmp_path / "ledger.jsonl")
    ledger.record("a", "train", "failed", 1.5)
    with open(tmp_path / "ledger.jsonl", "a") as file:
        file.write('{"owner": "a", "st')
    assert ledger.seconds() == {("a", "train"): 1.5}
    ledger.record("a", "train", "done", 2.0)
    assert ledger.seconds() == {("a", "train"): 3.5}


def test_interrupt_stops_children(tmp_path):
    slow = stage(tmp_path, "a", "train", "import time; time.sleep(60)")

    def interrupt(progress):
        if progress.states["a"][1] == "running":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run_chains({"a": [slow]}, 1, runner.Ledger(tmp_path / "ledger.jsonl"), interrupt)
    assert entries(tmp_path)[0]["seconds"] < 30
