"""`triarch plan`: whether a run fits a TPU slice and what it would cost there, by the TPU compiler itself."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch.cli.gin import files as gin_files
from triarch.cli.outputs import check_file
from triarch.errors import UserError, brief

if TYPE_CHECKING:
    from triarch.planning import Lengths, Plan, Topology
    from triarch.planning.compiler import Effort
    from triarch.planning.plan import Keep, Say
    from triarch.planning.search import Trial
    from triarch.training import RunConfig

HELP = """Compiles the true training step for a TPU slice that need not be at hand; reports memory, FLOPs and traffic.

A model file alone (models/FAMILY/SIZE.gin) is completed with that family's published recipe. Mesh, remat policy and
gather are chosen for the slice, as they will be in training, unless the config says (--gin.MeshConfig.fsdp=64,
--gin.Execution.remat=full). --search compiles what is promising by arithmetic, best first, for --search_seconds, and
takes the fastest that fits. --program plans evaluation, or generation: the reading of prompts, or the writing of a
token a row.

The compiler is stopped where instructions and buffers are settled: they are the run's own, and so are FLOPs and
traffic; memory is all that is reserved for buffers. --full goes on to machine code, most of a compilation's time, and
tells that it can be made and the most memory in use at once, some per cent less than is reserved. Needs libtpu (pip
install 'triarch[tpu]'), but no TPU. Times are roofline estimates from data sheets, not measurements."""
EXAMPLE = """  triarch plan --gin_file=models/decllm/1b.gin --topology=v5p-128 --batch_size=2048 --search
  triarch plan --gin_file=models/decllm/8b.gin --topology=v5e:4x4 --program=decode --batch_size=64 \\
      --prompt_length=2048 --new_tokens=512 --gin.MeshConfig.tensor=16 --gin.MeshConfig.data=1
  triarch plan --gin_file=runs/ettin/encoder_1b.gin --phase=extension --topology=v5p:4x4x4
  triarch plan --gin_file=models/redllm/8b.gin --topology=v4:4x4x8 --batch_size=512 --json=plan.json"""
_LEAST_SECONDS = 60.0  # That a search gives the compiler for one program.
# Nothing runs here, and no accelerator that may be present is taken: in place before jax is imported.
ENVIRONMENT = {"JAX_PLATFORMS": "cpu"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
    gin_files.add_gin_arguments(parser)
    add = parser.add_argument
    add("--topology", required=True, metavar="SLICE", help="v4, v5e, v5p or v6e: v5p:4x4x4, or Google's name, v5p-128")
    add("--slices", type=int, default=1, help="number of slices, joined by the data-centre network (default: 1)")
    add("--phase", metavar="NAME", help="of a run in phases, which one, with full batches")
    add("--batch_size", type=int, help="sequences a step over all devices, in place of RunConfig.batch_size")
    add(
        "--program",
        default="train",
        choices=("train", "evaluate", "prefill", "decode"),
        help="which step; prefill reads prompts, decode writes a token for each of them (default: %(default)s)",
    )
    add("--prompt_length", type=int, help="tokens of a prompt (default: DataConfig.window)")
    add("--new_tokens", type=int, default=128, help="the cache has room for after it (default: %(default)s)")
    add("--packed", action="store_true", help="rows hold packed documents or pairs, whose attention needs segments")
    add(
        "--search",
        action="store_true",
        help="try meshes, remat policies, gathers and microbatches; of those that fit the fastest comes out",
    )
    add("--most", type=int, default=24, help="compilations of a search at most (default: %(default)s)")
    add(
        "--search_seconds",
        type=float,
        default=120.0,
        help="a search begins no compilation after these (default: %(default)s)",
    )
    add(
        "--full",
        action="store_true",
        help="compile to the end, as a run does, which takes five times as long; with --search the best alone, and the "
        "next where it turns out not to fit",
    )
    add("--hlo", type=Path, metavar="PATH", help="also write the compiled program as text")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Compiles and prints; returns the plan.

    Raises:
      UserError: the slice, config, mesh or batch is not in order, or libtpu is missing or locked.
    """
    from triarch.files import write_whole
    from triarch.planning import Lengths, parse

    topology = parse(args.topology, args.slices)
    if args.batch_size is not None and args.batch_size < 1:
        raise UserError(f"--batch_size={args.batch_size}: expected a whole number from 1 on")
    config, _ = gin_files.load_run(args)
    if args.phase is not None:
        from triarch.training.phases.stages import of_phase

        config = of_phase(config, args.phase)
    elif config.phases:
        names = ", ".join(phase.name for phase in config.phases)
        raise UserError(f"the run has phases, each a program of its own: choose one with --phase ({names})")
    if args.batch_size is not None:
        config = dataclasses.replace(config, batch_size=args.batch_size)
    if args.packed and args.program in ("prefill", "decode"):
        raise UserError(f"--packed: prompts of --program={args.program} are never packed")
    if args.prompt_length is not None and args.program not in ("prefill", "decode"):
        raise UserError(f"--prompt_length: goes with --program=prefill or decode, not {args.program}")
    if args.search and args.most < 1:
        raise UserError(f"--most={args.most}: expected a whole number from 1 on")
    if args.search and not 0 < args.search_seconds < math.inf:
        raise UserError(f"--search_seconds={args.search_seconds}: expected a positive number of seconds")
    if args.search and not args.full and args.hlo is not None:
        raise UserError("--hlo: a search keeps the program of the best, which takes --full")
    if config.data.pack_batches and args.program in ("train", "evaluate"):
        from triarch.planning.packing import by_rows

        config, told = by_rows(config, topology)
        args.packed = True
        print(told)
    prompt = config.data.window if args.prompt_length is None else args.prompt_length
    lengths = Lengths(prompt, args.new_tokens)
    if args.hlo is not None:
        check_file("hlo", args.hlo)
    keep = None if args.hlo is None else lambda text: write_whole(args.hlo, text)
    with _progress() as say:
        if not args.search:
            plan, trials = _planned(args, config, topology, say, keep, lengths), []
        else:
            trials, left = _searched(args, config, topology, say, keep, lengths)
            assert trials[0].plan is not None  # Those that came to something stand first.
            plan = trials[0].plan
    print("\n".join(lines(plan)))
    if not args.search:
        return dataclasses.asdict(plan)
    print("\n" + "\n".join([*_table(trials), left]))
    return {**dataclasses.asdict(plan), "tried": [_as_plain(trial) for trial in trials]}


def _planned(
    args: argparse.Namespace, config: RunConfig, topology: Topology, say: Say, keep: Keep | None, lengths: Lengths
) -> Plan:
    """Returns the plan of a config, whose choices the compiler checks: where it finds no room, what needs least."""
    from triarch.planning import make_plan, make_quick_plan
    from triarch.training.choosing.choice import advice, least
    from triarch.training.choosing.cost import Option

    def make(config: RunConfig) -> Plan:
        return (make_plan if args.full else make_quick_plan)(
            config, topology, args.program, args.packed, say, keep, lengths
        )

    plan = make(config)
    if plan.fits or args.program != "train":
        return plan
    if plan.chosen is not None:
        smallest = least(config, topology.machine)
        option = smallest.option
        if (dict(option.sizes), option.remat, option.gather) != (plan.mesh, plan.remat, plan.gather):
            say("that did not fit: trying what needs least")
            told = f"{smallest.describe()}, since this did not fit: {plan.chosen}"
            plan = dataclasses.replace(make(smallest.applied(config)), chosen=told)
    if plan.fits:
        return plan
    tried = Option(plan.mesh, plan.remat, plan.gather, plan.microbatches)
    return dataclasses.replace(plan, would_fit=advice(config, topology.machine, tried))


def _searched(
    args: argparse.Namespace, config: RunConfig, topology: Topology, say: Say, keep: Keep | None, lengths: Lengths
) -> tuple[list[Trial], str]:
    """Returns everything tried, the best first, and a line on what was not."""
    from triarch.planning import candidates, compiler, confirmed, make_plan, make_quick_plan, search

    compiler.require()

    def make(effort: Effort, config: RunConfig, description: str) -> Plan:
        say(description)
        if effort == "quick":
            longest = max(args.search_seconds, _LEAST_SECONDS)
            return make_quick_plan(config, topology, args.program, args.packed, lengths=lengths, most_seconds=longest)
        return make_plan(config, topology, args.program, args.packed, keep_hlo=keep, lengths=lengths)

    say("finding out what the run needs")
    promising, too_large = candidates(config, topology, args.program)
    trials = search(config, promising, partial(make, "quick"), args.most, args.search_seconds)
    left = f"{len(trials)} of {len(promising)} promising ones compiled; {too_large} more are too large by arithmetic"
    return confirmed(config, trials, partial(make, "full")) if args.full else trials, left


def _table(trials: Sequence[Trial]) -> list[str]:
    """Returns everything a search tried, the best first."""
    text = [
        f"{'mesh':36} {'remat':31} {'gather':8} {'parts':>5} {'effort':>6} {'fits':>6} {'HBM':>10} {'s/step':>8} "
        f"{'MFU':>5}"
    ]
    for trial in trials:
        plan, option = trial.plan, trial.candidate.option
        mesh = ", ".join(f"{axis}={size}" for axis, size in option.sizes.items() if size > 1)
        tried = f"{mesh:36} {option.remat:31} {option.gather:8} {option.microbatches:5}"
        if plan is None:
            text.append(f"{tried} {'':6} failed: {brief(trial.failure, 90)}")
            continue
        memory = "" if plan.hbm_bytes_per_device is None else _gib(plan.hbm_bytes_per_device)
        times = f"{trial.seconds:8.3f} {plan.mfu_estimate:5.0%}" if plan.fits else ""
        text.append(f"{tried} {plan.effort:>6} {'yes' if plan.fits else 'no':>6} {memory:>10} {times}".rstrip())
    return text


def _as_plain(trial: Trial) -> dict[str, Any]:
    candidate, plan = trial.candidate, trial.plan
    return {
        **dataclasses.asdict(candidate.option),
        "mesh": dict(candidate.option.sizes),
        "expected_bytes": int(candidate.needed_bytes),
        "expected_seconds": candidate.seconds,
        "failure": trial.failure,
        "plan": None if plan is None else dataclasses.asdict(plan),
    }


@contextmanager
def _progress() -> Iterator[Say]:
    from triarch.progress import Progress

    with Progress(True) as progress:
        yield lambda line: progress.start(line, None)


def lines(plan: Plan) -> list[str]:
    """Returns a plan as text."""
    mesh = ", ".join(f"{axis}={size}" for axis, size in plan.mesh.items())
    lengths = " + ".join(f"{length} {side}" for side, length in plan.sequence_lengths.items())
    needed = "more" if plan.hbm_bytes_per_device is None else _gib(plan.hbm_bytes_per_device)
    text = [
        f"slice          {plan.slices} x {plan.topology} ({plan.slice}), {plan.num_devices} chips",
        f"model          {plan.num_params:,} parameters",
        f"step           {plan.program}, {plan.batch_size:,} sequences of {lengths} tokens",
        f"mesh           {mesh}",
        f"execution      remat {plan.remat}, gather {plan.gather}, {plan.microbatches} microbatches, {plan.attention} "
        "attention",
        *([] if plan.chosen is None else [f"chosen         {plan.chosen}"]),
        f"fits           {'yes' if plan.fits else 'NO'}: {needed} of {_gib(plan.hbm_limit_bytes)} of a device's HBM",
    ]
    if plan.cache_bytes is not None:
        text.append(f"cache          {_gib(plan.cache_bytes)} of keys and values")
    if plan.complaint is not None:
        text.append(f"compiler       {plan.complaint}")
    if plan.would_fit is not None:
        text.append(f"what would     {plan.would_fit}")
    if plan.estimate is None:
        return [*text, f"compile        {_compiled(plan)}"]
    flops, seconds = plan.model_flops_per_step, plan.estimate
    assert plan.temp_bytes is not None and plan.collectives is not None  # Known where an estimate is.
    own, compiled = flops["train"] / plan.num_devices, plan.hlo_flops_per_device
    useful = f", {own / compiled:.0%} of them the model's" if compiled else ""
    text += [
        f"memory         {_gib(plan.argument_bytes)} arguments, {_gib(plan.temp_bytes)} reserved for temporaries",
        f"model FLOPs    {flops['train']:.4g} a step (train), {flops['paper']:.4g} (paper)",
        f"compiled       {compiled:.4g} FLOPs a device{useful}; {plan.hlo_bytes_per_device:.4g} bytes of HBM traffic",
    ]
    for name, total in plan.collectives.items():
        if total["bytes"] >= 1e6:
            count, size, alone = total["count"], _gib(total["bytes"]), total["seconds"]
            text.append(f"  {name:22} {count:5,.0f} a step, {size:>9}, {alone:.3f} s alone")
    return [
        *text,
        f"estimate       {seconds.step_seconds:.3f} s a step, {seconds.exposed_seconds:.3f} s of it waiting; "
        f"{seconds.best_seconds:.3f} s if all were hidden",
        f"               MFU {plan.mfu_estimate:.0%}: a roofline of data sheets, not a measurement",
        f"               {plan.tokens_per_day_estimate:.3g} tokens a day; {_cost(plan)}",
        f"compile        {_compiled(plan)}",
    ]


def _compiled(plan: Plan) -> str:
    hint = "" if plan.effort == "full" else ": machine code was not made (--full)"
    return f"{plan.compile_seconds:.0f} s, {plan.effort} effort{hint}"


def _cost(plan: Plan) -> str:
    if plan.program == "train":
        return f"{plan.chip_hours_estimate:,.0f} chip-hours for {plan.steps:,} steps ({plan.tokens:.3g} tokens)"
    return f"{plan.chip_hours_estimate:.2g} chip-hours a step"


def _gib(count: float) -> str:
    return f"{count / 2**30:.2f} GiB"
