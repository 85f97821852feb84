"""Named lists of tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class TaskSuite:
    """Tasks with their numbers of examples in the prompt (`gin_configs/evaluation`).

    Attributes:
      tasks: shots by task; None for as many as the task's own definition has.
    """

    tasks: Mapping[str, int | None]
