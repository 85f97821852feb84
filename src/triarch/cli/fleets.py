"""The flags of `triarch sweep` that hand runs to a fleet, and the command that each of its machines runs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from triarch.errors import UserError, nearest

if TYPE_CHECKING:
    from triarch.sweeps.fleets.base import Engine
    from triarch.sweeps.ledger import Ledger
    from triarch.sweeps.runner import SweepProgress
    from triarch.sweeps.stages import Stage

_FOLDER = "fleet"


def check_fleet_flags(args: argparse.Namespace) -> None:
    """Raises UserError for flags of a fleet that say nothing together."""
    if args.fleet is None:
        for flag, given in (("fleet_option", args.fleet_option), ("detach", args.detach)):
            if given:
                raise UserError(f"--{flag} says nothing without --fleet")
    elif args.commands:
        raise UserError("--fleet and --commands exclude each other: the one hands runs in, the other writes them down")
    if "://" in args.output and not args.commands:
        raise UserError(
            f"--output={args.output}: sweeps run on a folder that all machines see, not on a bucket; --commands writes "
            "commands for one"
        )
    if not 0 <= args.fleet_poll <= 3600:
        raise UserError(f"--fleet_poll={args.fleet_poll}: expected seconds, from 0 to 3600")
    _options(args.fleet_option)


def chosen_runs(names: str | None, known: Sequence[str]) -> set[str]:
    """Returns the runs that `--runs` names, all of them if it was not given.

    Raises:
      UserError: the study has no run of that name.
    """
    if names is None:
        return set(known)
    chosen = set(names.split(","))
    for name in sorted(chosen - set(known)):
        raise UserError(f"--runs: the study has no run {name!r}{nearest(name, known)}")
    return chosen


def open_fleet(args: argparse.Namespace, output: Path) -> Engine | None:
    """Returns the engine that `--fleet` names, None if it was not given.

    Raises:
      UserError: it is not here, or its options are wrong.
    """
    from triarch.sweeps.fleets import open_engine

    return open_engine(args.fleet, output / _FOLDER, _options(args.fleet_option)) if args.fleet else None


def run_fleet(
    engine: Engine,
    args: argparse.Namespace,
    attempts: int,
    ledger: Ledger,
    show: Callable[[SweepProgress], None],
    chains: Mapping[str, Sequence[Stage]],
    names: Mapping[str, str],
    work: Mapping[str, float],
) -> None:
    """Hands runs to the engine, and sees them through unless `--detach` was given.

    Args:
      engine: that takes them.
      args: of `triarch sweep`.
      attempts: of the study.
      ledger: of the study.
      show: called at each look.
      chains: stages by owner.
      names: of the runs, by owner.
      work: of each chain, in any unit.

    Raises:
      UserError: the engine refuses, or runs failed.
    """
    from triarch.sweeps.fleets.base import Task
    from triarch.sweeps.fleets.dispatch import Fleet

    tasks = {owner: Task(owner, _worker_arguments(args, names[owner])) for owner in chains}
    Fleet(engine, ledger, attempts, args.parallel, args.fleet_poll, show).run(chains, tasks, work, wait=not args.detach)


def _worker_arguments(args: argparse.Namespace, name: str) -> tuple[str, ...]:
    """Returns what a machine of the fleet calls triarch with: this very sweep, of one run."""
    return (
        "sweep",
        f"--study={_absolute(args.study)}",
        *(f"--gin.{binding}" for binding in args.gin_bindings),
        *(f"--module={_absolute(module)}" for module in args.module),
        *(["--train_changed"] if args.train_changed else []),
        f"--output={_absolute(args.output, exists=False)}",
        "--parallel=1",
        f"--runs={name}",
    )


def _absolute(path: str, exists: bool = True) -> str:
    return os.path.abspath(path) if not exists or os.path.exists(path) else path


def _options(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for option in given:
        name, equals, value = option.partition("=")
        if not name or not equals:
            raise UserError(f"--fleet_option={option}: expected NAME=VALUE")
        if name in found:
            raise UserError(f"--fleet_option={name} is given twice")
        found[name.removeprefix("--")] = value
    return found
