"""What `triarch evaluate` has in common for tasks of lm-evaluation-harness and of SeqIO."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from triarch.errors import UserError

_ANSWERS = ".answers.jsonl"
# Of tasks of either kind.
COMMON = ("limit", "answers")


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that tasks of either kind have."""
    add = parser.add_argument_group("tasks of either kind").add_argument
    add("--limit", type=int, metavar="N", help="the first N examples of every task (default: all)")
    add(
        "--answers", type=Path, metavar="FILE",
        help="keep answers here as they come; run again to resume (default: beside --json's file, or in "
        "--output); of several checkpoints each has a file of its own, named after it",
    )  # fmt: skip


def refuse_flags(args: argparse.Namespace, flags: Sequence[str], of: str, advice: str) -> None:
    """Raises UserError for one of `flags` that was given although what it is for was not asked for."""
    given = next((name for name in flags if getattr(args, name) not in (None, [])), None)
    if given is not None:
        raise UserError(f"--{given} is for {of}: {advice}")


def check_one_process(args: argparse.Namespace) -> None:
    """Raises UserError where several processes are to evaluate tasks."""
    if args.coordinator or args.num_processes not in (None, 1):
        raise UserError("tasks are evaluated by one process")


def answers_file(args: argparse.Namespace, checkpoint: str, name: str) -> Path | None:
    """Returns where the answers of a checkpoint are kept; `checkpoint` sets apart one of several.

    In --output the file is called by `name`.
    """
    file = args.answers
    if file is None and args.json not in (None, "-"):
        file = Path(args.json).with_suffix(_ANSWERS)
    if file is None and args.output is not None:
        file = args.output / f"{name}{_ANSWERS}"
    if file is None or not checkpoint:
        return file
    ending = _ANSWERS if file.name.endswith(_ANSWERS) else file.suffix
    return file.with_name(file.name.removesuffix(ending) + checkpoint + ending)
