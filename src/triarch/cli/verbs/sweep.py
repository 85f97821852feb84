"""`triarch sweep`: a study from text to tables."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from triarch.cli import label_suites
from triarch.cli.fleets import check_fleet_flags, chosen_runs, open_fleet, run_fleet
from triarch.cli.gin import files as gin_files
from triarch.cli.gin.files import add_binding_argument
from triarch.cli.outputs import check_file, check_folder
from triarch.errors import UserError
from triarch.files import write_whole

if TYPE_CHECKING:
    from triarch.data.store import TokenStore
    from triarch.sweeps.design import PlannedRun
    from triarch.sweeps.stages import Stage
    from triarch.sweeps.study import Study

HELP = """Runs every run of a study: prepares its text, then trains, evaluates and exports each model.

What is finished stays finished: a sweep that was interrupted or killed resumes when the same command is given again. A
study may change: runs are known by what they compute, whatever they are called, so that another size, rate or seed
trains only what is new, and evaluations are made anew where settings, text or measures changed. A run that fails is
tried again, as often as Study.attempts says. Several sweeps of one study may run at once, in one folder, and share its
runs. --commands writes the commands for a fleet of machines instead of running them. --fleet hands the runs to SLURM,
Kueue or Ray, one machine a run, all on one shared file system, and watches them: what is lost with its machine is
handed in again, and the same command watches runs that were handed in before. --fleet_option is, for slurm, an option
of sbatch (partition=tpu, time=24:00:00); for kueue image, claim (the persistent volume), mount, queue, namespace,
accelerator (v5e-8), spot, cpu, memory; for ray address, cpus, gpus, resources (TPU=4), program. `triarch describe
--gin_file=STUDY` says what the runs are and cost. A size named in Study.sizes is a file FAMILY/SIZE.gin beside the
study or, failing that, models/FAMILY/SIZE.gin; Study.settings is looked for beside the study too. Modules named in
Study.modules must be named with --module as well: a gin file imports nothing.

A file that describes a LabelSuite (suites/glue.gin, suites/glue_grid.gin) tunes models on labelled tasks over rates,
epochs and seeds, and prints mean and spread over seeds."""
EXAMPLE = """  triarch sweep --study=experiments/redllm_vs_decllm/laptop.gin --output=runs/laptop
  triarch sweep --study=suites/glue.gin --gin.LabelSuite.data=glue --gin.LabelSuite.models="('exports/modernbert',)" \\
      --output=runs/glue
  triarch sweep --study=study.gin --output=/shared/study --fleet=slurm --fleet_option=partition=tpu
  triarch sweep --study=experiments/redllm_vs_decllm/paper.gin --output=gs://bucket/paper --commands=paper.sh"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this verb."""
    parser.add_argument("--study", required=True, metavar="FILE", help="gin file that describes the study")
    add_binding_argument(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for everything the study makes")
    parser.add_argument("--parallel", type=int, metavar="N", help="runs at a time; the study's own number by default")
    parser.add_argument(
        "--train_changed", action="store_true",
        help="where a run's config changed under its name, train it beside the run that is there",
    )  # fmt: skip
    parser.add_argument("--runs", metavar="NAME,...", help="only these runs of the study")
    parser.add_argument("--commands", metavar="FILE", help="write the commands here, one a line, and run nothing")
    parser.add_argument("--fleet", metavar="ENGINE", help="hand the runs to slurm, kueue or ray, and watch them there")
    parser.add_argument(
        "--fleet_option", action="append", default=[], metavar="NAME=VALUE", help="of the engine; repeatable"
    )
    parser.add_argument(
        "--fleet_poll", type=float, default=15.0, metavar="SECONDS", help="between looks at the engine; 15 by default"
    )
    parser.add_argument("--detach", action="store_true", help="with --fleet: return once the runs are handed in")


def run(args: argparse.Namespace) -> dict:
    """Runs the study, or writes its commands; returns where the results are."""
    from triarch.cli.studies import check_study, load_study
    from triarch.sweeps import stages

    if args.parallel is not None and args.parallel < 1:
        raise UserError(f"--parallel={args.parallel}: expected a whole number from 1 on")
    if args.commands:
        check_file("commands", args.commands)
    check_folder("output", args.output)
    check_fleet_flags(args)
    gin_files.parse([args.study], args.gin_bindings)
    if gin_files.is_bound(f"{label_suites.SUITE}.tasks"):
        if args.fleet or args.runs:
            raise UserError(
                f"--{'fleet' if args.fleet else 'runs'}: a suite of labelled tasks runs on this machine, whole"
            )
        return label_suites.run(args)
    study, runs = load_study([args.study], args.gin_bindings, args.module)
    output = Path(args.output)
    prepare = _with_modules(stages.prepare_stages(study, output), args)
    # Cheap runs first: what there is to see is seen early.
    runs = tuple(sorted(runs, key=lambda run: run.flops("train")))
    chosen = chosen_runs(args.runs, [run.name for run in runs])
    if args.commands:
        found = check_study(study, runs, None)
        found.refuse()
        _say(found.notes)
        chains = {
            run.name: _with_modules(stages.run_stages(study, run, output), args) for run in runs if run.name in chosen
        }
        return _write_commands(args.commands, prepare, chains)
    check_study(study, runs, output).refuse()
    return _run(study, runs, chosen, prepare, output, args)


def _with_modules(chain: Sequence[Stage], args: argparse.Namespace) -> list[Stage]:
    named = tuple(f"--module={name}" for name in args.module)
    return [stage.with_flags(named) for stage in chain]


def _say(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"note: {note}")


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


def _run(
    study: Study,
    runs: Sequence[PlannedRun],
    chosen: Collection[str],
    prepare: list[Stage],
    output: Path,
    args: argparse.Namespace,
) -> dict:
    from triarch.cli.studies import check_study
    from triarch.cli.views.sweep_table import SweepTable
    from triarch.data.store import TokenStore
    from triarch.sweeps import identity, runner, stages, tables
    from triarch.sweeps.ledger import Ledger
    from triarch.sweeps.workers import Worker

    _make_folder(output)
    engine = open_fleet(args, output)
    ledger = Ledger(output / "ledger.jsonl")

    def sweep(title: str, work: dict, chains: dict, parallel: int) -> None:
        def worker(cores: set[int]) -> Worker:
            return Worker(cores, stages.compilation_cache(output))

        with SweepTable(title, output) as table:
            runner.Sweep(parallel, study.attempts, ledger, output / "claims", worker, table.show).run(chains, work)

    if prepare:
        sweep("preparing text", {"text": 1.0}, {"text": prepare}, 1)
    found = check_study(study, runs, output)
    found.refuse()
    _say(found.notes)
    store = TokenStore.open(stages.store_folder(study.corpora[0], output))
    runs = identity.settled(runs, output / "runs", [store], args.train_changed)
    made_with = _made_with(study, runs, store, output)
    every = {run.owner: _with_modules(stages.run_stages(study, run, output, made_with[run.name]), args) for run in runs}
    names = {run.owner: run.name for run in runs if run.name in chosen}
    chains = {owner: chain for owner, chain in every.items() if owner in names}
    parallel = args.parallel or study.parallel
    done = sum(all(stage.done for stage in chain) for chain in chains.values())
    trained = sum(chain[0].done for chain in chains.values())
    left = (trained - done, len(chains) - trained)
    title = f"{len(chains)} runs: {done} finished, {left[0]} to evaluate or export, {left[1]} to train"
    try:
        work = {run.owner: run.flops("train") for run in runs if run.name in chosen}
        if engine is None:
            sweep(f"{title}; {parallel} at a time", work, chains, parallel)
        else:
            with SweepTable(f"{title}; by {engine.name}", output) as table:
                run_fleet(engine, args, study.attempts, ledger, table.show, chains, names, work)
    finally:
        tables.write_tables(study, runs, output, made_with)
    seconds, elapsed = sum(ledger.seconds().values()), ledger.elapsed()
    times = {"seconds": seconds, "elapsed": elapsed}
    _describe(study, runs, prepare, every, made_with, output, times)
    whole = all(stage.done for chain in every.values() for stage in chain)
    ending = "study finished" if whole else "the rest of the study is still to come" if not args.detach else "handed in"
    print(f"\n{ending}; its stages took {elapsed:.0f} s, {seconds:.0f} s added up, all attempts together")
    print(f"tables:  {output / 'results.csv'}  {output / 'evaluations.csv'}, and the same as .parquet")
    exports = [str(stages.export_folder(run, output)) for run in runs] if study.exports else []
    if exports:
        print(f"exports: {output / 'exports'}/ ({', '.join(run.owner for run in runs)})")
    return {"output": str(output), "runs": [run.name for run in runs], "exports": exports, **times}


def _made_with(study: Study, runs: Sequence[PlannedRun], store: TokenStore, output: Path) -> dict[str, dict]:
    """Returns what the evaluation of each run has to be made with, by the run's name."""
    from triarch.evaluation import made_with
    from triarch.sweeps import identity, stages
    from triarch.training.record.fingerprint import checkpoint_id

    domains, options = stages.domains(study, output), stages.evaluation_options(study)
    return {
        run.name: made_with(checkpoint_id(identity.fingerprint_of(run, [store]), run.config.steps), domains, options)
        for run in runs
    }


def _make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"--output={output}: a file stands where the folder should be") from error


def _describe(
    study: Study,
    runs: Sequence[PlannedRun],
    prepare: list,
    chains: dict,
    made_with: dict,
    output: Path,
    times: dict[str, float],
) -> None:
    """Writes `study.json`, which the report reads: what was run, and what made every run's numbers."""
    stages = [*prepare, *(stage for chain in chains.values() for stage in chain)]
    described = {
        "name": output.name,
        "title": study.title,
        "question": study.question,
        "labels": dict(zip(study.families, study.labels, strict=True)),
        "commands": [stage.command for stage in stages],
        **times,
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "made_with": {run.name: made_with[run.name] for run in runs},
    }
    write_whole(output / "study.json", json.dumps(described, indent=2) + "\n")
