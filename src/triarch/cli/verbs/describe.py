"""`triarch describe`: what a model or run is and costs, before anything is computed."""

from __future__ import annotations

import argparse
import dataclasses
import math
from typing import TYPE_CHECKING

from triarch.cli.gin import files as gin_files
from triarch.cli.gin import keys as gin_keys
from triarch.cli.views import published
from triarch.cli.views.describe_study import describe_study
from triarch.cli.views.text_table import aligned
from triarch.errors import UserError

if TYPE_CHECKING:
    from triarch.training.config import RunConfig

# Parameters, gradients and what optimizers keep are float32 throughout.
_FLOAT32 = 4
HELP = """Prints parameters, FLOPs, memory and the resolved config of a model or run; or the runs of a study.

A model file alone (models/FAMILY/SIZE.gin) is completed with that family's published recipe. A study's file gives its
runs, what each costs in FLOPs and, with --topology, in chip-hours, and how exactly they are matched."""
EXAMPLE = """  triarch describe --gin_file=models/redllm/8b.gin
  triarch describe --gin_file=runs/decllm.gin --gin_file=models/decllm/1b.gin --gin.RunConfig.batch_size=512
  triarch describe --gin_file=experiments/isoflop_laptop/study.gin
  triarch describe --gin_file=experiments/redllm_vs_decllm/paper.gin --topology=v5p:4x4x4 --mfu=0.4
  triarch describe --gin_file=runs/ettin/encoder_150m.gin --phase=extension
  triarch describe --published
  triarch describe --keys RunConfig"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this verb."""
    gin_files.add_gin_arguments(parser)
    parser.add_argument(
        "--published", action="store_true", help="instead, compare the counts of all published sizes with their sources"
    )
    parser.add_argument(
        "--keys",
        nargs="?",
        const="",
        metavar="CLASS",
        help="instead, list what gin files and --gin flags can set, of one class or of all: type, default and meaning",
    )
    parser.add_argument("--topology", metavar="SLICE", help="of a study: count chip-hours on it, such as v5p:4x4x4")
    parser.add_argument(
        "--mfu", type=float, default=0.4, help="share of the chips' peak that is assumed (default: %(default)s)"
    )
    parser.add_argument("--phase", metavar="NAME", help="of a run in phases: describe this one alone")
    parser.add_argument("--config", action="store_true", help="also print the resolved config")


def run(args: argparse.Namespace) -> dict:
    """Prints the description; returns it."""
    if args.published:
        rows = published.table()
        print("\n".join(published.lines(rows)))
        return {"models": rows}
    if args.keys is not None:
        found = gin_keys.list_keys(args.keys)
        print("\n".join(gin_keys.lines(found)))
        return {"keys": [dataclasses.asdict(key) for key in found]}
    if gin_files.binds("Study", args.gin_file, args.gin_bindings):
        return describe_study(args.gin_file, args.gin_bindings, args.module, args.topology, args.mfu)
    if args.topology:
        raise UserError("--topology is for the gin file of a study; `triarch plan` compiles one run for a slice")
    config, text = gin_files.load_run(args)
    if args.phase is not None:
        from triarch.training.phases.stages import of_phase

        config = of_phase(config, args.phase)
        text = gin_files.render(config)
    described = describe_phases(config) if config.phases else describe(config)
    for line in phase_table(described) if config.phases else _lines(described):
        print(line)
    if args.config:
        print(f"\n{text}", end="")
    return {**described, "config": text}


def describe_phases(config: RunConfig) -> dict:
    """Returns `describe` of each phase of a run, by name, and their sums; the rest is the last one's."""
    from triarch.training.config import validate
    from triarch.training.phases.stages import of_phase, stages

    validate(config)
    phases = {phase.name: describe(of_phase(config, phase.name)) for phase in config.phases}
    for name, described in phases.items():
        own = [stage for stage in stages(config) if stage.phase == name]
        # A phase counts full batches by itself; in the run it has its smaller ones.
        described["steps"] = own[-1].end - own[0].first_step
        described["tokens"] = sum((one.end - one.first_step) * one.config.batch_size for one in own) * (
            own[-1].config.data.window
        )
    last = list(phases.values())[-1]
    flops = {
        convention: sum(one["flops_per_run"][convention] for one in phases.values())
        for convention in ("paper", "train")
    }
    sums = {key: sum(one[key] for one in phases.values()) for key in ("steps", "tokens")}
    return {**last, **sums, "flops_per_run": flops, "phases": phases}


def phase_table(described: dict) -> list[str]:
    """Returns the description of a run in phases as a table."""
    header = ("phase", "objective", "lengths", "batch", "steps", "tokens", "FLOPs (train)")
    rows = [
        (
            name,
            one["objective"],
            " + ".join(f"{length:,} {side}" for side, length in one["sequence_lengths"].items()),
            f"{one['batch_size']:,}",
            f"{one['steps']:,}",
            f"{one['tokens']:,}",
            f"{one['flops_per_run']['train']:.4g}",
        )
        for name, one in described["phases"].items()
    ]
    total = ("all", "", "", "", f"{described['steps']:,}", f"{described['tokens']:,}")
    rows.append((*total, f"{described['flops_per_run']['train']:.4g}"))
    parameters = f"{described['num_params']:,} parameters, {described['architecture']}"
    return [parameters, *aligned(header, rows, words=3).splitlines(), "--phase=NAME describes one phase"]


def describe(config: RunConfig) -> dict:
    """Returns facts about a run that follow from its config alone; bytes are of the whole state, over all devices."""
    from triarch.training.config import validate

    validate(config)
    model = config.model
    objective = config.bound()
    flops = {convention: objective.flops(model, convention) for convention in ("paper", "train")}
    sequences = config.steps * config.batch_size
    return {
        "architecture": model.architecture,
        "num_params": model.num_params(),
        "num_params_non_embedding": model.num_params_non_embedding(),
        "num_params_active": model.num_params_active(),
        "flops_per_sequence": flops,
        "flops_per_run": {convention: value * sequences for convention, value in flops.items()},
        "objective": config.objective.name,
        "sequence_lengths": objective.lengths,
        "scored_tokens_per_sequence": objective.num_scored,
        "steps": config.steps,
        "batch_size": config.batch_size,
        "tokens": sequences * config.data.window,
        "memory_bytes": _memory_bytes(config),
    }


def _memory_bytes(config: RunConfig) -> dict[str, int]:
    """Returns the bytes of a state's parts; an optimizer's counters of updates, a few bytes each, are left out."""
    objective = config.bound()
    numbers = getattr(config.optimizer, "numbers_per_parameter", None)
    trains_all = config.adapter is None and not config.train_only and not config.frozen
    if objective.make_head is None and numbers is not None and trains_all:
        all_params = _FLOAT32 * config.model.num_params()
        return {"parameters": all_params, "optimizer_state": numbers * all_params, "gradients": all_params}
    # Importing what builds a network takes most of a second.
    import jax

    from triarch.models.network import unflatten
    from triarch.training.networks import run_network
    from triarch.training.optimizers.optimizer import build

    network = run_network(config, objective.make_head)
    params = jax.tree.map(lambda spec: spec.struct, unflatten(network.specs))
    trained = network.trained(params)
    state = jax.eval_shape(build(config.optimizer, config.steps, network.trained_specs).init, trained)
    return {"parameters": _bytes(params), "optimizer_state": _bytes(state), "gradients": _bytes(trained)}


def _bytes(tree) -> int:
    import jax

    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree) if leaf.shape)


def _lines(described: dict) -> list[str]:
    memory = described["memory_bytes"]
    lengths = " + ".join(f"{length} {side}" for side, length in described["sequence_lengths"].items())
    is_sparse = described["num_params_active"] < described["num_params"]
    active = f", {described['num_params_active']:,} of a token" if is_sparse else ""
    per_sequence, per_run = described["flops_per_sequence"], described["flops_per_run"]
    return [
        f"architecture       {described['architecture']}, {described['objective']} on {lengths} tokens",
        f"parameters         {described['num_params']:,} ({described['num_params_non_embedding']:,} without embedding"
        f"{active})",
        f"FLOPs a sequence   {per_sequence['paper']:.4g} paper, {per_sequence['train']:.4g} train",
        f"FLOPs a run        {per_run['paper']:.4g} paper, {per_run['train']:.4g} train",
        f"run                {described['steps']:,} steps of {described['batch_size']:,} sequences: "
        f"{described['tokens']:,} tokens read",
        f"memory, all devices {_gib(memory['parameters'])} parameters + {_gib(memory['optimizer_state'])} optimizer "
        f"+ {_gib(memory['gradients'])} gradients, before activations",
        "paper: forward only, full attention square, one-hot embedding; train: forward and backward, masked pairs free",
    ]


def _gib(count: int) -> str:
    return f"{count / 2**30:.3g} GiB"
