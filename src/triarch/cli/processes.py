"""The flags by which several processes become one run."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from triarch.errors import UserError

_MOST_SECONDS = 86400


def add_process_arguments(parser: argparse.ArgumentParser, steps: bool = False) -> None:
    """Adds the flags; on TPU slices, GKE, SLURM and a single machine none of them is needed.

    Args:
      parser: of a verb.
      steps: whether the verb works in steps, whose absence is a sign that it hangs.
    """
    group = parser.add_argument_group(
        "several processes",
        "Start the same command on every host. TPU slices, GKE, SLURM and Open MPI say who is who;\n"
        "elsewhere give --coordinator=10.0.0.2:8482 --num_processes=2 --process_id=0, or in the environment\n"
        "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.",
    )
    add = group.add_argument
    add("--coordinator", metavar="HOST:PORT", help="where process 0 is found")
    add("--num_processes", type=int, metavar="N", help="of the run; 1 never looks for others")
    add("--process_id", type=int, metavar="I", help="of this process, from 0 on")
    add(
        "--startup_timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="to wait for all to come; then those missing are named (default: %(default)g)",
    )
    add(
        "--heartbeat_timeout",
        type=float,
        default=100.0,
        metavar="SECONDS",
        help="without a sign of life from one of them, after which all others stop (default: %(default)g)",
    )
    if steps:
        add(
            "--stall_timeout",
            type=float,
            default=3600.0,
            metavar="SECONDS",
            help="without a new step, though all are alive, after which all stop; 0 for never (default: %(default)g)",
        )


@contextlib.contextmanager
def joined(args: argparse.Namespace, verb: str, advice: str = "") -> Iterator[bool]:
    """Joins the other processes, if there are any, and yields whether this is the first, which speaks for all.

    What the other ones print to standard output is dropped.

    Args:
      args: with the flags above.
      verb: whose command this is.
      advice: what to do after another process has gone, to be appended to the line that says so.

    Raises:
      UserError: a flag is out of range, or the others did not come (named).
    """
    for name in ("startup_timeout", "heartbeat_timeout"):
        if not 1 <= getattr(args, name) <= _MOST_SECONDS:
            raise UserError(f"--{name}={getattr(args, name):g}: expected seconds, from 1 to {_MOST_SECONDS}")
    stall_timeout = getattr(args, "stall_timeout", 0.0)
    if not 0 <= stall_timeout <= _MOST_SECONDS:
        raise UserError(f"--stall_timeout={stall_timeout:g}: expected seconds up to {_MOST_SECONDS}, or 0 for never")
    from triarch.runtime import multihost

    place = multihost.find_place(args.coordinator, args.num_processes, args.process_id, timeout=args.startup_timeout)

    def say(text: str) -> None:
        print(f"triarch {verb}: {text}", file=sys.stderr, flush=True)

    def explain(text: str) -> None:
        newline = "\n" if sys.stderr.isatty() else ""
        print(f"{newline}triarch {verb}: error: {text}{advice}", file=sys.stderr, flush=True)

    timeouts: dict[str, Any] = {name: getattr(args, name) for name in ("startup_timeout", "heartbeat_timeout")}
    timeouts["stall_timeout"] = stall_timeout
    is_first = place is None or place.process_id == 0
    with contextlib.ExitStack() as stack:
        if not is_first:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        stack.enter_context(multihost.joined(place, **timeouts, explain=explain, say=say))
        yield is_first


def first_alone() -> bool:
    """Returns whether this process is the one to do what needs no other, where a command is started on all hosts.

    It then leaves the accelerators in peace: those of one host of a slice cannot be started without the others.
    """
    from triarch.runtime import multihost

    place = multihost.find_place()
    if place is None:
        return True
    import jax

    jax.config.update("jax_platforms", "cpu")
    return place.process_id == 0
