"""One plan: a step compiled for a slice, and what the compiled program tells of itself."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

import jax
import numpy as np

from triarch.errors import UserError
from triarch.models.layers.parts import Convention
from triarch.planning import collectives as traffic
from triarch.planning import compiler, generation, hlo, programs, work
from triarch.planning.compiler import Compiled, Effort
from triarch.planning.estimate import Estimate, estimate
from triarch.planning.generation import GENERATION_KINDS, Lengths
from triarch.planning.programs import Kind
from triarch.planning.topology import Topology
from triarch.training.choosing.choice import Choice, choose_on, fitting_mesh
from triarch.training.config import RunConfig, validate
from triarch.training.run import Program

_SECONDS_A_DAY = 86_400
Say = Callable[[str], None]
Keep = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a step needs on each device of a slice, and is estimated to take.

    Bytes and operations are of one device and one step unless said otherwise; what only a compiled program tells is
    None where it does not fit.

    Attributes:
      fits: whether the compiler found room for the program.
      topology: the slice, "v5p:4x4x4".
      slice: its name at Google, "v5p-128".
      slices: how many of them.
      num_devices: chips of all slices.
      program: "train", "evaluate", "prefill" (prompts are read) or "decode" (each row gets one more token).
      batch_size: sequences a step, over all devices.
      sequence_lengths: tokens each side reads; of a generation, of "prompt" and "new" tokens.
      mesh: size of each axis.
      remat: what the backward pass finds saved.
      gather: how parameters that are split like the batch are brought together.
      microbatches: parts into which the batch is cut.
      attention: the kernel.
      hbm_bytes_per_device: most bytes in use at once, arguments included; of a quick plan all that is reserved for
        arguments, results and temporaries, which is some per cent more.
      hbm_limit_bytes: what the compiler lets a program have.
      argument_bytes: parameters, optimizer state and the batch.
      output_bytes: results that do not overwrite arguments.
      temp_bytes: what the program reserves beside its arguments.
      model_flops_per_step: of the whole batch, "paper" and "train" convention; of the latter, what is no training step
        does the forward third.
      hlo_flops_per_device: matrix products of the compiled program, loops multiplied out, recomputation included.
      hlo_bytes_per_device: HBM traffic of the same.
      collectives: by network and kind: `bytes`, `count` and `seconds` alone.
      estimate: roofline, not a measurement.
      mfu_estimate: model FLOPs ("train") over what the chips could do in the estimated time.
      tokens_per_day_estimate: read, over both sides, or written.
      chip_hours_estimate: for all steps of the run; of other programs, for one step.
      compile_seconds: that the compiler took.
      num_params: of the model.
      steps: of the run.
      tokens: of the run.
      complaint: why it does not fit.
      would_fit: of a training step that does not fit, what would, by estimate.
      cache_bytes: keys and values of a generation.
      chosen: what the run's config left open and was chosen, with the memory expected; None where it left nothing open.
      expected_bytes: by the estimate that choices are made by, of a training step; beside `hbm_bytes_per_device`.
      effort: "full" where machine code was made, "quick" where the compiler was stopped before that.
    """

    fits: bool
    topology: str
    slice: str
    slices: int
    num_devices: int
    program: Kind
    batch_size: int
    sequence_lengths: dict[str, int]
    mesh: dict[str, int]
    remat: str
    gather: str
    microbatches: int
    attention: str
    hbm_limit_bytes: int
    argument_bytes: int
    model_flops_per_step: dict[str, float]
    compile_seconds: float
    num_params: int
    steps: int
    tokens: int
    hbm_bytes_per_device: int | None = None
    output_bytes: int | None = None
    temp_bytes: int | None = None
    hlo_flops_per_device: float | None = None
    hlo_bytes_per_device: float | None = None
    collectives: dict[str, dict[str, float]] | None = None
    estimate: Estimate | None = None
    mfu_estimate: float | None = None
    tokens_per_day_estimate: float | None = None
    chip_hours_estimate: float | None = None
    complaint: str | None = None
    would_fit: str | None = None
    cache_bytes: int | None = None
    chosen: str | None = None
    expected_bytes: int | None = None
    effort: Effort = "full"


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A step about to be compiled.

    Attributes:
      facts: fields of its plan that are known before.
      coordinates: int[devices, 1 + axes] of `coordinates`.
      tokens_per_step: read or written.
    """

    facts: dict[str, Any]
    coordinates: np.ndarray
    tokens_per_step: int


def make_plan(
    config: RunConfig,
    topology: Topology,
    program: Kind = "train",
    packed: bool = False,
    say: Say = lambda line: None,
    keep_hlo: Keep | None = None,
    lengths: Lengths | None = None,
) -> Plan:
    """Compiles one step of a run for a slice and reads the result.

    Args:
      config: of the run; its token store is not opened.
      topology: the slice.
      program: which step.
      packed: whether windows are packed documents, whose attention needs segments.
      say: told what is being done.
      keep_hlo: given the text of the compiled program.
      lengths: of a generation.

    Raises:
      UserError: the config, mesh, batch or lengths are not in order, or the compiler cannot be used.
    """
    prepared, lowered = prepare(config, topology, program, packed, say, lengths)
    say(f"compiling for {topology}")
    start = time.monotonic()
    try:
        compiled = compiler.compile_for(topology, lowered)
    except compiler.OutOfMemory as error:
        return refused(prepared, error, time.monotonic() - start)
    seconds = time.monotonic() - start
    say("reading the compiled program")
    if keep_hlo is not None:
        keep_hlo(compiled.text)
    fits = compiled.peak_bytes <= topology.chip.hbm_bytes
    return Plan(fits=fits, compile_seconds=seconds, **measured(prepared, topology, compiled))


def prepare(
    config: RunConfig, topology: Topology, program: Kind, packed: bool, say: Say, lengths: Lengths | None
) -> tuple[Prepared, jax.stages.Lowered]:
    """Traces a step, as `make_plan` is asked to.

    Raises:
      UserError: the config, mesh, batch or lengths are not in order, or the compiler cannot be used.
    """
    if program in GENERATION_KINDS:
        assert lengths is not None
        lengths.validate(config.model)
    devices = compiler.devices(topology)
    choice = None
    if program not in GENERATION_KINDS:
        say("choosing a mesh and what to save")
        validate(config)
        choice = _chosen(config, topology)
        config = choice.applied(config)
    run = _assembled(config, topology, devices)
    facts = _facts(run, topology, program, lengths) | _told(choice)
    say(f"tracing the {program} step")
    if program in GENERATION_KINDS:
        assert lengths is not None
        lowered = generation.lowered(run, cast(generation.GenerationKind, program), lengths)
    else:
        lowered = programs.lowered(run, cast(Any, program), packed)
    places = coordinates(run.mesh.devices.flat)
    return Prepared(facts, places, _tokens_per_step(run, program, lengths)), lowered


def _chosen(config: RunConfig, topology: Topology) -> Choice:
    try:
        return choose_on(config, topology.machine)
    except UserError as error:
        raise _with_mesh(error, config, topology) from None


def _assembled(config: RunConfig, topology: Topology, devices: list[Any]) -> Program:
    try:
        return programs.assembled(config, devices)
    except UserError as error:
        raise _with_mesh(error, config, topology) from None


def _with_mesh(error: UserError, config: RunConfig, topology: Topology) -> UserError:
    """Returns an error of a mesh of the user's own with one that goes with the slice; any other as it is."""
    if config.mesh.is_open or "mesh" not in str(error):
        return error
    mesh = fitting_mesh(config, topology.machine)
    return error if mesh is None else UserError(f"{error}; {topology.name} and this batch go with {mesh}")


def _told(choice: Choice | None) -> dict[str, Any]:
    """Returns the fields of a plan that tell of a choice."""
    if choice is None or not choice.left_open:
        return {}
    needed = None if choice.needed_bytes is None else int(choice.needed_bytes)
    return {"chosen": choice.describe(), "expected_bytes": needed}


def refused(prepared: Prepared, error: compiler.OutOfMemory, seconds: float, effort: Effort = "full") -> Plan:
    """Returns the plan of a step that the compiler found no room for."""
    needed, complaint = error.needed, error.complaint
    return Plan(
        fits=False,
        compile_seconds=seconds,
        hbm_bytes_per_device=needed,
        complaint=complaint,
        effort=effort,
        **prepared.facts,
    )


def _facts(run: Program, topology: Topology, program: Kind, lengths: Lengths | None) -> dict[str, Any]:
    """Returns what is known before anything is compiled."""
    config = run.config
    arguments = _device_bytes(run.target if program == "train" else run.target.params)
    cache = None if lengths is None or program not in GENERATION_KINDS else generation.cache_bytes(run, lengths)
    return {
        "topology": topology.name,
        "slice": topology.slice_name,
        "slices": topology.slices,
        "num_devices": topology.num_devices,
        "program": program,
        "batch_size": config.batch_size,
        "sequence_lengths": _sequence_lengths(config, program, lengths),
        "mesh": dict(run.mesh.shape),
        "remat": config.execution.on("tpu").remat,
        "gather": config.execution.on("tpu").gather,
        "microbatches": config.microbatches,
        "attention": config.execution.on("tpu").attention,
        "hbm_limit_bytes": topology.chip.hbm_bytes,
        "argument_bytes": arguments + (cache if cache is not None and program == "decode" else 0),
        "model_flops_per_step": {
            convention: _model_flops(run, program, lengths, convention) for convention in ("paper", "train")
        },
        "num_params": config.model.num_params(),
        "steps": config.steps,
        "tokens": config.steps * run.tokens_per_step,
        "cache_bytes": cache,
    }


def _sequence_lengths(config: RunConfig, program: Kind, lengths: Lengths | None) -> dict[str, int]:
    if program in GENERATION_KINDS:
        assert lengths is not None
        return {"prompt": lengths.prompt, "new": lengths.new_tokens}
    return config.bound().lengths


def _model_flops(run: Program, program: Kind, lengths: Lengths | None, convention: Convention) -> float:
    if program in GENERATION_KINDS:
        assert lengths is not None
        return run.config.batch_size * generation.flops_per_row(
            run.config.model, cast(generation.GenerationKind, program), lengths, convention
        )
    forward_only = program == "evaluate" and convention == "train"
    return run.flops_per_step(convention) * (1 / 3 if forward_only else 1)


def _tokens_per_step(run: Program, program: Kind, lengths: Lengths | None) -> int:
    a_row = run.config.data.window
    if program in GENERATION_KINDS:
        assert lengths is not None
        a_row = lengths.prompt if program == "prefill" else 1
    return run.config.batch_size * a_row


def measured(prepared: Prepared, topology: Topology, compiled: Compiled) -> dict[str, Any]:
    """Returns fields of a plan: what was known before, and what the compiled program tells of itself."""
    facts, module = prepared.facts, hlo.parse(compiled.text)
    steps = work.steps(module)
    sent = traffic.collectives(module, topology, prepared.coordinates)
    time_estimate = estimate(steps, sent, topology)
    chips = topology.num_devices
    steps_a_run = facts["steps"] if facts["program"] == "train" else 1
    steps_a_day = _SECONDS_A_DAY / time_estimate.step_seconds
    could = time_estimate.step_seconds * topology.chip.flops * chips
    return {
        **facts,
        "hbm_bytes_per_device": compiled.peak_bytes,
        "argument_bytes": compiled.argument_bytes,
        "output_bytes": compiled.output_bytes,
        "temp_bytes": compiled.temp_bytes,
        "hlo_flops_per_device": sum(one.flops * one.times for _, one in steps),
        "hlo_bytes_per_device": sum(one.hbm_bytes * one.times for _, one in steps),
        "collectives": traffic.summary(sent),
        "estimate": time_estimate,
        "mfu_estimate": facts["model_flops_per_step"]["train"] / could,
        "tokens_per_day_estimate": steps_a_day * prepared.tokens_per_step,
        "chip_hours_estimate": steps_a_run * time_estimate.step_seconds * chips / 3600,
    }


def coordinates(devices: Iterable[Any]) -> np.ndarray:
    """Returns int[devices, 1 + axes]: slice and place in it."""
    return np.array([(getattr(device, "slice_index", 0) or 0, *device.coords) for device in devices])


def _device_bytes(tree: Any) -> int:
    """Returns the bytes of a state that one device holds."""
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)
