"""`triarch sweep` of a `LabelSuite`: models tuned on labelled tasks, and a table of mean and spread over seeds."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch.cli.gin import files as gin_files
from triarch.errors import UserError
from triarch.files import write_whole

if TYPE_CHECKING:
    from triarch.sweeps.stages import Stage
    from triarch.sweeps.tuning.grid import TuningRun
    from triarch.sweeps.tuning.scores import SuiteTables
    from triarch.sweeps.tuning.suite import LabelSuite, LabelTask

SUITE = "LabelSuite"
MANIFEST = "suite.json"
# What a later sweep into the same folder may have more or less of.
_GRID = ("learning_rates", "weight_decays", "epochs", "metrics")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Tunes what is not tuned yet, and returns the tables; the study's gin is parsed already.

    Raises:
      UserError: the suite cannot be run, --output holds another one, or runs failed (each reason is named).
    """
    from triarch.cli.views.sweep_table import SweepTable
    from triarch.sweeps import runner, stages
    from triarch.sweeps.ledger import Ledger
    from triarch.sweeps.tuning import grid, scores
    from triarch.sweeps.workers import Worker

    for flag in ("fleet", "runs"):
        if getattr(args, flag):
            raise UserError(f"--{flag} is for a Study: a LabelSuite runs here, and LabelSuite.only narrows it")
    if args.commands:
        raise UserError(
            "--commands: later runs of a suite begin from the best of earlier ones: run it with --output alone"
        )
    suite: LabelSuite = gin_files.build(SUITE)
    gin_files.refuse_flags_without_effect()
    suite.validate()
    _check_files(suite)
    output = Path(args.output)
    _begin(suite, output)
    vocabularies = _describe_models(suite, output)
    parallel = args.parallel or suite.parallel
    ledger = Ledger(output / "ledger.jsonl")
    named = tuple(f"--module={name}" for name in args.module)

    def sweep(title: str, chains: Mapping[str, Sequence[Stage]], work: Mapping[str, float], parallel: int) -> None:
        def worker(cores: set[int]) -> Worker:
            return Worker(cores, stages.compilation_cache(output))

        flagged = {owner: [stage.with_flags(named) for stage in chain] for owner, chain in chains.items()}
        with SweepTable(title, output) as table:
            runner.Sweep(parallel, suite.attempts, ledger, output / "claims", worker, table.show).run(flagged, work)

    prepare = [
        grid.prepare_stage(suite, output, model, task, vocabularies[model])
        for model in suite.named
        for task in suite.chosen
    ]
    sweep("preparing texts", {one.owner: [one] for one in prepare}, {one.owner: 1.0 for one in prepare}, 1)
    rounds = [list(grid.tuning_runs(suite, later)) for later in (False, True)]
    every = [run for one in rounds for run in one]
    try:
        for number, runs in enumerate(rounds, 1):
            if runs:
                chains, work = _chains(suite, runs, output, scores.scores_by_setting(rounds[0], output))
                done = sum(all(stage.done for stage in chain) for chain in chains.values())
                title = f"round {number}: {len(runs)} runs, {done} finished; {parallel} at a time"
                sweep(title, chains, work, parallel)
    finally:
        tables = scores.suite_tables(every, output)
        _write_tables(tables, output)
    print(_shown(suite, tables))
    print(f"tables: {output / 'runs.csv'}, {output / 'settings.csv'} and {output / 'scores.csv'}")
    return {"output": str(output), "runs": [run.name for run in every], **dataclasses.asdict(tables)}


def _check_files(suite: LabelSuite) -> None:
    """Raises UserError for a file, a recipe or a model that is not there, before anything is made."""
    files = dict.fromkeys(Path(suite.data) / file for task in suite.chosen for file in task.files.values())
    missing = [file for file in files if not file.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(
            f"LabelSuite.data = {suite.data!r}: no file {missing[0]}{more} (LabelSuite.only names the tasks to run)"
        )
    for file in (*(task.recipe for task in suite.chosen), *((suite.settings,) if suite.settings else ())):
        gin_files.find(file)


def _begin(suite: LabelSuite, output: Path) -> None:
    """Makes the folder and says in it what its runs are made of, or makes sure that they are made of the same.

    Raises:
      UserError: the folder holds the runs of another suite.
    """
    from triarch import schema
    from triarch.schema import Anything, MapOf

    made_of: dict[str, Any] = {
        "data": os.path.abspath(suite.data),
        "window": suite.window,
        "warmup_fraction": suite.warmup_fraction,
        "evaluations": suite.evaluations,
        "settings": gin_files.find(suite.settings).read_text(encoding="utf-8") if suite.settings else "",
        "models": {label: os.path.abspath(model) for label, model in suite.named.items()},
        "tasks": {task.name: _lasting(task) for task in suite.chosen},
    }
    path = output / MANIFEST
    try:
        output.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"--output={output}: a file stands where the folder should be") from error
    if path.exists():
        there = schema.read(path, MapOf(Anything(), least=1))
        for name, value in made_of.items():
            old = there.get(name)
            if name in ("models", "tasks") and isinstance(old, dict):
                differ = [key for key in value if key in old and old[key] != value[key]]
                made_of[name] = {**old, **value}
            else:
                differ = [name] * (old != value)
            if differ:
                what = f"{name} {differ[0]}" if differ[0] != name else name
                raise UserError(f"{output}: its runs were made with another {what}: choose another --output")
    elif any(output.iterdir()):
        raise UserError(f"{output}: holds other files: choose another --output")
    write_whole(path, json.dumps({"title": suite.title, **made_of}, indent=1) + "\n")


def _lasting(task: LabelTask) -> dict[str, Any]:
    """Returns what decides a task's runs but for the grid, as JSON holds it."""
    fields = {name: value for name, value in dataclasses.asdict(task).items() if name not in _GRID}
    return dict(json.loads(json.dumps(fields)))


def _describe_models(suite: LabelSuite, output: Path) -> dict[str, str]:
    """Writes the gin file of each model's network, makes the folder of results, and returns where vocabularies are.

    Raises:
      UserError: there is no such model, or it has no vocabulary.
    """
    from triarch.loading import open_stored
    from triarch.prepare.vocabulary_choice import BYTES
    from triarch.sweeps.tuning import grid

    for name in ("models", "results"):
        (output / name).mkdir(exist_ok=True)
    found = {}
    for label, path in suite.named.items():
        model = open_stored(path)
        write_whole(grid.model_file(output, label), gin_files.render(model.config))
        if model.vocabulary is None:
            raise UserError(f"LabelSuite.models: {path} does not say which vocabulary it was trained on")
        found[label] = BYTES if model.vocabulary["kind"] == BYTES else str(model.vocabulary_files or path)
    return found


def _chains(
    suite: LabelSuite,
    runs: Sequence[TuningRun],
    output: Path,
    found: Mapping[tuple[str, ...], Mapping[int, float]],
) -> tuple[dict[str, list[Stage]], dict[str, float]]:
    """Returns the stages of each run, and its work, sequences read."""
    from triarch.cli.studies import run_config
    from triarch.data.manifest import read_manifest
    from triarch.sweeps.tuning import grid

    chains, work = {}, {}
    for run in runs:
        store = grid.store_folder(output, run.model, run.task)
        told = ("RunConfig.steps=1", f"DataConfig.store={str(store)!r}", f"DataConfig.window={suite.window}")
        config: Any = run_config(grid.gin_files(suite, output, run.model, run.task), told)
        rows = read_manifest(store).splits["train"].examples
        begins = grid.beginning(suite, run, output, found)
        chains[run.name] = grid.run_stages(suite, run, output, config, rows, begins)
        work[run.name] = float(grid.num_steps(rows, run.epochs, config.batch_size) * config.batch_size)
    return chains, work


def _write_tables(tables: SuiteTables, output: Path) -> None:
    from triarch.sweeps.tuning import scores

    columns = {"runs": scores.RUN_COLUMNS, "settings": scores.SETTING_COLUMNS, "scores": scores.SCORE_COLUMNS}
    for name, names in columns.items():
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(getattr(tables, name))
        write_whole(output / f"{name}.csv", text.getvalue())


def _shown(suite: LabelSuite, tables: SuiteTables) -> str:
    """Returns the best setting of each task and the scores, in percent, for a terminal."""
    from triarch.cli.views.text_table import aligned
    from triarch.sweeps.tuning.suite import METRICS

    def cell(mean: float | None, spread: float | None) -> str:
        if mean is None:
            return "-"
        return f"{100 * mean:.2f}" + ("" if spread is None else f" ± {100 * spread:.2f}")

    facts = ("model", "task", "rate", "decay", "epochs", "seeds")
    header = (*facts, "score", *METRICS)
    rows = [
        (
            *(str(row[name]) for name in ("model", "task", "learning_rate", "weight_decay", "epochs", "seeds")),
            cell(row["score"], row["spread"]),
            *(cell(row[metric], row[f"{metric}_spread"]) for metric in METRICS),
        )
        for row in tables.settings
        if row["chosen"]
    ]
    title = f"{suite.title}: mean ± standard deviation over seeds, of the best setting of each task"
    lines = [title, aligned(header, rows, 2)]
    for row in tables.scores:
        score = cell(row["score"], row["spread"])
        lines.append(f"{row['model']}: {score} over {row['tasks']} tasks, {row['seeds']} seeds")
    return "\n".join(lines)
