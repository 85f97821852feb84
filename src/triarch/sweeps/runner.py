"""Runs a study's stages as processes, a bounded number at a time, and goes on where an earlier sweep stopped."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from triarch.errors import UserError
from triarch.sweeps.stages import Stage

State = str  # "waiting", "running", "done" or "failed"


@dataclasses.dataclass
class Progress:
    """What a sweep is doing, for whoever shows it.

    Attributes:
      states: of every chain by its owner's name: the stage and its state.
      started: when the sweep began, seconds.
    """

    states: dict[str, tuple[str, State]]
    started: float = dataclasses.field(default_factory=time.monotonic)


class Ledger:
    """An append-only file of what happened to each stage; a line is written whole or, if the disk fails, ignored."""

    def __init__(self, path: Path):
        self._path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)

    def record(self, owner: str, stage: str, status: str, seconds: float) -> None:
        """Appends one line."""
        entry = {"owner": owner, "stage": stage, "status": status, "seconds": round(seconds, 2)}
        with self._lock, open(self._path, "a+b") as file:
            # A line that a kill cut short must not swallow this one.
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            torn = file.read(1) not in (b"", b"\n")
            file.write(b"\n" * torn + json.dumps(entry).encode() + b"\n")

    def seconds(self) -> dict[tuple[str, str], float]:
        """Returns the seconds that each finished stage took, over all attempts."""
        total: dict[tuple[str, str], float] = {}
        if not self._path.exists():
            return total
        for line in self._path.read_text().splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            key = (entry["owner"], entry["stage"])
            total[key] = total.get(key, 0.0) + entry["seconds"]
        return total


def run_chains(
    chains: dict[str, Sequence[Stage]], parallel: int, ledger: Ledger, show: Callable[[Progress], None]
) -> None:
    """Runs every chain's stages in order, `parallel` chains at a time; finished stages are skipped.

    A failed stage ends its chain, not the others.

    Args:
      chains: stages by owner.
      parallel: chains at a time; each is pinned to its share of this process's cores.
      ledger: told of every stage that ends.
      show: called about once a second and after every change.

    Raises:
      UserError: stages failed; names each with the last line it printed.
    """
    progress = Progress({owner: (stages[0].name, "waiting") for owner, stages in chains.items()})
    shares = _core_shares(parallel)
    failures: list[str] = []
    stop = threading.Event()

    def run_chain(owner: str) -> None:
        cores = shares.pop()
        try:
            for stage in chains[owner]:
                if not stage.done and not stop.is_set():
                    progress.states[owner] = (stage.name, "running")
                    _run(stage, cores, ledger, stop)
            progress.states[owner] = ("", "done")
        except subprocess.CalledProcessError as error:
            progress.states[owner] = (stage.name, "failed")
            failures.append(f"{stage.owner} {stage.name}: {error.stderr} (see {stage.log})")
        finally:
            shares.append(cores)

    with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
        pending = {pool.submit(run_chain, owner) for owner in chains}
        try:
            while pending:
                finished, pending = concurrent.futures.wait(pending, timeout=1.0)
                for future in finished:
                    future.result()
                show(progress)
        except BaseException:
            stop.set()
            for future in pending:
                future.cancel()
            raise
    if failures:
        raise UserError("; ".join(failures))


def _run(stage: Stage, cores: set[int], ledger: Ledger, stop: threading.Event) -> None:
    stage.log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with open(stage.log, "a") as log:
        # taskset by hand: the child inherits the affinity of the thread that starts it.
        if cores:
            os.sched_setaffinity(0, cores)
        process = subprocess.Popen(stage.argv, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    while process.poll() is None:
        if stop.is_set():
            process.terminate()
            process.wait()
            break
        time.sleep(0.1)
    succeeded = process.returncode == 0 and stage.done
    ledger.record(stage.owner, stage.name, "done" if succeeded else "failed", time.monotonic() - started)
    if not succeeded and not stop.is_set():
        raise subprocess.CalledProcessError(process.returncode, stage.argv, stderr=_last_line(stage.log))


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


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "printed nothing"
