"""The best checkpoint of a run by a metric: found from metrics.jsonl, so that a killed run knows it again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from triarch.errors import UserError
from triarch.training.config import CheckpointConfig, best_is_least
from triarch.training.logs.metrics import FILE_NAME, read_lines

BEST = "best"


class Best:
    """The best step so far.

    Attributes:
      metric: a key of metrics.jsonl; None: no step is better than others.
      step: of the best value, the first one where several are equal; None before the first.
    """

    def __init__(self, config: CheckpointConfig):
        self.metric = config.keep_best
        self.step: int | None = None
        self._sign = -1.0 if best_is_least(config) else 1.0
        self._value = -float("inf")

    def read(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Takes logged lines into account, those of steps that have a checkpoint."""
        for line in lines:
            self.note(line)

    @property
    def value(self) -> float | None:
        """The best value; None before the first."""
        return None if self.step is None else self._sign * self._value

    def note(self, line: Mapping[str, Any]) -> bool:
        """Takes a line of metrics into account; returns whether its step is the best so far."""
        value = None if self.metric is None else line.get(self.metric)
        if isinstance(value, bool) or not isinstance(value, int | float) or self._sign * value <= self._value:
            return False
        self._value, self.step = self._sign * value, line["step"]
        return True


def best_step(workdir: Path, fields: Mapping[str, Any], steps: Iterable[int]) -> int:
    """Returns the best of a run's checkpoints.

    Args:
      workdir: the run folder.
      fields: the "checkpoint" of its config.json.
      steps: of the checkpoints there are.

    Raises:
      UserError: the run keeps no best one, or none of its checkpoints was evaluated.
    """
    metric, mode = fields.get("keep_best"), fields.get("keep_best_mode")
    if not isinstance(metric, str):
        raise UserError(f"{workdir}: the run keeps no best checkpoint (CheckpointConfig.keep_best names a metric)")
    there = set(steps)
    config = CheckpointConfig(keep_best=metric, keep_best_mode=mode)
    found = Best(config)
    found.read(line for line in read_lines(workdir / FILE_NAME) if line["step"] in there)
    if found.step is None:
        raise UserError(f"{workdir}: none of its checkpoints has a value of {metric!r} in {FILE_NAME} yet")
    return found.step
