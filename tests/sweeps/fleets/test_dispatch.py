"""Runs handed to an engine: each is seen through, whatever happens to its machine, and nothing is handed in twice."""

import pathlib

import pytest

from tests.sweeps.chains import stage
from triarch.errors import UserError
from triarch.sweeps.fleets.base import NoAnswer, Task
from triarch.sweeps.fleets.dispatch import MOST_JOBS, Fleet
from triarch.sweeps.ledger import Ledger


class Engine:
    """Lets the newest job do at each look what `fates` says: "done", "lost" (begun, then gone), "never", "failed"."""

    name = "pretend"
    most_tasks = 2

    def __init__(self, folder, fates):
        self.ledger = Ledger(folder / "ledger.jsonl")
        self.fates = {owner: list(some) for owner, some in fates.items()}
        self.jobs, self.submitted, self.most = {}, [], 0

    def check(self):
        pass

    def submit(self, tasks):
        assert len(tasks) <= self.most_tasks
        new = {task.owner: f"job{len(self.submitted) + index}" for index, task in enumerate(tasks)}
        self.submitted += [task.owner for task in tasks]
        self.jobs |= {job: owner for owner, job in new.items()}
        return new

    def living(self):
        self.most = max(self.most, len(self.jobs))
        ended, self.jobs = self.jobs, {}
        for owner in ended.values():
            self._end(owner, self.fates[owner].pop(0))
        return {}

    def _end(self, owner, fate):
        if fate == "never":
            return
        self.ledger.record(owner, "train", "started")
        if fate == "failed":
            self.ledger.record(owner, "train", "failed", 1.0)
        if fate == "done":
            pathlib.Path(self.ledger._path.parent / f"{owner}.train.result").touch()
            self.ledger.record(owner, "train", "done", 1.0)

    def log(self, job):
        return f"log of {job}"


def fleet(folder, engine, wait=True, parallel=None, attempts=2, states=None):
    chains = {owner: [stage(folder, owner, "train")] for owner in engine.fates}
    tasks = {owner: Task(owner, ("sweep", f"--runs={owner}")) for owner in chains}

    def show(progress):
        if states is not None:
            states.update(progress.states)

    one = Fleet(engine, engine.ledger, attempts, parallel, 0.0, show)
    one.run(chains, tasks, dict.fromkeys(chains, 1.0), wait)


def test_every_run_is_seen_through_and_what_is_lost_is_handed_in_again(tmp_path):
    engine = Engine(tmp_path, {"a": ["done"], "b": ["lost", "lost", "done"], "c": ["never", "done"]})
    states = {}
    fleet(tmp_path, engine, states=states)
    assert sorted(engine.submitted) == ["a", "b", "b", "b", "c", "c"]
    assert states == dict.fromkeys("abc", ("", "done"))
    before = len(engine.ledger.entries())
    fleet(tmp_path, engine)
    assert len(engine.ledger.entries()) == before


def test_a_run_that_fails_is_given_up_and_the_others_go_on(tmp_path):
    engine = Engine(tmp_path, {"a": ["failed"], "b": ["lost", "done"], "c": ["never", "never"]})
    (tmp_path / "a.train.log").write_text("reading\nthe loss is no number\n")
    with pytest.raises(UserError) as error:
        fleet(tmp_path, engine)
    assert "a train: the loss is no number" in str(error.value)
    assert "c train: 2 times ended before the run began (see log of job" in str(error.value)
    assert (tmp_path / "b.train.result").exists()
    engine.fates = {"a": ["done"], "b": [], "c": ["done"]}  # Asked again, it is tried again.
    fleet(tmp_path, engine)


def test_a_run_whose_machines_are_always_lost_ends_too(tmp_path):
    engine = Engine(tmp_path, {"a": ["lost"] * 100})
    with pytest.raises(UserError, match=f"{MOST_JOBS} jobs ended before their time"):
        fleet(tmp_path, engine)
    assert len(engine.submitted) == MOST_JOBS


def test_jobs_of_an_earlier_command_are_watched_not_handed_in_again(tmp_path):
    engine = Engine(tmp_path, {"a": ["done"], "b": ["done"]})
    fleet(tmp_path, engine, wait=False)
    assert sorted(engine.submitted) == ["a", "b"]

    def living(look=[]):  # noqa: B006  # Counts its calls.
        look.append(1)
        return dict.fromkeys(engine.jobs, "running") if len(look) < 3 else Engine.living(engine)

    engine.living = living
    fleet(tmp_path, engine)
    assert sorted(engine.submitted) == ["a", "b"]


def test_no_more_at_a_time_than_parallel_and_an_engine_may_be_silent_for_a_while(tmp_path):
    engine = Engine(tmp_path, {owner: ["done"] for owner in "abcde"})
    fleet(tmp_path, engine, parallel=1)
    assert engine.most == 1 and len(engine.submitted) == 5
    silent = Engine(tmp_path, {"f": ["done"]})
    silent.living = lambda: (_ for _ in ()).throw(NoAnswer("connection refused"))
    with pytest.raises(UserError, match=r"no answer 10 times \(connection refused\); what was handed in goes on"):
        fleet(tmp_path, silent)
