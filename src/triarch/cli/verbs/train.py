"""`triarch train`: trains a model, or resumes a run."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from triarch.cli.gin.files import add_gin_arguments, load_run
from triarch.cli.gin.run_config import config_of
from triarch.cli.outputs import check_folder
from triarch.cli.processes import add_process_arguments, joined
from triarch.cli.seqio.training_tasks import task_evaluator
from triarch.errors import UserError

HELP = """Trains a model. Run it again to resume; --workdir alone is enough then.

An existing run resumes with changed settings where --continue_with names them: more steps, another learning rate,
schedule, batch size, mixture of data or setting of the optimizer. It continues in its data after what it has read, and
records the change; what it is a model of cannot change.

RunConfig.eval_tasks names SeqIO tasks of --module to evaluate during the run, every RunConfig.eval_tasks_every steps.
RunConfig.phases makes a run a chain of phases, each with its own window, rotary bases, data, schedule and batches
(docs/phases.md); it is stopped and resumed like any other.

Of checkpoints stay the newest CheckpointConfig.keep_last, the multiples of keep_every, and the best by keep_best, a
metric such as validation_loss or glue_cola/matthews: 'triarch evaluate --step=best', export and generate take it."""
EXAMPLE = """  triarch train --gin_file=runs/redllm.gin --gin_file=models/redllm/laptop_s.gin --workdir=runs/first \\
      --gin_file=experiments/redllm_vs_decllm/laptop_run.gin --gin.DataConfig.store=stores/code
  triarch train --workdir=runs/first
  triarch train --workdir=runs/first --continue_with=RunConfig.steps=1600 --continue_with=RunConfig.batch_size=16
  triarch train --workdir=runs/first --profile=20:25"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
    add_gin_arguments(parser)
    parser.add_argument(
        "--workdir",
        required=True,
        metavar="FOLDER",
        help="run folder, or its URL (gs://bucket/run), created if missing: config.gin, metrics.jsonl, checkpoints/, "
        "tensorboard/, summary.json. SIGTERM or Ctrl-C saves after the current step and exits with status 0",
    )
    parser.add_argument(
        "--continue_with",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="resume the run of --workdir with another setting, as RunConfig.steps=400, or those of a gin file "
        "(repeatable). Given again, it simply resumes",
    )
    parser.add_argument(
        "--profile",
        metavar="FROM:TO",
        help="write a trace of the steps FROM up to TO - 1 to WORKDIR/profile, and say how to look at it",
    )
    add_process_arguments(parser, steps=True)


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    """Trains and returns the run's summary, in the first of several processes."""
    check_folder("workdir", args.workdir)
    config, config_text = _config(args)
    profile = _profile(args.profile)
    evaluator = task_evaluator(config, args.module)
    with joined(args, "train", "; run all again to resume from the newest checkpoint") as is_first:
        from triarch.training import train  # Bad flags and configs fail before jax is imported.

        summary = train(
            config,
            args.workdir,
            config_text,
            may_change=bool(args.continue_with),
            profile=profile,
            task_evaluator=evaluator,
        )
    if not is_first:
        return None
    if summary["status"] == "complete":
        loss = "" if summary["loss"] is None else f", loss {summary['loss']:.4f}"
        more = f" (for more: --continue_with=RunConfig.steps={2 * summary['steps']})"
        print(f"{args.workdir}: complete after {summary['steps']} steps{loss}{more}")
    return summary


def _config(args: argparse.Namespace) -> tuple[Any, str]:
    """Returns the run's config and its gin text: from gin files, or from a run that is there and gin on top."""
    from triarch.training.record.config_json import check_modules

    workdir = Path(args.workdir)
    if args.continue_with:
        if args.gin_file:
            raise UserError("--continue_with changes the run of --workdir: name gin files with it, not with --gin_file")
        files = [change for change in args.continue_with if change.endswith(".gin") and "=" not in change]
        changes = [change for change in args.continue_with if change not in files]
        for change in changes:
            if "=" not in change:
                raise UserError(f"--continue_with={change}: expected NAME=VALUE or a gin file, as RunConfig.steps=400")
        return config_of(workdir, files, [*args.gin_bindings, *changes])
    if args.gin_file:
        check_modules(workdir)
        return load_run(args)
    if not (workdir / "config.json").exists():
        raise UserError(
            f"{workdir} holds no run to resume: describe a new one with --gin_file, for example "
            "--gin_file=models/redllm/150m.gin"
        )
    return config_of(workdir, bindings=args.gin_bindings)


def _profile(text: str | None) -> range | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+):(\d+)", text)
    if not found or int(found[1]) >= int(found[2]):
        raise UserError(f"--profile={text}: expected FROM:TO, two steps, the second behind the last one to look at")
    return range(int(found[1]), int(found[2]))
