"""Which tasks the examples of a store are of, and those that a run is not to be trained on."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

from triarch import schema
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.schema import MapOf, Whole

_TASKS = MapOf(MapOf(Whole()))


def tasks_in(store: TokenStore, split: str) -> Mapping[str, int] | None:
    """Returns how many examples of each task a split has; None where the store does not know.

    Raises:
      UserError: what the manifest says of tasks is damaged.
    """
    found = store.manifest.source.get("tasks")
    if found is None:
        return None
    return schema.check(found, _TASKS, f"{store.path}: manifest.json: source.tasks").get(split, {})


def check_held_out(stores: Sequence[TokenStore], split: str, patterns: Sequence[str]) -> None:
    """Raises UserError, naming task and store, if a split to be trained on holds a task that is held out.

    Args:
      stores: of a run.
      split: that is trained on.
      patterns: of tasks' names, `RunConfig.held_out_tasks`.
    """
    for store in stores if patterns else ():
        tasks = tasks_in(store, split)
        if tasks is None:
            raise UserError(
                f"RunConfig.held_out_tasks: {store.path} does not say which tasks it is of: prepare it with "
                "--task=instructions or --task=flan2022"
            )
        for pattern in patterns:
            held = [task for task in tasks if fnmatch.fnmatchcase(task, pattern)]
            if held:
                raise UserError(
                    f"RunConfig.held_out_tasks: {pattern!r} is held out, and {store.path} has {tasks[held[0]]:,} "
                    f"examples of {held[0]!r} to train on: prepare it again with --hold_out={pattern!r}"
                )
