"""`triarch sweep`: a study from text to tables."""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

from triarch.cli.gin_files import add_binding_argument
from triarch.cli.outputs import check_file, check_folder
from triarch.errors import UserError
from triarch.files import write_whole

HELP = """Runs every run of a study: prepares its text, then trains, evaluates and exports each model.

What is finished stays finished: a sweep that was interrupted or killed goes on where it was when the same command is
given again. A run that fails is tried again, as often as Study.attempts says. Several sweeps of one study may run at
once, in one folder, and share its runs. --commands writes the commands for a fleet of machines instead of running them;
`triarch describe --gin_file=STUDY` says what the runs are and cost. A size named in Study.sizes is a file
FAMILY/SIZE.gin beside the study or, failing that, models/FAMILY/SIZE.gin; Study.settings is looked for beside the
study too. Modules named in Study.modules must be named with --module as well: a gin file imports nothing."""
EXAMPLE = """  triarch sweep --study=experiments/redllm_vs_decllm/laptop.gin --output=runs/laptop
  triarch sweep --study=experiments/redllm_vs_decllm/paper.gin --output=gs://bucket/paper --commands=paper.sh"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this verb."""
    parser.add_argument("--study", required=True, metavar="FILE", help="gin file that describes the study")
    add_binding_argument(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for everything the study makes")
    parser.add_argument("--parallel", type=int, metavar="N", help="runs at a time; the study's own number by default")
    parser.add_argument("--commands", metavar="FILE", help="write the commands here, one a line, and run nothing")


def run(args: argparse.Namespace) -> dict:
    """Runs the study, or writes its commands; returns where the results are."""
    from triarch.cli.studies import load_study
    from triarch.sweeps import stages

    if args.parallel is not None and args.parallel < 1:
        raise UserError(f"--parallel={args.parallel}: expected a whole number from 1 on")
    if args.commands:
        check_file("commands", args.commands)
    check_folder("output", args.output)
    study, runs = load_study([args.study], args.gin_bindings, args.module)
    output = Path(args.output)
    prepare = stages.prepare_stages(study, output)
    # Cheap runs first: what there is to see is seen early.
    runs = sorted(runs, key=lambda run: run.flops("train"))
    chains = {run.name: stages.run_stages(study, run, output) for run in runs}
    named = tuple(f"--module={name}" for name in args.module)
    prepare = [stage.with_flags(named) for stage in prepare]
    chains = {owner: [stage.with_flags(named) for stage in chain] for owner, chain in chains.items()}
    if args.commands:
        return _write_commands(args.commands, prepare, chains)
    return _run(study, runs, prepare, chains, output, args.parallel or study.parallel)


def _write_commands(path: str, prepare: list, chains: dict) -> dict:
    lines = [stage.command for stage in prepare]
    # One line a run, so that a fleet can take lines independently once the text is prepared.
    lines += [" && ".join(stage.command for stage in chain) for chain in chains.values()]
    try:
        write_whole(Path(path), "\n".join(lines) + "\n")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise UserError(f"--commands={path}: {error.strerror}") from error
    print(
        f"wrote {len(lines)} commands to {path}: {len(prepare)} to prepare text, then one for each of "
        f"{len(chains)} runs"
    )
    return {"commands": path, "num_runs": len(chains)}


def _run(study, runs, prepare: list, chains: dict, output: Path, parallel: int) -> dict:
    from triarch.cli.views.sweep_table import SweepTable
    from triarch.sweeps import runner, tables
    from triarch.sweeps.ledger import Ledger
    from triarch.sweeps.stages import compilation_cache, run_folder
    from triarch.sweeps.workers import Worker
    from triarch.training.fingerprint import changes

    _make_folder(output)
    for run in runs:
        if changed := changes(run_folder(run, output), run.config):
            raise UserError(
                f"{run_folder(run, output)} holds a run under another config ({'; '.join(changed)}): choose another "
                "--output, delete that run, or set these back"
            )
    ledger = Ledger(output / "ledger.jsonl")

    def sweep(title: str, work: dict, stages: dict, parallel: int) -> None:
        def worker(cores: set[int]) -> Worker:
            return Worker(cores, compilation_cache(output))

        with SweepTable(title, output) as table:
            runner.Sweep(parallel, study.attempts, ledger, output / "claims", worker, table.show).run(stages, work)

    if prepare:
        sweep("preparing text", {"text": 1.0}, {"text": prepare}, 1)
    try:
        work = {run.name: run.flops("train") for run in runs}
        sweep(f"{len(runs)} runs, {parallel} at a time", work, chains, parallel)
    finally:
        tables.write_tables(runs, output)
    seconds = sum(ledger.seconds().values())
    _describe(study, prepare, chains, output, seconds)
    print(f"\nstudy finished; its stages took {seconds:.0f} s one after another, all attempts together")
    print(f"tables:  {output / 'results.csv'}  {output / 'evaluations.csv'}, and the same as .parquet")
    exports = [str(output / "exports" / run.name) for run in runs] if study.exports else []
    if exports:
        print(f"exports: {output / 'exports'}/ ({', '.join(run.name for run in runs)})")
    return {"output": str(output), "runs": [run.name for run in runs], "exports": exports, "seconds": seconds}


def _make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"--output={output}: a file stands where the folder should be") from error


def _describe(study, prepare: list, chains: dict, output: Path, seconds: float) -> None:
    """Writes `study.json`, which the report reads."""
    stages = [*prepare, *(stage for chain in chains.values() for stage in chain)]
    described = {
        "name": output.name,
        "title": study.title,
        "question": study.question,
        "labels": dict(zip(study.families, study.labels, strict=True)),
        "commands": [stage.command for stage in stages],
        "seconds": seconds,
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
    }
    write_whole(output / "study.json", json.dumps(described, indent=2) + "\n")
