"""The tasks of a SeqIO mixture and their rates."""

from __future__ import annotations

import math

import seqio

from triarch.errors import UserError


def rates(mixture: seqio.Mixture, split: str = "train") -> list[tuple[seqio.Task, float]]:
    """Returns the tasks that a mixture reads in `split`, each once, with its share of all examples.

    Mixtures in the mixture are taken apart, and rates that are functions are called with their tasks, as
    `seqio.Mixture.get_rate` does; a task that has no such split is left out, as in `seqio.Mixture.get_dataset`. The
    shares sum to 1.

    Args:
      mixture: of tasks and mixtures.
      split: of the tasks.

    Raises:
      UserError: no task has the split, or a rate cannot be told or is none.
    """
    found = []
    for task in mixture.tasks:
        try:
            rate = float(mixture.get_rate(task)) if split in task.splits else None
        except Exception as error:  # A function of the user's, or of a source that cannot be found.
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"mixture {mixture.name}: the rate of {task.name} cannot be told: {type(error).__name__}: {reason}"
            ) from error
        if rate is not None:
            if not 0 <= rate < math.inf:
                raise UserError(f"mixture {mixture.name}: {task.name} has the rate {rate}, expected 0 or more")
            found.append((task, rate))
    total = sum(rate for _, rate in found)
    if not found:
        raise UserError(f"mixture {mixture.name}: none of its tasks has a split {split!r}")
    if not total:
        raise UserError(f"mixture {mixture.name}: all its rates are 0")
    return [(task, rate / total) for task, rate in found]
