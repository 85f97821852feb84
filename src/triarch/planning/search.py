"""The best mesh, remat policy, gather and number of microbatches for a slice, by compiling what is promising."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

from triarch.errors import UserError
from triarch.planning.candidates import Candidate
from triarch.planning.plan import Plan
from triarch.training.config import RunConfig

# By how much the arithmetic may take a step for slower than the compiled program: what is slower than that beside the
# best that was compiled is not worth it.
_SLOWER = 0.3
Make = Callable[[RunConfig, str], Plan]


@dataclasses.dataclass(frozen=True)
class Trial:
    """One compilation of a search.

    Attributes:
      candidate: what was compiled.
      plan: what came of it; None where it failed.
      failure: why it failed, in one line.
    """

    candidate: Candidate
    plan: Plan | None = None
    failure: str | None = None

    @property
    def seconds(self) -> float:
        """Estimated seconds a step; endless where it does not fit."""
        plan = self.plan
        return plan.estimate.step_seconds if plan is not None and plan.fits and plan.estimate else float("inf")


def search(
    config: RunConfig,
    promising: Sequence[Candidate],
    make: Make,
    most: int,
    most_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> list[Trial]:
    """Compiles what is promising, one after another, and returns everything tried, the best first.

    It continues after the first that fits, until the time is over or what is left is sure to be slower.

    Args:
      config: of the run.
      promising: see `candidates`.
      make: compiles a config; the text says which.
      most: compilations at most.
      most_seconds: begins none after these; the first is made in any case.
      clock: tells seconds.

    Raises:
      UserError: everything tried failed.
    """
    trials: list[Trial] = []
    start, best = clock(), float("inf")
    for number, candidate in enumerate(promising, start=1):
        passed = clock() - start
        if trials and (len(trials) == most or passed >= most_seconds):
            break
        if candidate.seconds * (1 - _SLOWER) > best:
            continue
        found = "none fits yet" if best == float("inf") else f"best {best:.3f} s a step"
        text = f"{number} of {len(promising)}, {passed:.0f} of {most_seconds:.0f} s, {found}: {candidate}"
        trials.append(_tried(candidate, config, make, text))
        best = min(best, trials[-1].seconds)
    if all(trial.plan is None for trial in trials):
        raise UserError(f"none of {len(trials)} meshes could be compiled; the first: {trials[0].failure}")
    return sorted(trials, key=lambda trial: (trial.seconds, _needed(trial)))


def confirmed(config: RunConfig, trials: Sequence[Trial], make: Make) -> list[Trial]:
    """Compiles the best of a search again until one fits, and returns all trials, the best that is sure to fit first.

    Where none fitted, the one that needed least memory is compiled again, so that the answer is not the search's.

    Args:
      config: of the run.
      trials: of `search`, the best first.
      make: compiles a config with full effort; the text says which.
    """
    left = [trial for trial in trials if trial.seconds < float("inf")] or [min(trials, key=_needed)]
    others = [trial for trial in trials if trial not in left]
    refused = []
    while left:
        first = left.pop(0)
        trial = _tried(first.candidate, config, make, f"the best of {len(trials)}: {first.candidate}")
        if trial.plan is not None and trial.plan.fits:
            return [trial, *left, *refused, *others]
        refused.append(trial)
    return [*refused, *others]


def _tried(candidate: Candidate, config: RunConfig, make: Make, text: str) -> Trial:
    """Returns what came of a candidate: any failure is its own, and no end of the search."""
    try:
        return Trial(candidate, make(candidate.applied(config), text))
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        name = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        return Trial(candidate, failure=f"{name}{reason}")


def _needed(trial: Trial) -> float:
    """Returns the memory that was reserved; of what failed, or says nothing of it, more than any other's."""
    needed = None if trial.plan is None else trial.plan.hbm_bytes_per_device
    return float("inf") if needed is None else needed
