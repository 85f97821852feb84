"""From the numbers of a step to a line of the log."""

from __future__ import annotations

import functools
import math
import operator
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

from triarch.errors import UserError
from triarch.objectives.sums import Sums
from triarch.training.logs.metrics import MetricsLog
from triarch.training.logs.status import StatusLine
from triarch.training.run import Run
from triarch.training.step import Metrics


class Pending(NamedTuple):
    """Numbers of a step, still being computed.

    Attributes:
      step: updates made.
      metrics: of the last update.
      validation: the objective's sums of each validation batch, if the step is evaluated.
      tasks: metrics by TASK/METRIC, where tasks are evaluated.
    """

    step: int
    metrics: Metrics
    validation: list[Sums] | None
    tasks: Mapping[str, float | None] | None = None

    @property
    def is_evaluated(self) -> bool:
        """Whether there is more than the numbers of the update."""
        return self.validation is not None or self.tasks is not None


class Reporter:
    """Fetches metrics, stops the run where they are not finite, and logs those that are due."""

    def __init__(self, run: Run, log: MetricsLog | None, progress: StatusLine, seconds_before: float):
        """Reports on `run` to `log` (None on all hosts but the first), which had `seconds_before` when it resumed."""
        self._run = run
        self._log = log
        self._progress = progress
        self._start = time.perf_counter() - seconds_before
        self._mark: tuple[int, float] | None = None

    def report(self, pending: Pending) -> dict[str, Any]:
        """Waits for the numbers of a step, logs them if it is due, and returns its step and its evaluations.

        Raises:
          UserError: loss or gradient norm is not finite.
        """
        step = pending.step
        metrics = {name: float(value) for name, value in jax.device_get(pending.metrics).items()}
        for name in ("loss", "grad_norm"):
            if not math.isfinite(metrics[name]):
                raise UserError(
                    f"{name} is {metrics[name]} at step {step}: stopped; checkpoints from before it are intact "
                    "(try a lower learning rate, longer warm-up or gradient clipping; docs/nan.md says what to look at)"
                )
        if self._mark is None:
            # The first step also paid for compilation: speed is measured from its end.
            self._mark = (step, time.perf_counter())
        evaluations = dict(pending.tasks or {})
        if pending.validation is not None:
            with self.paused():
                evaluations |= _validation_means(pending.validation)
        if self._log is not None and (self._is_due(step) or pending.is_evaluated):
            self._write(step, metrics, evaluations)
        return {"step": step, **evaluations}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within this context, time does not count against training speed."""
        began = time.perf_counter()
        yield
        if self._mark is not None:
            self._mark = (self._mark[0], self._mark[1] + time.perf_counter() - began)

    def _is_due(self, step: int) -> bool:
        return step % self._run.config.log_every == 0 or step in (1, self._run.config.steps)

    def _write(self, step: int, metrics: dict[str, float], evaluations: dict[str, Any]) -> None:
        run = self._run
        rate = self._tokens_per_second(step)
        mfu = run.mfu(rate)
        line = {
            "step": step,
            **run.place,
            **metrics,
            "tokens_per_second": rate,
            "mfu": mfu,
            **run.so_far(step),
            "seconds": time.perf_counter() - self._start,
            **evaluations,
        }
        if self._log is not None:
            self._log.write(line)
        measures = {name: metrics[name] for name in run.config.objective.measures}
        self._progress.update(step, measures, rate, mfu, run.tokens_per_step)

    def _tokens_per_second(self, step: int) -> float | None:
        """Returns the speed since the last logged step; None for the first one."""
        assert self._mark is not None  # `report` has set it.
        marked_step, marked_at = self._mark
        if step == marked_step:
            return None
        now = time.perf_counter()
        self._mark = (step, now)
        return (step - marked_step) * self._run.tokens_per_step / (now - marked_at)


def _validation_means(validation: Sequence[Sums]) -> dict[str, float | None]:
    """Returns the mean of each measure over all batches; None where nothing has weight."""
    batches = jax.tree.map(np.float64, jax.device_get(list(validation)))
    measures = functools.reduce(operator.add, batches).measures
    return {
        f"validation_{name}": float(one.total / one.weight) if one.weight else None for name, one in measures.items()
    }
