"""Hands a study's runs to an engine and watches them by the ledger, which is all that is remembered of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from triarch.errors import UserError
from triarch.sweeps.fleets.base import Engine, NoAnswer, Task
from triarch.sweeps.ledger import Ledger
from triarch.sweeps.runner import Failure, SweepProgress, described, last_line
from triarch.sweeps.stages import Stage

# The ledger's name for the handing in of a run.
FLEET = "fleet"
# Jobs of one run that may end before their time, as when machines are taken away, until that is called a failure.
MOST_JOBS = 20
_MOST_SILENT = 10  # looks in a row at an engine that does not answer


@dataclasses.dataclass
class _Run:
    """What the ledger says of one run: its newest job, and what became of it there.

    Attributes:
      job: as the engine calls it, None before the first.
      stage: begun last by that job, "" if none.
      failed: the stage that failed last in that job, None if none.
    """

    job: str | None = None
    stage: str = ""
    failed: str | None = None


def history(entries: Sequence[Mapping], engine: str) -> dict[str, _Run]:
    """Returns what the ledger's lines say of every run's newest job, by owner."""
    runs: dict[str, _Run] = {}
    for entry in entries:
        run = runs.setdefault(entry["owner"], _Run())
        if entry["stage"] == FLEET:
            # A job of another engine is none that this one could be asked about.
            job = entry.get("job") if entry.get("engine") == engine else None
            runs[entry["owner"]] = _Run(job if isinstance(job, str) else None)
        elif entry["status"] == "started":
            run.stage, run.failed = entry["stage"], None
        elif entry["status"] == "failed":
            run.failed = entry["stage"]
    return runs


@dataclasses.dataclass(frozen=True)
class Fleet:
    """How runs are handed to an engine.

    Attributes:
      engine: that takes them.
      ledger: told of every job; the machines tell it of every stage.
      attempts: jobs of a run that may end before any stage has begun.
      parallel: jobs at a time; None leaves it to the engine.
      poll: seconds between looks.
      show: called at each look.
    """

    engine: Engine
    ledger: Ledger
    attempts: int
    parallel: int | None
    poll: float
    show: Callable[[SweepProgress], None]

    def run(
        self, chains: Mapping[str, Sequence[Stage]], tasks: Mapping[str, Task], work: Mapping[str, float], wait: bool
    ) -> None:
        """Hands in what is neither finished nor in the engine's hands, again where a job ended before its run.

        A run whose stage failed, as often as its machine tried it, is given up; calling this again tries it again.

        Args:
          chains: stages by owner.
          tasks: what to hand in, by owner.
          work: of each chain, in any unit.
          wait: until all runs are finished; otherwise return once they are handed in.

        Raises:
          UserError: the engine refuses or has gone, or runs failed.
        """
        session = _Session(self, chains, tasks, work)
        while session.look() and wait:
            time.sleep(self.poll)
        if session.progress.failures:
            raise UserError("; ".join(described(session.progress.failures)))


class _Session:
    def __init__(
        self,
        fleet: Fleet,
        chains: Mapping[str, Sequence[Stage]],
        tasks: Mapping[str, Task],
        work: Mapping[str, float],
    ):
        self._fleet = fleet
        self._chains = chains
        self._tasks = tasks
        self._jobs: dict[str, int] = {}
        self._unbegun: dict[str, int] = {}
        self._silent = 0
        states = {owner: (chain[0].name, "waiting") for owner, chain in chains.items()}
        self.progress = SweepProgress(states, work, {}, 1)

    def look(self) -> bool:
        """Hands in what is due, and shows how all stands; returns whether anything is still to come."""
        living = self._living()
        if living is None:
            return True
        # After the engine is asked, not before: a job that it no longer has has written all that it will.
        known = history(self._fleet.ledger.entries(), self._fleet.engine.name)
        due = list(self._due(known, living))
        if self._fleet.parallel is not None:
            ours = sum(run.job in living for run in known.values() if run.job)
            due = due[: max(self._fleet.parallel - ours, 0)]
        self._submit(due)
        self.progress.parallel = max(1, self.progress.count("running"))
        self._fleet.show(self.progress)
        return self.progress.count("waiting", "running") > 0

    def _living(self) -> dict[str, str] | None:
        try:
            living = self._fleet.engine.living()
        except NoAnswer as error:
            self._silent += 1
            if self._silent >= _MOST_SILENT:
                raise UserError(
                    f"--fleet={self._fleet.engine.name}: no answer {self._silent} times ({error}); what was handed in "
                    "goes on, and the same command watches it again"
                ) from None
            return None
        self._silent = 0
        return living

    def _due(self, known: Mapping[str, _Run], living: Mapping[str, str]) -> Iterator[str]:
        """Yields the runs that are to be handed in, and sets the states of the others."""
        for owner, chain in self._chains.items():
            left = [stage for stage in chain if not stage.done]
            run = known.get(owner, _Run())
            if not left:
                self._ended(owner)
            elif owner in self.progress.failures:
                continue
            elif run.job in living:
                self._alive(owner, run, living[run.job or ""], left[0])
            elif owner not in self._jobs:
                yield owner  # Whatever became of it before this session: it is given as many chances as a new one.
            elif problem := self._problem(owner, run, chain):
                self.progress.failures[owner] = problem
                self.progress.states[owner] = (problem.stage, "failed")
            else:
                yield owner

    def _ended(self, owner: str) -> None:
        if owner in self.progress.started and self.progress.states[owner][1] != "done":
            self.progress.took[owner] = time.monotonic() - self.progress.started[owner]
        self.progress.states[owner] = ("", "done")

    def _alive(self, owner: str, run: _Run, state: str, first: Stage) -> None:
        self.progress.states[owner] = (run.stage or first.name, state)
        if state == "running":
            self.progress.started.setdefault(owner, time.monotonic())
        self._jobs.setdefault(owner, 1)

    def _problem(self, owner: str, run: _Run, chain: Sequence[Stage]) -> Failure | None:
        """Returns why a run whose job has ended is not to be handed in again, None if it is."""
        log = self._fleet.engine.log(run.job or "")
        if run.failed is not None:
            stage = next((stage for stage in chain if stage.name == run.failed), chain[0])
            return Failure(stage.name, last_line(stage.log), stage.log)
        if not run.stage:
            self._unbegun[owner] = self._unbegun.get(owner, 0) + 1
            if self._unbegun[owner] >= self._fleet.attempts:
                times = f"{self._unbegun[owner]} times" if self._unbegun[owner] > 1 else "its job"
                return Failure(chain[0].name, f"{times} ended before the run began", log)
        if self._jobs[owner] >= MOST_JOBS:
            return Failure(run.stage or chain[0].name, f"{MOST_JOBS} jobs ended before their time", log)
        return None

    def _submit(self, owners: Sequence[str]) -> None:
        engine = self._fleet.engine
        for start in range(0, len(owners), engine.most_tasks):
            jobs = engine.submit([self._tasks[owner] for owner in owners[start : start + engine.most_tasks]])
            for owner, job in jobs.items():
                self._jobs[owner] = self._jobs.get(owner, 0) + 1
                self._fleet.ledger.record(owner, FLEET, "submitted", engine=engine.name, job=job)
                self.progress.states[owner] = (self._chains[owner][0].name, "waiting")
