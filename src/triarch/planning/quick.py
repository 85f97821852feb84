"""Plans without machine code: the compiler is stopped where the program and its memory are settled.

Of a training step's compilation all but a few seconds go into machine code, fusion by fusion, of which a plan reports
nothing. What comes before is the run's own: the same passes with the same flags, the same instructions, the same
buffers. So the compiler works in a process of its own and leaves its stages in a folder; once buffers are assigned, the
process is ended. What this cannot tell is whether machine code can be made, and its size (tens of MiB).
"""

from __future__ import annotations

import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import jax

from triarch.errors import UserError
from triarch.planning import compiler
from triarch.planning.compiler import Compiled
from triarch.planning.generation import Lengths
from triarch.planning.plan import Keep, Plan, Prepared, Say, measured, prepare, refused
from triarch.planning.programs import Kind
from triarch.planning.topology import Topology
from triarch.training.config import RunConfig

Stages = Callable[[str], str]
_STAGE = ".after_optimizations"
_LAST = f"{_STAGE}_after_buffer_assignment.txt"  # Written when the files below are whole.
_POLL_SECONDS = 0.1
# Lines such as "allocation 7: size 1024, parameter 8, ...", those of other memories than HBM with their color.
_ALLOCATION = re.compile(r"^allocation \d+: size (\d+), (?!color)(.*)$", re.MULTILINE)


def make_quick_plan(
    config: RunConfig,
    topology: Topology,
    program: Kind = "train",
    packed: bool = False,
    say: Say = lambda line: None,
    keep_hlo: Keep | None = None,
    lengths: Lengths | None = None,
) -> Plan:
    """Plans one step of a run as `make_plan` does, but makes no machine code.

    Instructions, and so FLOPs, traffic, collectives and estimates, are those of the whole compilation. Memory is what
    buffers were assigned; whether they fit is judged by all that is reserved for them.

    Raises:
      UserError: the config, mesh, batch or lengths are not in order, or the compiler cannot be used.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="triarch-plan-") as folder:
        asked = (config, topology, program, packed, lengths)
        child = context.Process(target=_compile, args=(sender, Path(folder), asked), daemon=True)
        child.start()
        sender.close()
        try:
            prepared, found, seconds = _followed(receiver, Path(folder), topology, say)
        finally:
            child.kill()
            child.join()
        if isinstance(found, compiler.OutOfMemory):
            return refused(prepared, found, seconds, "quick")
        say("reading the compiled program")
        return _read(prepared, topology, found, seconds, keep_hlo)


def _compile(sender: Connection, folder: Path, asked: tuple[Any, ...]) -> None:
    """Compiles in a process of its own, telling how far it is."""
    config, topology, program, packed, lengths = asked
    jax.config.update("jax_enable_compilation_cache", False)  # What is taken from there leaves no stages.
    try:
        prepared, lowered = prepare(config, topology, program, packed, lambda line: sender.send(("say", line)), lengths)
        sender.send(("prepared", prepared))
        compiler.compile_for(topology, lowered, dump=folder)
    except compiler.OutOfMemory as error:
        sender.send(("no room", error.text))
    except UserError as error:
        sender.send(("refused", str(error)))
    sender.send(("done", None))


def _followed(
    receiver: Connection, folder: Path, topology: Topology, say: Say
) -> tuple[Prepared, Stages | compiler.OutOfMemory, float]:
    """Returns what the other process has left, or why there is no room for it, and the seconds that took."""
    prepared, start, ended = None, time.monotonic(), False
    while True:
        if prepared is not None and (stages := _stages(folder)):
            return prepared, stages, time.monotonic() - start
        if ended:
            raise RuntimeError("the process of the compiler ended before buffers were assigned")
        if not receiver.poll(_POLL_SECONDS):
            continue
        try:
            kind, value = receiver.recv()
        except EOFError:
            kind, value = "done", None
        if kind == "say":
            say(value)
        elif kind == "prepared":
            prepared, start = value, time.monotonic()
            say(f"compiling for {topology}, without machine code")
        elif kind == "no room":
            return prepared, compiler.OutOfMemory(value), time.monotonic() - start
        elif kind == "refused":
            raise UserError(value)
        ended = kind == "done"


def _stages(folder: Path) -> Stages | None:
    """Returns a reader of the stages' files by their last part, once all are there."""
    last = next(folder.glob(f"*{_LAST}"), None)
    if last is None:
        return None
    stem = last.name.removesuffix(_LAST)
    return lambda part: (folder / f"{stem}{_STAGE}{part}.txt").read_text()


def _read(prepared: Prepared, topology: Topology, stages: Stages, seconds: float, keep: Keep | None) -> Plan:
    text = stages("")
    if keep is not None:
        keep(text)
    allocations = [(int(size), what) for size, what in _ALLOCATION.findall(stages("-buffer-assignment"))]
    arguments = sum(size for size, what in allocations if what.startswith("parameter"))
    temporary = sum(size for size, what in allocations if what.startswith("preallocated-temp"))
    results = sum(size for size, what in allocations if "maybe-live-out" in what and "parameter" not in what)
    reserved, limit = arguments + results + temporary, topology.chip.hbm_bytes
    compiled = Compiled(text, reserved, arguments, results, temporary)
    complaint = None if reserved <= limit else f"buffers take {reserved / 2**30:.2f}G of {limit / 2**30:.2f}G of HBM"
    return Plan(
        fits=complaint is None,
        compile_seconds=seconds,
        complaint=complaint,
        effort="quick",
        **measured(prepared, topology, compiled),
    )
