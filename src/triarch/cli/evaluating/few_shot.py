"""`triarch evaluate --tasks`: zero- and few-shot tasks."""

from __future__ import annotations

import argparse
import dataclasses
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from triarch.cli.seqio.task_flags import answers_file, check_one_process, refuse_flags
from triarch.cli.steps import chosen_steps
from triarch.cli.views.model_tables import make_folder, model_facts, model_names, write_table
from triarch.cli.views.text_table import aligned, decimals
from triarch.errors import UserError

if TYPE_CHECKING:
    from triarch.evaluation.few_shot import FewShotOptions, TaskResult, TaskSuite
    from triarch.evaluation.overlap import Trained

_SUITES = "evaluation"
_HEADER = ("task", "metric", "filter", "value", "standard error", "shots", "examples")
_WIDTHS = (24, 16, 13, 9, 14, 9, 9)
NAME_SOME = "name some with --tasks=NAMES or --task_suite=NAME"
_TABLE_FLAGS = ("question", "choices", "answer")
_FLAGS = (
    *_TABLE_FLAGS,
    "task_data", "include_path", "num_fewshot", "max_length", "add_bos", "pseudo", "instruction",
)  # fmt: skip


def add_task_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of tasks."""
    group = parser.add_argument_group(
        "tasks",
        "Zero- and few-shot tasks through lm-evaluation-harness (extra [eval]). lambada, hellaswag, arc_easy, copa, "
        "gsm8k, unifiedqa, natural_instructions, wmt_en_zh and wmt_zh_en read local files where --task_data is given; "
        "all others are yours, or the harness's own, which fetches their data. An encoder is scored by "
        "pseudo-likelihood. A task's YAML may run code (!function): include only folders you trust.",
    )
    add = group.add_argument
    add("--tasks", metavar="NAMES", help="comma-separated tasks, groups or tags, or paths of YAML files")
    add(
        "--task_suite",
        metavar="NAME",
        help="a list of tasks with their shots: redllm, redllm_zero, redllm_own, ettin, local, or a gin file",
    )
    add(
        "--task_file", type=Path, metavar="FILE",
        help="a multiple-choice task of your own, a question a row: .csv, .tsv or .jsonl, with --question, --choices, "
        "--answer; --output keeps the harness's YAML of it",
    )  # fmt: skip
    add("--question", metavar="COLUMN", help="of --task_file: what a choice follows")
    add("--choices", metavar="COLUMN[,COLUMN]", help="of --task_file: columns of the choices, or one that holds a list")
    add(
        "--answer", metavar="COLUMN",
        help="of --task_file: the right choice, by its text, column, letter or number",
    )  # fmt: skip
    add("--task_data", type=Path, metavar="FOLDER", help="of local data files, in which tasks look up theirs")
    add(
        "--include_path", action="append", default=[], type=Path, metavar="FOLDER",
        help="of further tasks, YAML as the harness reads it; repeatable",
    )  # fmt: skip
    add(
        "--instruction", metavar="TEXT",
        help="put before every prompt, as 'Answer the question.': a model tuned on instructions asked as such "
        "(default: the tasks' plain prompts)",
    )  # fmt: skip
    add("--num_fewshot", type=int, metavar="K", help="examples in the prompt (default: the suite's or the task's own)")
    add(
        "--max_length", type=int, metavar="TOKENS",
        help="most tokens of a prompt; longer ones lose their start (default: the model's positions, or 2048); "
        "texts of --retrieval and --similarity lose their end (default: the model's own)",
    )  # fmt: skip
    add(
        "--add_bos", choices=("yes", "no"),
        help="begin texts with the token that begins texts (default: as trained, or as the imported tokenizer does)",
    )  # fmt: skip
    add(
        "--pseudo",
        help="what an encoder finds masked with each token of a continuation: nothing more (token), the tokens of its "
        "word to its right (word), or all of the continuation to its right (rest) (default: token)",
    )  # fmt: skip


def refuse_task_flags(args: argparse.Namespace, but: Sequence[str] = ()) -> None:
    """Raises UserError for a flag of tasks, `but` for some, where no task is asked for."""
    refuse_flags(args, [flag for flag in _FLAGS if flag not in but], "tasks", NAME_SOME)


def asks_for_tasks(args: argparse.Namespace) -> bool:
    """Returns whether tasks are to be evaluated."""
    return any(getattr(args, name) is not None for name in ("tasks", "task_suite", "task_file"))


def run_tasks(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluates checkpoints on tasks, one after the other, and prints a table of each, task by task.

    Raises:
      UserError: a task, its data or a model is missing or unsuitable, or a flag is out of range.
    """
    if args.task_file is None:
        refuse_flags(args, _TABLE_FLAGS, "a table of your own", "name it with --task_file=FILE")
        return _run_tasks(args)
    # Not --output: tasks that lie there already may run code, and the user named it for what is written.
    with tempfile.TemporaryDirectory() as scratch:
        args.include_path = [*args.include_path, Path(scratch)]
        args.tasks = ",".join(filter(None, [args.tasks, _write_table_task(args, Path(scratch))]))
        return _run_tasks(args)


def _write_table_task(args: argparse.Namespace, scratch: Path) -> str:
    """Writes the definition of --task_file's task to `scratch`, and one to keep to --output; returns its name."""
    from triarch.evaluation.few_shot.table_tasks import TableTask

    for name in _TABLE_FLAGS:
        if not getattr(args, name):
            raise UserError(f"--task_file={args.task_file}: give --{name}=COLUMN too")
    columns = tuple(name.strip() for name in args.choices.split(","))
    task = TableTask(args.task_file, args.question, columns, args.answer)
    told = task.write(scratch)
    if args.output is not None:
        make_folder(args.output)
        task.write(args.output)
    print(f"{args.task_file}: task {task.name}, answers read as {told}")
    return task.name


def _run_tasks(args: argparse.Namespace) -> dict[str, Any]:
    check_one_process(args)
    options, suite = _options(args), _suite(args)
    options.check()
    from triarch.evaluation.few_shot import check_names
    from triarch.evaluation.few_shot.evaluation import harness_version

    check_names(suite.tasks, options.include_paths, options.task_data)
    checkpoints = [
        (name, path, step) for name, path in model_names(args.model).items() for step in chosen_steps(path, args.step)
    ]
    if args.output is not None:
        make_folder(args.output)
    models = []
    known = {path: _trained(path, suite) for path in dict.fromkeys(path for _, path, _ in checkpoints)}
    for number, (name, path, step) in enumerate(checkpoints, 1):
        several = len(checkpoints) > 1
        place = name if step is None else f"{name}, step {step}"
        checkpoint = f".{name}-{'newest' if step is None else step}" if several else ""
        own = dataclasses.replace(options, answers=answers_file(args, checkpoint, "tasks"))
        if several:
            print(f"==> {place}", flush=True)
        label = f"{number}/{len(checkpoints)} {place}" if several else ""
        models.append(_evaluated(name, path, step, suite, own, label, known[path]))
    if args.output is not None:
        _write(args.output, models)
    return {
        "limit": options.limit,
        "max_length": options.max_length,
        "lm_eval": harness_version(),
        "models": models,
    }


def _trained(path: Path, suite: TaskSuite) -> Trained:
    """Returns what a run was trained on, and says which of it is evaluated, as far as stores name their tasks."""
    from triarch.cli.tuning.ranking import warn
    from triarch.evaluation.overlap import Trained

    trained = Trained.of(path, suite.tasks)
    warn(path, trained.tasks, {})
    return trained


def _evaluated(
    name: str, path: Path, step: int | None, suite: TaskSuite, options: FewShotOptions, label: str, trained: Trained
) -> dict[str, Any]:
    from triarch.cli.tuning.ranking import warn
    from triarch.evaluation.few_shot import evaluate_tasks
    from triarch.interchange import Placement
    from triarch.loading import load, tokenizer_of

    model = load(path, step=step, placement=Placement.all_devices())
    tokenizer = tokenizer_of(model)
    shown: list[TaskResult] = []
    equal: dict[str, int] = {}

    def count(task: str, prompts: Sequence[str]) -> None:
        found = trained.equal_inputs(prompts, tokenizer, model.known_vocabulary["special"]["eos"])
        equal.update({task: found} if found else {})

    def report(results: list[TaskResult]) -> None:
        # Each task's lines as soon as it is done; the header with the first.
        print("\n".join(_lines(results)[0 if not shown else 1 :]), flush=True)
        shown.extend(results)

    results = evaluate_tasks(
        model,
        tokenizer,
        suite,
        options,
        tokenizer_frame=getattr(tokenizer, "frame", None),
        show_progress=True,
        label=label,
        report=report,
        asked_about=count,
    )
    warn(path, {}, equal)
    is_encoder = model.config.architecture == "encoder-only"
    return {
        **model_facts(name, model),
        "path": str(path),
        "run": (model.origin.source or {}).get("run") or name,
        **_read_so_far(path, model.origin.step),
        "scoring": f"pseudo-log-likelihood ({options.pseudo})" if is_encoder else "log-likelihood",
        "results": [dataclasses.asdict(result) for result in results],
        "trained_on": {"tasks": trained.tasks, "equal_inputs": equal},
    }


def _read_so_far(path: Path, step: int | None) -> dict[str, float | None]:
    """Returns the tokens and FLOPs of a run until a step; None where unknown, as for an export."""
    from triarch.report.tasks_table import READ_SO_FAR, at_step
    from triarch.training.logs.metrics import FILE_NAME, read_lines

    names = ("step", *READ_SO_FAR)
    by_step = {line["step"]: line for line in read_lines(path / FILE_NAME) if all(name in line for name in names)}
    metrics = {name: np.array([by_step[step][name] for step in sorted(by_step)]) for name in names}
    found = at_step(metrics, math.nan if step is None else step)
    return {name: None if math.isnan(value) else value for name, value in found.items()}


def _write(output: Path, models: Sequence[Mapping[str, Any]]) -> None:
    from triarch.report.tasks_table import TASKS

    rows = []
    for model in models:
        facts = {name: value for name, value in model.items() if name not in ("results", "path", "trained_on")}
        rows += [facts | {name: one[name] for name in one if name != "files"} for one in model["results"]]
    if not rows:
        raise UserError("the tasks gave no results to write")
    write_table(output / TASKS, rows)


def _options(args: argparse.Namespace) -> FewShotOptions:
    from triarch.evaluation.few_shot import FewShotOptions

    return FewShotOptions(
        task_data=args.task_data,
        include_paths=tuple(args.include_path),
        num_fewshot=args.num_fewshot,
        limit=args.limit,
        max_length=args.max_length,
        add_bos=None if args.add_bos is None else args.add_bos == "yes",
        instruction=args.instruction,
        pseudo="token" if args.pseudo is None else args.pseudo,
        batch_size=args.batch_size,
    )


def _suite(args: argparse.Namespace) -> TaskSuite:
    from triarch.evaluation.few_shot import TaskSuite

    tasks: dict[str, int | None] = {}
    if args.task_suite:
        from triarch.cli.gin.files import build, parse

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
    return aligned(_HEADER, rows, words=3, least=_WIDTHS).splitlines()


def _number(value: float | None) -> str:
    return decimals(value) if value is None or abs(value) < 1e5 else f"{value:.2e}"
