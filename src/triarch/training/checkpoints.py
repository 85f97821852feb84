"""Checkpoints: written in the background by Orbax, checked before they are trusted.

Orbax makes a step's folder appear only when it is complete. What may happen to it afterwards (a file lost in a
copy, cut short by a full quota, a flipped bit) is found by sizes and checksums that each saved item carries.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from triarch import schema
from triarch.errors import UserError
from triarch.files import regular_files
from triarch.interchange import literal_names
from triarch.runtime.consistency import from_all
from triarch.schema import FileName, MapOf, OrNull, Record, Whole
from triarch.training.config import CheckpointConfig
from triarch.training.state import TrainState

RECORD = "triarch_files.json"
PARAMS, OPTIMIZER = "params", "optimizer"
_ENTRY = Record({"size": Whole(), "crc32": OrNull(Whole(0, 2**32 - 1))})
_SCHEMA = MapOf(_ENTRY, least=1, names=FileName(below=True))
_BLOCK = 1 << 22
literal_names.install()
# Hosts wait for one another this long; that one is gone is noticed otherwise. Hundreds of gigabytes to a bucket, read
# again for their checksums, take longer than Orbax's twenty minutes.
_WRITE_SECONDS = 6 * 3600


class Damaged(Exception):
    """A checkpoint is not what was saved; the message says which file and how."""


class Checkpoints:
    """The checkpoints of a run: `checkpoints/STEP/params` and `checkpoints/STEP/optimizer`.

    The first save removes what an interrupted one left behind. All hosts call every method together.
    """

    def __init__(self, directory: Path, config: CheckpointConfig, best: Callable[[], int | None] = lambda: None):
        """Opens or makes `directory`; the step that `best` returns when others are removed stays."""
        literal_names.check_name(directory)
        self._directory = directory.absolute()
        self._directory.mkdir(parents=True, exist_ok=True)
        policies = checkpoint_managers
        keep: list[Any] = [policies.LatestN(config.keep_last)]
        if config.keep_every is not None:
            keep.append(policies.EveryNSteps(config.keep_every))
        keep.append(_KeepBest(best))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(keep),
            cleanup_tmp_directories=True,
            save_root_metadata=False,
            async_options=ocp.AsyncOptions(timeout_secs=_WRITE_SECONDS),
            # Hosts may not see a folder appear at the same moment: all go by what the first one sees.
            single_host_load_and_broadcast=jax.process_count() > 1,
        )
        registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
        for name in (PARAMS, OPTIMIZER):
            handler = _RecordingHandler(config.checksums)
            registry.add(name, ocp.args.StandardSave, handler)
            registry.add(name, ocp.args.StandardRestore, handler)
        self._manager = ocp.CheckpointManager(self._directory, options=options, handler_registry=registry)

    def steps(self) -> list[int]:
        """Returns the steps there are checkpoints of, oldest first."""
        # Where they come from another host, they are numpy's int32.
        return sorted(map(int, self._manager.all_steps()))

    def save(self, state: TrainState, step: int) -> None:
        """Starts writing the state after `step` updates; blocks only while it is copied from the devices.

        Raises:
          Exception: whatever made the previous save fail.
        """
        args = ocp.args.Composite(
            **{PARAMS: ocp.args.StandardSave(state.params), OPTIMIZER: ocp.args.StandardSave(state.opt_state)}
        )
        self._manager.save(step, args=args, force=True)

    def restore(self, step: int, target: TrainState) -> TrainState:
        """Reads the checkpoint of `step` into the shapes and shardings of `target`, whatever mesh wrote it.

        Raises:
          Damaged: it is not whole, or not of these shapes.
          UserError: it is whole, and this one of several hosts cannot read it.
        """
        self._check(step, (PARAMS, OPTIMIZER))
        args = ocp.args.Composite(
            **{PARAMS: ocp.args.StandardRestore(target.params), OPTIMIZER: ocp.args.StandardRestore(target.opt_state)}
        )
        try:
            items = self._manager.restore(step, args=args)
        except (ValueError, OSError, KeyError) as error:
            fault = f"{self._directory / str(step)}: {(str(error) or type(error).__name__).splitlines()[0]}"
            if jax.process_count() > 1:
                # The others may have read it and resumed from it: one host alone cannot choose an older one.
                raise UserError(f"{fault}; move it away to resume from the one before") from error
            raise Damaged(fault) from error
        restored_step = jax.device_put(np.int32(step), target.step.sharding)
        return TrainState(restored_step, items[PARAMS], items[OPTIMIZER])

    def discard(self, step: int) -> Path:
        """Moves a damaged checkpoint out of the way, to `damaged-STEP`, and returns where it is now."""
        aside = self._directory / f"damaged-{step}"
        if jax.process_index() == 0:
            number = 1
            while aside.exists():
                number += 1
                aside = self._directory / f"damaged-{step}-{number}"
            (self._directory / str(step)).rename(aside)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"discard checkpoint {step}")
        self._manager.reload()
        return aside

    def wait(self) -> None:
        """Blocks until everything is on disk.

        Raises:
          Exception: whatever made the last save fail.
        """
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Ends the background threads."""
        self._manager.close()

    def _check(self, step: int, items: tuple[str, ...]) -> None:
        # Each host reads its share of the files, which may be hundreds of gigabytes; all come to the same verdict.
        faults = find_faults(self._directory / str(step), items, jax.process_index(), jax.process_count())
        fault = "; ".join(dict.fromkeys(filter(None, from_all("; ".join(faults)))))
        if fault:
            raise Damaged(fault)


class _KeepBest:
    """Orbax's policy by which one step stays."""

    def __init__(self, best: Callable[[], int | None]):
        self._best = best

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        return [one.step == self._best() for one in checkpoints]


class _RecordingHandler(ocp.StandardCheckpointHandler):
    """Orbax's handler, which also records every file's size and checksum before the checkpoint is made visible."""

    def __init__(self, checksums: bool):
        super().__init__()
        self._checksums = checksums

    def finalize(self, directory: Any) -> None:
        super().finalize(directory)
        write_record(Path(directory), self._checksums)


def write_record(item: Path, checksums: bool) -> None:
    """Writes the sizes, and if wanted CRC-32 sums, of all files below the folder `item` into it."""
    paths = _files(item)
    sums: list[int | None] = [None] * len(paths)
    if checksums:
        with ThreadPoolExecutor(4) as pool:
            sums = list(pool.map(_checksum, paths))
    entries = {
        path.relative_to(item).as_posix(): {"size": path.stat().st_size, "crc32": checksum}
        for path, checksum in zip(paths, sums, strict=True)
    }
    (item / RECORD).write_text(json.dumps(entries, indent=1) + "\n")


def find_faults(checkpoint: Path, items: tuple[str, ...], part: int = 0, parts: int = 1) -> list[str]:
    """Returns what is wrong with the files of a checkpoint; nothing if it is whole.

    Args:
      checkpoint: the folder of one step.
      items: those that are needed, such as "params" alone.
      part: which of `parts` shares of the files to look at.
      parts: all of them together are the whole.
    """
    return [fault for item in items for fault in _item_faults(checkpoint / item, part, parts)][:3]


def _item_faults(item: Path, part: int, parts: int) -> list[str]:
    try:
        entries = schema.read(item / RECORD, _SCHEMA)
        # Beside its folders Orbax puts marks of its own after the record is made.
        inner = [path for path in _files(item) if path.parent != item]
        unlisted = [path for path in inner if path.relative_to(item).as_posix() not in entries]
    except (FileNotFoundError, NotADirectoryError):
        return [f"{item / RECORD} is missing"]
    except UserError as error:
        return [str(error)]
    faults = [f"{path} is not listed in {RECORD}" for path in unlisted]
    ours = {item / name: entries[name] for name in sorted(entries)[part::parts]}
    for path, entry in ours.items():
        if not path.is_file():
            faults.append(f"{path} is missing")
        elif path.stat().st_size != entry["size"]:
            faults.append(f"{path} has {path.stat().st_size:,} bytes instead of {entry['size']:,}")
    if faults:
        return faults
    recorded = {path: entry["crc32"] for path, entry in ours.items() if entry.get("crc32") is not None}
    with ThreadPoolExecutor(4) as pool:
        found = zip(recorded, pool.map(_checksum, recorded), strict=True)
        return [f"{path} has changed" for path, checksum in found if checksum != recorded[path]]


def _files(item: Path) -> list[Path]:
    """Returns the files below `item` that its record lists: not hidden ones, which file systems put there."""
    return [path for path in regular_files(item, item) if path.name != RECORD and not path.name.startswith(".")]


def _checksum(path: Path) -> int:
    checksum = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum


def restore_newest(checkpoints: Checkpoints, target: TrainState, say: Any) -> tuple[TrainState, int] | None:
    """Restores the newest whole checkpoint, and moves damaged ones that are newer out of the way.

    Args:
      checkpoints: of the run.
      target: abstract state with shardings.
      say: called with one line for the user about each damaged checkpoint.

    Returns:
      (state, step), or None if there are no checkpoints at all.

    Raises:
      UserError: there are checkpoints, and none is whole.
    """
    steps = checkpoints.steps()
    damaged: dict[int, str] = {}
    for step in reversed(steps):
        try:
            state = checkpoints.restore(step, target)
        except Damaged as error:
            damaged[step] = str(error)
            continue
        for bad, fault in damaged.items():
            aside = checkpoints.discard(bad)
            say(f"checkpoint {bad} is damaged ({fault}); moved to {aside.name}, going on from step {step}")
        return state, step
    if damaged:
        newest, fault = next(iter(damaged.items()))
        raise UserError(f"none of {len(damaged)} checkpoints is whole; the newest, of step {newest}: {fault}")
    return None
