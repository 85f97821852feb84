"""Which folder holds which run of a design: a run is known by what it computes, whatever the design calls it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.sweeps.design import PlannedRun
from triarch.training.record.config_json import read_json
from triarch.training.record.fingerprint import CONFIG_JSON, changes, config_fingerprint, is_begun, run_fingerprint
from triarch.training.starting_point import read_taken, to_be_taken

# Digits of the fingerprint in the name of a folder beside one that holds another run of the same name.
_DIGITS = 8


def settled(
    runs: Sequence[PlannedRun], folder: Path, stores: Sequence[TokenStore], train_changed: bool = False
) -> tuple[PlannedRun, ...]:
    """Returns the runs, each with the folder that holds it already under whatever name, or else one of its own.

    A folder in which no step was made binds nobody, as `check_folder` has it.

    Args:
      runs: of a design.
      folder: of all runs' folders.
      stores: that they train on.
      train_changed: where a folder of a run's name holds another run, train beside it.

    Raises:
      UserError: a folder of a run's name holds another run, and `train_changed` is not set.
    """
    held = _held(folder)
    changed, found = [], []
    for run in runs:
        fingerprint = fingerprint_of(run, stores)
        names = held.get(fingerprint, [])
        if names:
            found.append(dataclasses.replace(run, folder=run.name if run.name in names else names[0]))
        elif not is_begun(folder / run.name):  # One that failed before its first step binds nobody.
            found.append(run)
        elif train_changed:
            found.append(dataclasses.replace(run, folder=f"{run.name}_{fingerprint[:_DIGITS]}"))
        else:
            changed.append(run)
    if changed:
        raise UserError(_refusal(changed, folder, stores))
    return tuple(found)


def fingerprint_of(run: PlannedRun, stores: Sequence[TokenStore]) -> str:
    """Returns the fingerprint of a run as it would be trained now.

    Raises:
      UserError: there is nothing where it is to begin from, or what does not fit.
    """
    return run_fingerprint(run.config, stores, to_be_taken(run.config, stores[0]))


def _held(folder: Path) -> dict[str, list[str]]:
    """Returns the names of the folders that hold each run, by its fingerprint."""
    held: dict[str, list[str]] = {}
    for path in sorted(folder.glob(f"*/{CONFIG_JSON}")):
        identity = read_json(path.parent)
        # A run that was trained on under another config than it began with is a run by itself; one that failed before
        # its first step is none.
        if is_begun(path.parent) and not identity.get("earlier_segments"):
            held.setdefault(config_fingerprint(identity), []).append(path.parent.name)
    return held


def _refusal(changed: Sequence[PlannedRun], folder: Path, stores: Sequence[TokenStore]) -> str:
    first = changed[0]
    own = folder / first.name
    how = "; ".join(changes(own, first.config))
    if not how and read_taken(own) != to_be_taken(first.config, stores[0]):
        how = f"{first.config.init_from} holds other parameters now: RunConfig.init_step names those of one step"
    how = how or "its text is another: the store was replaced or prepared anew"
    more = {1: "", 2: ", and another likewise"}.get(len(changed), f", and {len(changed) - 1} others likewise")
    return (
        f"{own} holds a run under another config ({how}){more}: set these back, choose another --output, or give "
        "--train_changed to train them beside what is there"
    )
