"""Engines that other people run, SLURM, Kueue and Ray, and the handing of a study's runs to one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from triarch.errors import UserError, nearest
from triarch.sweeps.fleets.base import Engine
from triarch.sweeps.fleets.kueue import Kueue
from triarch.sweeps.fleets.ray import Ray
from triarch.sweeps.fleets.slurm import Slurm

ENGINES: dict[str, Callable[[Path, Mapping[str, str]], Engine]] = {"slurm": Slurm, "kueue": Kueue, "ray": Ray}


def open_engine(name: str, folder: Path, options: Mapping[str, str]) -> Engine:
    """Returns the engine of that name.

    Args:
      name: of `ENGINES`.
      folder: for what is handed in, and logs; every machine of the fleet sees it.
      options: of the engine, as the user gave them.

    Raises:
      UserError: there is none of that name, an option is wrong, or the engine is not here.
    """
    if name not in ENGINES:
        raise UserError(f"--fleet={name}: expected one of {', '.join(ENGINES)}{nearest(name, ENGINES)}")
    engine = ENGINES[name](folder, options)
    engine.check()
    return engine
