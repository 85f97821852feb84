"""`triarch evaluate --rank_file`: rank classification on questions of local files, by task and by cluster of tasks."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch.cli.seqio.task_flags import check_one_process
from triarch.cli.steps import chosen_steps
from triarch.cli.views.model_tables import make_folder, model_facts, model_names, write_table
from triarch.cli.views.text_table import aligned, decimals
from triarch.errors import UserError
from triarch.files import write_whole

if TYPE_CHECKING:
    from triarch.evaluation.ranking import Question, Ranked, Summary
    from triarch.interchange import LoadedModel

RANKS, ANSWERS = "ranks.csv", "ranks.jsonl"
_HEADER = ("level", "name", "questions", "accuracy", "standard error", "by token", "chance", "majority")


def add_ranking_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flag of rank classification."""
    parser.add_argument_group(
        "rank classification",
        "Which of a question's choices is the likeliest, as T0 (arXiv 2110.08207) is evaluated on tasks that it was "
        "not tuned on. --limit applies to each task; --output takes a table, ranks.csv, and every answer, ranks.jsonl. "
        "Several --model are compared with the first one, paired over questions.",
    ).add_argument(
        "--rank_file", action="append", default=[], type=Path, metavar="FILE",
        help="JSON lines of inputs, choices (a list) and targets (the right one, or its number from 0), and the names "
        "of their task, their cluster, and the item that several may be about (it counts once in errors); repeatable",
    )  # fmt: skip


def run_ranking(args: argparse.Namespace) -> dict[str, Any]:
    """Asks the questions of each model, prints a table of each, and what was trained on after all.

    Raises:
      UserError: a file or a model is missing or unsuitable, or a flag is out of range.
    """
    check_one_process(args)
    if args.limit is not None and args.limit < 1:
        raise UserError(f"--limit={args.limit}: expected at least 1")
    from triarch.evaluation.ranking import differences, read_questions

    questions = [question for file in args.rank_file for question in read_questions(file, args.limit)]
    names = model_names(args.model)
    if args.output is not None:
        make_folder(args.output)
    found: dict[str, list[Ranked]] = {}
    models = []
    for name, path in names.items():
        steps = chosen_steps(path, args.step)
        for step in steps:
            place = name if len(steps) == 1 else f"{name}, step {step}"
            print(f"==> {place}", flush=True)
            found[place], one = _asked(place, path, step, questions, args)
            models.append(one)
    first = next(iter(found))
    compared = {
        name: {cluster: {"gain": gain, "standard_error": error} for cluster, (gain, error) in gains.items()}
        for name, ranked in found.items()
        if name != first
        for gains in [differences(found[first], ranked)]
    }
    if compared:
        print(f"right more often than {first}, paired over questions:")
        rows = [
            (name, cluster, decimals(one["gain"]), decimals(one["standard_error"]))
            for name, clusters in compared.items()
            for cluster, one in clusters.items()
        ]
        print(aligned(("model", "cluster", "gain", "standard error"), rows, words=2))
    if args.output is not None:
        _write(args.output, models, found)
    return {
        "files": [str(file) for file in args.rank_file],
        "models": models,
        "compared_with": first,
        "gains": compared,
    }


def _asked(
    name: str, path: Path, step: int | None, questions: Sequence[Question], args: argparse.Namespace
) -> tuple[list[Ranked], dict[str, Any]]:
    from triarch.evaluation.ranking import rank, summarise
    from triarch.interchange import Placement
    from triarch.loading import load, tokenizer_of
    from triarch.progress import Progress

    model = load(path, step=step, placement=Placement.all_devices())
    if model.config.architecture == "encoder-only":
        raise UserError(f"{path}: an encoder has no likelihood of an answer: evaluate it with --tasks")
    tokenizer = tokenizer_of(model)
    with Progress(True) as progress:
        progress.start(name, sum(len(question.choices) for question in questions))
        ranked = rank(
            model,
            tokenizer,
            questions,
            batch_size=args.batch_size,
            max_length=args.max_length,
            done=progress.advance,
        )
    summaries = summarise(ranked)
    print("\n".join(_lines(summaries)), flush=True)
    overlap = _overlap(path, model, tokenizer, questions)
    return ranked, {
        **model_facts(name, model),
        **_costs(model, tokenizer, ranked),
        "path": str(path),
        "results": [dataclasses.asdict(one) for one in summaries],
        "trained_on": overlap,
    }


def _costs(model: LoadedModel, tokenizer: Any, ranked: Sequence[Ranked]) -> dict[str, Any]:
    """Returns whether a model was tuned on inputs and targets, how it reads inputs, and what reading a choice costs.

    The FLOPs are those of a forward pass over the mean number of tokens of the questions' inputs and choices.
    """
    from triarch.decoding import Conventions

    config = model.config
    lengths = [len(tokenizer.encode(one.question.inputs)) for one in ranked]
    choices = [count for one in ranked for count in one.tokens]
    inputs, choice = round(sum(lengths) / len(lengths)), round(sum(choices) / len(choices))
    sides = (inputs, choice) if config.architecture == "encoder-decoder" else (0, inputs + choice)
    return {
        "is_tuned": _is_supervised(model.origin.objective),
        "bidirectional_prompt": Conventions.of(model).bidirectional_prompt,
        "forward_flops_paper": config.flops(*sides, "paper"),
        "forward_flops_train": config.flops(*sides, "train", choice) / 3,
    }


def _is_supervised(objective: Any) -> bool:
    """Returns whether an objective, by its fields, or a part of it learns targets of inputs."""
    if isinstance(objective, Mapping):
        return objective.get("class") == "Supervised" or any(map(_is_supervised, objective.values()))
    return isinstance(objective, list | tuple) and any(map(_is_supervised, objective))


def _lines(summaries: Sequence[Summary]) -> list[str]:
    measures = ("accuracy", "standard_error", "accuracy_by_token", "chance", "majority")
    rows = [
        (one.level, one.name, f"{one.num_examples:,}", *(decimals(getattr(one, name)) for name in measures))
        for one in summaries
    ]
    return aligned(_HEADER, rows, words=2).splitlines()


def _overlap(path: Path, model: LoadedModel, tokenizer: Any, questions: Sequence[Question]) -> dict[str, Any]:
    """Returns, and warns of, what of the questions a run was trained on: tasks of such names, and equal inputs."""
    from triarch.evaluation.overlap import Trained

    prompts: dict[str, list[str]] = {}
    for question in questions:
        prompts.setdefault(question.task, []).append(question.inputs)
    trained, end = Trained.of(path, prompts), model.known_vocabulary["special"]["eos"]
    found = {task: trained.equal_inputs(own, tokenizer, end) for task, own in prompts.items()}
    equal = {task: count for task, count in found.items() if count}
    warn(path, trained.tasks, equal)
    return {"tasks": trained.tasks, "equal_inputs": equal}


def warn(path: Path, tasks: dict[str, list[str]], equal: dict[str, int]) -> None:
    """Says on stderr what is evaluated and was trained on after all."""
    for task, trained in tasks.items():
        shown = ", ".join(trained[:3]) + (", ..." if len(trained) > 3 else "")
        print(f"warning: {path} was trained on {shown}, and {task} is evaluated", file=sys.stderr)
    for task, count in equal.items():
        print(f"warning: {path} was trained on the very inputs of {count:,} questions of {task}", file=sys.stderr)


def _write(output: Path, models: Sequence[dict[str, Any]], found: dict[str, list[Ranked]]) -> None:
    from triarch.evaluation.ranking import as_row

    rows = [
        {name: value for name, value in model.items() if name not in ("results", "path", "trained_on")} | result
        for model in models
        for result in model["results"]
    ]
    write_table(output / RANKS, rows)
    answers = [
        {"model": name, **as_row(one, number)} for name, ranked in found.items() for number, one in enumerate(ranked)
    ]
    write_whole(output / ANSWERS, "".join(json.dumps(row) + "\n" for row in answers))
