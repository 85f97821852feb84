"""The order of a run in a folder: a file for the steps between checkpoint and checkpoint, each whole or not there."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from triarch import schema
from triarch.cli.views.order_files import SUFFIXES, OrderTable, written
from triarch.errors import UserError, nearest
from triarch.files import write_whole
from triarch.schema import Anything, MapOf
from triarch.training.inputs import Inputs
from triarch.training.record.order import DataOrder

MANIFEST = "order.json"


def checkpoint_intervals(segments: Sequence[Inputs], steps: range) -> list[range]:
    """Returns the steps between checkpoint and checkpoint of a run, as its config says when one is written.

    Args:
      segments: of the run, in order; each has its own `CheckpointConfig.every`.
      steps: of the run; what lies outside is left out, so that the first and the last interval may be shorter.
    """
    last = segments[-1].config.steps
    begins = [inputs.order.step for inputs in segments]
    ends = {last}
    for inputs, first, end in zip(segments, begins, [*begins[1:], last], strict=True):
        every = inputs.config.checkpoint.every
        ends.update(range((first // every + 1) * every, end + 1, every))
    bounds = [steps.start, *sorted(end for end in ends if steps.start < end < steps.stop), steps.stop]
    return [range(start, end) for start, end in itertools.pairwise(bounds)]


def check_kind(kind: str) -> str:
    """Returns the suffix of a kind of file.

    Raises:
      UserError: there is no such kind.
    """
    kinds = [suffix[1:] for suffix in SUFFIXES]
    if kind not in kinds:
        raise UserError(f"--files={kind}: expected {', '.join(kinds)}{nearest(kind, kinds)}")
    return f".{kind}"


def write_folder(
    folder: Path,
    order: DataOrder,
    table: OrderTable,
    intervals: Sequence[range],
    suffix: str,
    facts: dict[str, Any],
    advance: Callable[[int], None],
) -> dict[str, Any]:
    """Writes `step-N` for the steps up to each checkpoint N, those that are there left alone, and returns the manifest.

    Args:
      folder: made if need be; order.json in it says what its files are.
      order: of the run.
      table: the columns of the files.
      intervals: of steps, in order.
      suffix: of the files, from `SUFFIXES`.
      facts: what decides the files' content, for the manifest.
      advance: told how many steps were looked up.

    Raises:
      UserError: the folder holds the order of another run, or cannot be written.
    """
    files = [
        {"file": f"step-{steps.stop}{suffix}", "first_step": steps.start, "steps": len(steps)} for steps in intervals
    ]
    manifest = {**facts, "columns": list(table.columns), "files": files}
    _begin(folder, manifest)
    for steps, entry in zip(intervals, files, strict=True):
        path = folder / str(entry["file"])
        if path.exists():
            advance(len(steps))
            continue
        with written(path, table) as file:
            for done, part in order.parts(steps):
                file.write(part)
                advance(done)
    return manifest


def _begin(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest, or makes sure that the one that is there is the same."""
    path = folder / MANIFEST
    if path.exists():
        there = schema.read(path, MapOf(Anything(), least=1))
        other = [name for name, value in manifest.items() if there.get(name) != value]
        if other:
            raise UserError(
                f"{folder}: holds the order of another run or of other steps ({', '.join(other)} differ): choose "
                "another --output"
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: holds other files: choose another --output")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(manifest, indent=1) + "\n")
