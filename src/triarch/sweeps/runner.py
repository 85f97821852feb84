"""Runs the stages of a study, a bounded number of chains at a time, and resumes an earlier sweep."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from triarch.errors import UserError
from triarch.sweeps.ledger import Ledger, claimed
from triarch.sweeps.stages import Stage
from triarch.sweeps.workers import Worker, WorkerDied

# "waiting", "running", "elsewhere" (another sweep has it), "done" or "failed".
State = str
_LOOK_AGAIN = 2.0  # seconds between looks at what another sweep is doing


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a chain ended: what its last stage printed last, and where the rest is."""

    stage: str
    reason: str
    log: Path | str


def described(failures: Mapping[str, Failure]) -> list[str]:
    """Returns a line for each reason, with the chains that it ended."""
    owners: dict[tuple[str, str], list[str]] = {}
    for owner, failure in failures.items():
        # Messages that differ in the run's own name alone are the same.
        owners.setdefault((failure.stage, failure.reason.replace(owner, "*")), []).append(owner)
    lines = []
    for (stage, _), names in owners.items():
        first = failures[names[0]]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        lines.append(f"{names[0]}{more} {stage}: {first.reason} (see {first.log})")
    return lines


@dataclasses.dataclass
class SweepProgress:
    """What a sweep is doing, for whoever shows it.

    Attributes:
      states: of every chain by its owner's name: the stage and its state.
      work: of every chain, in any unit: how long one takes beside another.
      took: seconds of every chain that this sweep ran to its end.
      parallel: chains at a time.
      started: when each chain that this sweep took up began, by the monotonic clock.
      failures: why each chain that failed did, by its owner.
    """

    states: dict[str, tuple[str, State]]
    work: Mapping[str, float]
    took: dict[str, float]
    parallel: int
    started: dict[str, float] = dataclasses.field(default_factory=dict)
    failures: dict[str, Failure] = dataclasses.field(default_factory=dict)

    def count(self, *states: State) -> int:
        """Returns how many chains are in one of these states."""
        return sum(state in states for _, state in self.states.values())

    def seconds_left(self) -> float | None:
        """Returns an estimate, from the chains that have ended: so much for each, and so much for each unit of work.

        None before the first of them.
        """
        if not self.took:
            return None
        fixed, rate = _line([(self.work[owner], seconds) for owner, seconds in self.took.items()])
        now, left = time.monotonic(), 0.0
        for owner, (_, state) in self.states.items():
            if state in ("waiting", "running", "elsewhere"):
                spent = now - self.started[owner] if owner in self.started else 0.0
                left += max(fixed + rate * self.work[owner] - spent, 0.0)
        return left / self.parallel


@dataclasses.dataclass(frozen=True)
class Sweep:
    """How chains are run.

    Attributes:
      parallel: chains at a time; each is pinned to its share of this process's cores.
      attempts: times that a stage which fails is tried.
      ledger: told of every stage that begins or ends.
      claims: folder of the claims on chains, by which several sweeps share one study.
      worker: makes what runs the stages, from the cores it may use.
      show: called about once a second.
    """

    parallel: int
    attempts: int
    ledger: Ledger
    claims: Path
    worker: Callable[[set[int]], Worker]
    show: Callable[[SweepProgress], None]

    def run(self, chains: Mapping[str, Sequence[Stage]], work: Mapping[str, float]) -> None:
        """Runs every chain's stages in order; finished stages are skipped, and so are chains of another sweep until
        that one has ended. A stage that fails as often as it may ends its chain, not the others.

        Args:
          chains: stages by owner.
          work: of each chain, in any unit.

        Raises:
          UserError: stages failed; names each reason, the last line that a stage printed.
        """
        session = _Session(self, chains, work)
        with concurrent.futures.ThreadPoolExecutor(self.parallel) as pool:
            futures = [pool.submit(session.serve, cores) for cores in _core_shares(self.parallel)]
            try:
                pending = set(futures)
                while pending:
                    finished, pending = concurrent.futures.wait(pending, timeout=1.0)
                    for future in finished:
                        future.result()
                    self.show(session.progress)
            except BaseException:
                session.stop()
                raise
        if session.progress.failures:
            raise UserError("; ".join(described(session.progress.failures)))


class _Session:
    """One call of `Sweep.run`, shared by its threads."""

    def __init__(self, sweep: Sweep, chains: Mapping[str, Sequence[Stage]], work: Mapping[str, float]):
        self._sweep = sweep
        self._chains = chains
        unfinished = [owner for owner, stages in chains.items() if not all(stage.done for stage in stages)]
        self._waiting = collections.deque(unfinished)
        self._stopped = threading.Event()
        self._workers: list[Worker] = []
        states = dict.fromkeys(chains, ("", "done"))
        states |= {owner: (chains[owner][0].name, "waiting") for owner in unfinished}
        self.progress = SweepProgress(states, work, {}, sweep.parallel)

    def stop(self) -> None:
        """Lets commands under way stop where they can be taken up again; nothing new begins."""
        self._stopped.set()
        for worker in self._workers:
            worker.interrupt()

    def serve(self, cores: set[int]) -> None:
        """Runs one chain after another until none is left."""
        worker = self._sweep.worker(cores)
        self._workers.append(worker)
        try:
            # As many as there are: once round without a claim means that other sweeps have all that is left.
            refused = 0
            while not self._stopped.is_set():
                try:
                    owner = self._waiting.popleft()
                except IndexError:
                    return
                with claimed(self._sweep.claims, owner) as ours:
                    if ours:
                        refused = 0
                        self._run_chain(owner, worker)
                        continue
                self.progress.states[owner] = ("", "elsewhere")
                self._waiting.append(owner)
                refused += 1
                if refused >= len(self._waiting):
                    worker.close()
                    self._stopped.wait(_LOOK_AGAIN)
        finally:
            worker.close()

    def _run_chain(self, owner: str, worker: Worker) -> None:
        began = self.progress.started[owner] = time.monotonic()
        ran = False
        for stage in self._chains[owner]:
            if self._stopped.is_set():
                return
            if stage.done:
                continue
            ran = True
            self.progress.states[owner] = (stage.name, "running")
            problem = self._run_stage(stage, worker)
            if problem is not None:
                self.progress.states[owner] = (stage.name, "failed")
                self.progress.failures[owner] = Failure(stage.name, problem, stage.log)
                return
        if not self._stopped.is_set():
            self.progress.states[owner] = ("", "done")
            if ran:
                self.progress.took[owner] = time.monotonic() - began

    def _run_stage(self, stage: Stage, worker: Worker) -> str | None:
        """Runs a stage, again if it fails; returns what went wrong at last, None if nothing did."""
        stage.log.parent.mkdir(parents=True, exist_ok=True)
        ledger, problem = self._sweep.ledger, None
        for _ in range(self._sweep.attempts):
            ledger.record(stage.owner, stage.name, "started")
            began = time.monotonic()
            try:
                status = worker.run(stage.arguments, stage.log)
                problem = None if status == 0 and stage.done else _problem(stage, status)
            except WorkerDied as death:
                problem = str(death)
            seconds = time.monotonic() - began
            if problem is None:
                ledger.record(stage.owner, stage.name, "done", seconds)
                return None
            ledger.record(stage.owner, stage.name, "stopped" if self._stopped.is_set() else "failed", seconds)
            if self._stopped.is_set():
                return None
        return problem


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Returns (fixed, rate), neither below zero, of seconds = fixed + rate * work by least squares."""
    count = len(points)
    mean_work, mean_seconds = (sum(column) / count for column in zip(*points, strict=True))
    spread = sum((work - mean_work) ** 2 for work, _ in points)
    rate = sum((work - mean_work) * (seconds - mean_seconds) for work, seconds in points) / spread if spread else 0.0
    fixed = mean_seconds - rate * mean_work
    if rate < 0 or not spread:
        return mean_seconds, 0.0
    if fixed < 0:
        return 0.0, sum(w * s for w, s in points) / sum(w * w for w, _ in points)
    return fixed, rate


def _core_shares(parallel: int) -> list[set[int]]:
    """Splits this process's cores into `parallel` shares; with fewer cores than that, every share is all of them.

    Shares are empty where the system pins no process to cores (macOS).
    """
    if not hasattr(os, "sched_setaffinity"):
        return [set() for _ in range(parallel)]
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < parallel:
        return [set(cores)] * parallel
    return [set(cores[index::parallel]) for index in range(parallel)]


def _problem(stage: Stage, status: int) -> str:
    """Returns why a command that has ended did not do its stage."""
    if status == 0 and stage.result.exists():
        return f"{stage.result} was made with something else than the study asks for: a checkpoint or store changed"
    return last_line(stage.log)


def last_line(log: Path) -> str:
    """Returns the last line that a command printed."""
    text = log.read_text(errors="replace") if log.exists() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "printed nothing"
