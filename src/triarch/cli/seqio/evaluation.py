"""`triarch evaluate --seqio_task`: SeqIO tasks with the metrics they were registered with."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch.cli.seqio.task_flags import answers_file, check_one_process, refuse_flags
from triarch.cli.steps import chosen_steps
from triarch.cli.views.model_tables import make_folder
from triarch.cli.views.text_table import aligned
from triarch.errors import UserError
from triarch.files import write_whole
from triarch.progress import Progress

if TYPE_CHECKING:
    from triarch.tasks.evaluation import EvaluatedTask, SeqioTaskResult

RESULTS = "seqio_tasks.json"
_KEPT = "seqio_tasks"
_FLAGS = ("seqio_split", "seqio_lengths", "num_beams")


def add_seqio_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of SeqIO tasks."""
    group = parser.add_argument_group(
        "SeqIO tasks",
        "Tasks and mixtures of --module=MODULE, with their postprocess_fn, metric_fns and metric_objs, as "
        "seqio.Evaluator computes them. Metrics of predictions need a decoder; those of scores take an encoder's "
        "pseudo-log-likelihood. "
        "--limit, --answers, --batch_size and --step apply; --output takes the results, predictions as JSON lines, and "
        "TensorBoard's events.",
    )
    add = group.add_argument
    add("--seqio_task", metavar="NAME[,NAME]", help="tasks or mixtures; a mixture stands for its tasks")
    add("--seqio_split", metavar="NAME", help="of every task (default: validation)")
    add(
        "--seqio_lengths", metavar="inputs=N,targets=M",
        help="the most tokens of features, as T5X's TASK_FEATURE_LENGTHS; targets also says how many tokens are "
        "predicted at most (default: the longest of each task)",
    )  # fmt: skip
    add("--num_beams", type=int, metavar="K", help="of beam search (default: 1, the likeliest token each time)")


def refuse_seqio_flags(args: argparse.Namespace) -> None:
    """Raises UserError for a flag of SeqIO tasks where none is asked for."""
    refuse_flags(args, _FLAGS, "SeqIO tasks", "name some with --seqio_task=NAME")


def run_seqio_tasks(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluates the checkpoints of a model on SeqIO tasks, prints a table of each, and returns the results.

    Raises:
      UserError: a task, its split or a model is missing or unsuitable, or a flag is out of range.
    """
    check_one_process(args)
    if len(args.model) > 1:
        raise UserError("--seqio_task: give one --model; several checkpoints of it with --step")
    (path,) = args.model
    names = [name.strip() for name in args.seqio_task.split(",") if name.strip()]
    if not names:
        raise UserError(f"--seqio_task={args.seqio_task}: names no task")
    from triarch.evaluation.task_outputs import OutputOptions

    options = OutputOptions(num_beams=args.num_beams or 1, batch_size=args.batch_size)
    if args.num_beams is not None and args.num_beams < 1:
        raise UserError(f"--num_beams={args.num_beams}: expected at least 1")
    options.check()
    steps = chosen_steps(path, args.step)
    tasks = open_seqio_tasks(
        names, args.module, args.seqio_split or "validation", read_lengths(args.seqio_lengths), args.limit
    )
    if args.output is not None:
        make_folder(args.output)
    results = [_checkpoint(args, path, step, len(steps) > 1, tasks, options) for step in steps]
    result = {
        "model": str(path),
        "split": args.seqio_split or "validation",
        "num_beams": options.num_beams,
        **results[-1],
        **({"checkpoints": results} if len(results) > 1 else {}),
    }
    if args.output is not None:
        write_whole(args.output / RESULTS, json.dumps(result, indent=2, allow_nan=False) + "\n")
    return result


def open_seqio_tasks(
    names: Sequence[str],
    modules: Sequence[str],
    split: str,
    lengths: Mapping[str, int] | None,
    num_examples: int | None,
) -> list[EvaluatedTask]:
    """Returns tasks with their examples, and says which tasks of mixtures are left out.

    Raises:
      UserError: a task is not registered, or cannot be evaluated.
    """
    from triarch.tasks.evaluation import EvaluatedTask, ReadOptions, find_tasks

    if num_examples is not None and num_examples < 1:
        raise UserError(f"--limit={num_examples}: expected at least 1")
    found, left_out = find_tasks(names, modules, split)
    if left_out:
        print(f"left out, without a metric or a split {split!r}: {', '.join(left_out)}")
    return [EvaluatedTask(task, ReadOptions(split, lengths, num_examples)) for task in found]


def read_lengths(text: str | None) -> dict[str, int] | None:
    """Returns the lengths of features that a flag such as inputs=512,targets=62 says.

    Raises:
      UserError: something else stands there.
    """
    if text is None:
        return None
    found = [re.fullmatch(r"\s*(\w+)=([1-9]\d{0,8})\s*", part) for part in text.split(",")]
    lengths = {one[1]: int(one[2]) for one in found if one is not None}
    if not all(found):
        raise UserError(f"--seqio_lengths={text}: expected lengths of features, as inputs=512,targets=62")
    return lengths


def _checkpoint(
    args: argparse.Namespace,
    path: Path,
    step: int | None,
    is_one_of_several: bool,
    tasks: Sequence[EvaluatedTask],
    options: Any,
) -> dict[str, Any]:
    """Evaluates one checkpoint, prints and writes what it came to, and returns it."""
    from triarch.evaluation.few_shot.answers import Answers
    from triarch.evaluation.task_outputs import TaskOutputs, outputs_identity
    from triarch.interchange import Placement
    from triarch.loading import load, tokenizer_of
    from triarch.tasks.evaluation import evaluate

    model = load(path, step=step, placement=Placement.all_devices())
    tokenizer = tokenizer_of(model)
    frame = getattr(tokenizer, "frame", None)
    if is_one_of_several:
        print(f"==> step {step}", flush=True)
    kept = answers_file(args, f".{path.absolute().name}-{step}" if is_one_of_several else "", _KEPT)
    identity = outputs_identity(model, frame) if kept is not None else {}
    with Progress(show=True) as progress, Answers(kept, identity) as answers:
        outputs = TaskOutputs(model, frame, options, answers, progress.advance)
        able = _able(tasks, outputs, tokenizer)
        needed = sum(len(task.requests) * (task.needs_predictions + task.needs_scores) for task in able)
        progress.start(f"{len(able)} SeqIO tasks", needed)
        results = evaluate(able, outputs)
    print(_table(able, results), flush=True)
    if args.output is not None:
        folder = args.output / f"step_{step}" if is_one_of_several else args.output
        make_folder(folder)
        for name, result in results.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in result.rows)
            write_whole(folder / f"{name.replace('/', '.')}.predictions.jsonl", lines)
        _write_events(args.output / "tensorboard", results, model.origin.step or 0)
    return {
        "architecture": model.config.architecture,
        "step": model.origin.step,
        "num_examples": {task.name: len(task.examples) for task in able},
        "seqio_tasks": {name: dict(result.metrics) for name, result in results.items()},
    }


def _able(tasks: Sequence[EvaluatedTask], outputs: Any, tokenizer: Any) -> list[EvaluatedTask]:
    """Returns the tasks that a model can do; of an encoder, says in one line which it cannot.

    Raises:
      UserError: it can do none, or a task does not fit it.
    """
    able, unable = [], []
    for task in tasks:
        reason = task.unable(outputs.architecture)
        if reason is None:
            task.check(outputs, tokenizer)
            able.append(task)
        else:
            unable.append(reason)
    if not able:
        raise UserError(unable[0])
    partly = [f"task {task.name}: its metrics of {', '.join(task.left_out)}" for task in able if task.left_out]
    if unable or partly:
        print(f"left out, for an encoder makes no predictions: {'; '.join([*unable, *partly])}")
    return able


def _table(tasks: Sequence[EvaluatedTask], results: Mapping[str, SeqioTaskResult]) -> str:
    counts = {task.name: f"{len(task.examples):,}" for task in tasks}
    rows = [
        (name, metric, "-" if value is None else f"{value:.6g}" if isinstance(value, float) else value, counts[name])
        for name, result in results.items()
        for metric, value in result.metrics.items()
    ]
    return aligned(("task", "metric", "value", "examples"), rows, words=2)


def _write_events(folder: Path, results: Mapping[str, SeqioTaskResult], step: int) -> None:
    from triarch.training.logs.trackers import TensorBoard

    with contextlib.closing(TensorBoard(folder)) as tracker:
        values = {f"{name}/{metric}": value for name, one in results.items() for metric, value in one.metrics.items()}
        tracker.write({"step": step, **values})
