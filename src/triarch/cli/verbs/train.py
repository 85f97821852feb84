"""`triarch train`: trains a model, or goes on where a run folder left off."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from triarch.cli.gin_files import add_gin_arguments, load_run
from triarch.cli.outputs import check_folder
from triarch.cli.processes import add_process_arguments, joined
from triarch.cli.run_config import check_modules

HELP = "train a model; run again with the same --workdir to go on after a stop"
EXAMPLE = "triarch train --gin_file=runs/laptop.gin --workdir=runs/first --gin.RunConfig.steps=200"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
    add_gin_arguments(parser)
    parser.add_argument(
        "--workdir",
        required=True,
        metavar="FOLDER",
        help="run folder, created if missing: config.gin, metrics.jsonl, checkpoints/, tensorboard/, summary.json. "
        "SIGTERM or Ctrl-C saves after the current step and exits with status 0",
    )
    add_process_arguments(parser, steps=True)


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    """Trains and returns the run's summary, in the first of several processes."""
    check_folder("workdir", args.workdir)
    check_modules(Path(args.workdir))
    config, config_text = load_run(args)
    with joined(args, "train", "; run all again to go on from the newest checkpoint") as is_first:
        from triarch.training import train  # Bad flags and configs fail before jax is imported.

        summary = train(config, args.workdir, config_text)
    if not is_first:
        return None
    if summary["status"] == "complete":
        loss = "" if summary["loss"] is None else f", loss {summary['loss']:.4f}"
        print(f"{args.workdir}: complete after {summary['steps']} steps{loss}")
    return summary
