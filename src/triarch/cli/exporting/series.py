"""A run's checkpoints exported one by one: a folder step-N of each, and series.json, which says how they were made."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from triarch import schema
from triarch.cli import steps
from triarch.errors import UserError
from triarch.files import write_whole
from triarch.schema import Anything, MapOf

MANIFEST = "series.json"
# What decides the content of a folder, beside the checkpoint.
_SETTINGS = ("format", "dtype", "family", "max_shard_size", "merge_adapter", "pooling", "normalize", "prompt")


def write(args: argparse.Namespace, write_one: Callable[[argparse.Namespace], dict[str, Any]]) -> dict[str, Any]:
    """Writes the checkpoints that --step names below --output; returns what each export holds, by its step.

    A folder that is there is whole, for exports appear at once: it is left as it is, unless --overwrite is given.

    Args:
      args: of `triarch export`.
      write_one: writes the export of one checkpoint.

    Raises:
      UserError: there is no such checkpoint, --output holds something else, or an export cannot be written.
    """
    wanted = steps.chosen_steps(args.workdir, args.step)
    if wanted == [None]:
        raise UserError(f"--step={args.step}: {args.workdir} is an export, which holds one step")
    wanted = list(dict.fromkeys(wanted))
    _begin(args)
    exports, there = [], []
    for step in wanted:
        output = args.output / f"step-{step}"
        if output.exists() and not args.overwrite:
            there.append(step)
            continue
        exports.append(write_one(argparse.Namespace(**{**vars(args), "step": step, "output": output})))
    left = f", {len(there)} were there already" if there else ""
    print(f"{args.output}: {len(exports)} of {len(wanted)} checkpoints written{left}")
    return {"output": str(args.output), "format": args.format, "steps": wanted, "exports": exports, "skipped": there}


def _begin(args: argparse.Namespace) -> None:
    """Writes the manifest, or makes sure that what is there was made of the same run in the same way."""
    from triarch.training.record.config_json import read_json
    from triarch.training.record.fingerprint import config_fingerprint

    output: Path = args.output
    made = {name: getattr(args, name) for name in _SETTINGS}
    made["run"] = config_fingerprint(read_json(args.workdir))
    path = output / MANIFEST
    if path.exists():
        there = schema.read(path, MapOf(Anything(), least=1))
        other = [name for name, value in made.items() if there.get(name) != value]
        if other:
            names = ", ".join("run" if name == "run" else f"--{name}" for name in other)
            raise UserError(f"{output}: its checkpoints were exported otherwise ({names}): choose another --output")
        return
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{output}: holds other files: choose another --output")
    output.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(made, indent=1) + "\n")
