"""Plans without machine code: the compiler is stopped where the program and its memory are settled.

Of a training step's compilation all but a few seconds go into machine code, fusion by fusion, of which a plan reports
nothing. What comes before is the run's own: the same passes with the same flags, the same instructions, the same
buffers. So the compiler works in a process of its own and leaves its stages in a folder; once buffers are assigned, the
process is ended. What this cannot tell is whether machine code can be made, and its size (tens of MiB).
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import jax

from triarch.errors import UserError
from triarch.planning import compiler
from triarch.planning.compiler import Compiled, Effort, OutOfMemory
from triarch.planning.generation import Lengths
from triarch.planning.plan import Keep, Plan, Prepared, Say, measured, prepare, refused
from triarch.planning.programs import Kind
from triarch.planning.topology import Topology
from triarch.training.config import RunConfig

_STAGE = ".after_optimizations"
_LAST = f"{_STAGE}_after_buffer_assignment.txt"  # Written when the files below are whole.
_POLL_SECONDS = 0.1
# Lines such as "allocation 7: size 1024, parameter 8, ...", in newer compilers "allocation 7: size 1024, page 0, ...".
_ALLOCATION = re.compile(r"^allocation \d+: size (\d+)(.*)$", re.MULTILINE)
_ELSEWHERE = re.compile(r", color [1-9]")  # Memories other than HBM.
_TOTAL = re.compile(r"^Memory Space: default \(color=0\)\nTotal bytes: (\d+)", re.MULTILINE)


def make_quick_plan(
    config: RunConfig,
    topology: Topology,
    program: Kind = "train",
    packed: bool = False,
    say: Say = lambda line: None,
    keep_hlo: Keep | None = None,
    lengths: Lengths | None = None,
    most_seconds: float = math.inf,
) -> Plan:
    """Plans one step of a run as `make_plan` does, but makes no machine code.

    Instructions, and so FLOPs, traffic, collectives and estimates, are those of the whole compilation. Memory is what
    buffers were assigned; whether they fit is judged by all that is reserved for them. Where a compiler leaves its
    stages in a form that is not known here, or the disk has no room for them, it goes on to the end: the plan is then
    one of full effort.

    Args:
      config: as for `make_plan`, and so are those up to `lengths`.
      topology: the slice.
      program: which step.
      packed: whether windows are packed documents.
      say: told what is being done.
      keep_hlo: given the text of the compiled program.
      lengths: of a generation.
      most_seconds: after which it is given up.

    Raises:
      UserError: the config, mesh, batch or lengths are not in order, the compiler cannot be used, its process ended
        early or took too long.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="triarch-plan-") as folder:
        asked = (config, topology, program, packed, lengths)
        child = context.Process(target=_compile, args=(sender, Path(folder), asked), daemon=True)
        try:
            with _interrupts_held():
                child.start()
            sender.close()
            prepared, found, effort, seconds = _followed(receiver, child, Path(folder), topology, say, most_seconds)
        finally:
            if child.pid is not None:
                child.kill()
                child.join()
    if isinstance(found, OutOfMemory):
        return refused(prepared, found, seconds, "quick")
    say("reading the compiled program")
    if keep_hlo is not None:
        keep_hlo(found.text)
    needed, limit = found.peak_bytes, topology.chip.hbm_bytes
    complaint = None if needed <= limit else f"buffers take {needed / 2**30:.2f}G of {limit / 2**30:.2f}G of HBM"
    return Plan(
        fits=complaint is None,
        compile_seconds=seconds,
        complaint=complaint,
        effort=effort,
        **measured(prepared, topology, found),
    )


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Lets a process that starts meanwhile never see Ctrl-C: this one ends it, without a trace of where it was."""
    resource_tracker.ensure_running()  # Else it starts with the process, and lets interrupts through.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _compile(sender: Connection, folder: Path, asked: tuple[Any, ...]) -> None:
    """Compiles in a process of its own, telling how far it is."""
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    config, topology, program, packed, lengths = asked
    jax.config.update("jax_enable_compilation_cache", False)  # What is taken from there leaves no stages.
    try:
        prepared, lowered = prepare(config, topology, program, packed, lambda line: sender.send(("say", line)), lengths)
        sender.send(("prepared", prepared))
        sender.send(("compiled", compiler.compile_for(topology, lowered, dump=folder)))
    except OutOfMemory as error:
        sender.send(("no room", error.text))
    except UserError as error:
        sender.send(("refused", str(error)))
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        sender.send(("refused", f"planning failed: {type(error).__name__}: {reason} (--full shows where)"))


def _end_with_parent(folder: Path) -> None:
    """Waits until nobody follows any more, the parent having been killed, and leaves nothing behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _followed(
    receiver: Connection, child: BaseProcess, folder: Path, topology: Topology, say: Say, most_seconds: float
) -> tuple[Prepared, Compiled | OutOfMemory, Effort, float]:
    """Returns what the other process has come to, by which effort, and the seconds that took.

    Raises:
      UserError: of the other process, or because it ended early.
    """
    prepared, compiled, start, legible = None, None, time.monotonic(), True
    end = start + most_seconds
    while True:
        if time.monotonic() > end:
            raise UserError(f"given up after {most_seconds:.0f} s")
        if prepared is not None and legible and (last := next(folder.glob(f"*{_LAST}"), None)):
            assigned = _assigned(folder, last.name.removesuffix(_LAST))
            if assigned is not None:
                return prepared, assigned, "quick", time.monotonic() - start
            legible = False
            say("this compiler's buffers cannot be read before machine code is made: compiling to the end")
        if prepared is not None and compiled is not None:
            return prepared, compiled, "full", time.monotonic() - start
        if not receiver.poll(_POLL_SECONDS):
            continue
        try:
            kind, value = receiver.recv()
        except EOFError:
            raise UserError(_ended(child)) from None
        if kind == "say":
            say(value)
        elif kind == "prepared":
            prepared, start = value, time.monotonic()
            say(f"compiling for {topology}, without machine code")
        elif kind == "compiled":
            compiled = value
        elif kind == "no room" and prepared is not None:
            return prepared, OutOfMemory(value), "quick", time.monotonic() - start
        else:
            raise UserError(value)


def _ended(child: BaseProcess) -> str:
    """Says how a process ended that should not have."""
    child.join()
    status = child.exitcode
    assert status is not None  # It was waited for.
    if status >= 0:
        return f"the process of the compiler ended early, with status {status}"
    hint = ": this machine may have run out of memory" if -status == signal.SIGKILL else ""
    return f"the process of the compiler was ended by {signal.Signals(-status).name}{hint}"


def _assigned(folder: Path, stem: str) -> Compiled | None:
    """Returns the program and its buffers, or None where they are not whole or not as they are known here.

    What is counted must come to the total that the compiler itself reports.
    """

    def stage(part: str) -> str:
        return (folder / f"{stem}{_STAGE}{part}.txt").read_text()

    try:
        text, assignment, report = stage(""), stage("-buffer-assignment"), stage("-memory-usage-report")
    except (OSError, UnicodeDecodeError):
        return None
    buffers = [(int(size), what) for size, what in _ALLOCATION.findall(assignment) if not _ELSEWHERE.search(what)]
    total = _TOTAL.search(report)
    if total is None or int(total[1]) != sum(size for size, _ in buffers):
        return None
    if "\nENTRY " not in text or not text.rstrip().endswith("}"):
        return None
    sizes = {"arguments": 0, "results": 0, "temporary": 0, "none": 0}
    for size, what in buffers:
        sizes[_use(what)] += size
    arguments, results, temporary = sizes["arguments"], sizes["results"], sizes["temporary"]
    return Compiled(text, arguments + results + temporary, arguments, results, temporary) if arguments else None


def _use(what: str) -> str:
    """Returns what a buffer is for, by the compiler's words; "none" where it takes no memory of its own."""
    if ", parameter " in what:
        return "arguments"
    if "thread-local" in what:
        return "none"
    return "results" if "maybe-live-out" in what else "temporary"
