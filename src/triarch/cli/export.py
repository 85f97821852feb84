"""`triarch export`: a run's parameters in a folder that describes itself."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from triarch.errors import UserError, nearest

HELP = "write a run's parameters, without optimizer state, as a self-describing Orbax checkpoint"
EXAMPLE = "triarch export --workdir=runs/redllm_small --output=exports/redllm_small --dtype=bfloat16"

FORMATS = ("orbax",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `triarch export`."""
    add = parser.add_argument
    add("--workdir", required=True, type=Path, metavar="RUN", help="the run (or an export, to change its type)")
    add("--output", required=True, type=Path, metavar="DIR", help="folder to make")
    add("--format", default="orbax", help="orbax (default: %(default)s)")
    add("--dtype", default="float32", help="float32, bfloat16 or float16 (default: %(default)s)")
    add("--step", type=int, help="checkpoint to export (default: the newest whole one)")
    add("--overwrite", action="store_true", help="replace an export that is at --output")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the export and prints what it holds.

    Raises:
      UserError: the run has no whole checkpoint, or the output cannot be written.
    """
    if args.format not in FORMATS:
        raise UserError(f"--format={args.format}: no such format{nearest(args.format, FORMATS)}")
    from triarch.interchange import write_export
    from triarch.loading import load

    loaded = load(args.workdir, step=args.step)
    manifest = write_export(
        args.output,
        loaded.model,
        loaded.origin,
        dtype=args.dtype,
        vocabulary_files=loaded.vocabulary_files,
        overwrite=args.overwrite,
    )
    config, step = manifest.config, manifest.origin.step
    what = f"{config.architecture}, {config.num_params():,} parameters in {args.dtype}, step {step}"
    print(f"{args.output}: {what}, fingerprint {manifest.fingerprint[:12]}")
    return {
        "output": str(args.output),
        "format": args.format,
        "dtype": args.dtype,
        "step": step,
        "num_params": config.num_params(),
        "fingerprint": manifest.fingerprint,
    }
