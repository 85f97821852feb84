"""`triarch evaluate --tasks`: zero- and few-shot tasks."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch.cli.text_table import aligned, decimals
from triarch.cli.vocabularies import tokenizer_of
from triarch.errors import UserError

if TYPE_CHECKING:
    from triarch.evaluation.few_shot import FewShotOptions, TaskResult, TaskSuite

_SUITES = "evaluation"
_HEADER = ("task", "metric", "filter", "value", "standard error", "shots", "examples")
_ANSWERS = ".answers.jsonl"


def add_task_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of tasks."""
    group = parser.add_argument_group(
        "tasks",
        "Zero- and few-shot tasks through lm-evaluation-harness (extra [eval]). lambada, hellaswag, arc_easy, copa and "
        "gsm8k read local files where --task_data is given; all others are yours, or the harness's own, which fetches "
        "their data. An encoder is scored by pseudo-likelihood. A task's YAML may run code (!function): include only "
        "folders you trust.",
    )
    add = group.add_argument
    add("--tasks", metavar="NAMES", help="comma-separated tasks, groups or tags, or paths of YAML files")
    add("--task_suite", metavar="NAME", help="a list of tasks with their shots: redllm, ettin, local, or a gin file")
    add("--task_data", type=Path, metavar="FOLDER", help="of local data files, in which tasks look up theirs")
    add(
        "--include_path", action="append", default=[], type=Path, metavar="FOLDER",
        help="of further tasks, YAML as the harness reads it; repeatable",
    )  # fmt: skip
    add("--num_fewshot", type=int, metavar="K", help="examples in the prompt (default: the suite's or the task's own)")
    add("--limit", type=int, metavar="N", help="the first N examples of every task (default: all)")
    add(
        "--max_length", type=int, metavar="TOKENS",
        help="read at most so many tokens; longer prompts lose their start (default: the model's positions, or 2048)",
    )  # fmt: skip
    add(
        "--add_bos", choices=("yes", "no"),
        help="begin texts with the token that begins texts (default: as trained, or as the imported tokenizer does)",
    )  # fmt: skip
    add(
        "--pseudo", default="token",
        help="what an encoder finds masked with each token of a continuation: nothing more (token), the tokens of its "
        "word to its right (word), or all of the continuation to its right (rest) (default: %(default)s)",
    )  # fmt: skip
    add(
        "--answers", type=Path, metavar="FILE",
        help="keep answers here as they come; run again to go on after a stop (default: beside --json's file)",
    )  # fmt: skip


def run_tasks(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluates a model on tasks and prints a table, task by task.

    Raises:
      UserError: a task, its data or the model is missing or unsuitable, or a flag is out of range.
    """
    if len(args.model) > 1 or args.output is not None:
        raise UserError(f"{'--output' if args.output else 'more than one --model'} is for --suite")
    if args.coordinator or args.num_processes not in (None, 1):
        raise UserError("tasks are evaluated by one process")
    options = _options(args)
    options.check()
    suite = _suite(args)
    from triarch.evaluation.few_shot import evaluate_tasks
    from triarch.evaluation.few_shot.evaluation import harness_version
    from triarch.interchange import Placement
    from triarch.loading import load

    (path,) = args.model
    model = load(path, step=args.step, placement=Placement.all_devices())
    tokenizer = tokenizer_of(model)
    shown: list[TaskResult] = []

    def report(results: list[TaskResult]) -> None:
        # Each task's lines as soon as it is done; the header with the first.
        print("\n".join(_lines(results)[0 if not shown else 1 :]), flush=True)
        shown.extend(results)

    frame = getattr(tokenizer, "frame", None)
    results = evaluate_tasks(model, tokenizer, suite, options, tokenizer_frame=frame, show_progress=True, report=report)
    is_encoder = model.config.architecture == "encoder-only"
    return {
        "model": str(path),
        "architecture": model.config.architecture,
        "step": model.origin.step,
        "scoring": f"pseudo-log-likelihood ({options.pseudo})" if is_encoder else "log-likelihood",
        "limit": options.limit,
        "max_length": options.max_length,
        "lm_eval": harness_version(),
        "results": [dataclasses.asdict(result) for result in results],
    }


def _options(args: argparse.Namespace) -> FewShotOptions:
    from triarch.evaluation.few_shot import FewShotOptions

    answers = args.answers
    if answers is None and args.json not in (None, "-"):
        answers = Path(args.json).with_suffix(_ANSWERS)
    return FewShotOptions(
        task_data=args.task_data,
        include_paths=tuple(args.include_path),
        num_fewshot=args.num_fewshot,
        limit=args.limit,
        max_length=args.max_length,
        add_bos=None if args.add_bos is None else args.add_bos == "yes",
        pseudo=args.pseudo,
        batch_size=args.batch_size,
        answers=answers,
    )


def _suite(args: argparse.Namespace) -> TaskSuite:
    from triarch.evaluation.few_shot import TaskSuite

    tasks: dict[str, int | None] = {}
    if args.task_suite:
        from triarch.cli.gin_files import build, parse

        name = args.task_suite
        parse([name if name.endswith(".gin") else f"{_SUITES}/{name}.gin"], [])
        tasks |= build("TaskSuite").tasks
    tasks |= dict.fromkeys(name.strip() for name in (args.tasks or "").split(",") if name.strip())
    if not tasks:
        raise UserError(f"--tasks={args.tasks}: names no task")
    return TaskSuite(tasks)


def _lines(results: Sequence[TaskResult]) -> list[str]:
    rows = [
        (
            *(one.task, one.metric, one.filter, _number(one.value), _number(one.standard_error)),
            *("-" if count is None else f"{count:,}" for count in (one.num_fewshot, one.num_examples)),
        )
        for one in results
    ]
    # The same widths for every task, since each is printed by itself.
    padded = [tuple(cell.ljust(width) for cell, width in zip(row[:3], (24, 16, 13), strict=True)) for row in rows]
    header = tuple(cell.ljust(width) for cell, width in zip(_HEADER[:3], (24, 16, 13), strict=True))
    lines = [(*header, *(cell.rjust(9) for cell in _HEADER[3:]))]
    lines += [(*words, *(cell.rjust(9) for cell in row[3:])) for words, row in zip(padded, rows, strict=True)]
    return aligned(lines[0], lines[1:], words=3).splitlines()


def _number(value: float | None) -> str:
    return decimals(value) if value is None or abs(value) < 1e5 else f"{value:.2e}"
