"""Configs of runs that are there already: read from config.json, and changed by gin on top."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from triarch.cli.gin_files import load_run


def config_of(workdir: Path, files: Sequence[str] = (), bindings: Sequence[str] = ()) -> tuple[Any, str]:
    """Returns (RunConfig, its resolved gin text) of a run folder, with gin files and then bindings on top.

    The config is that of config.json, which is data; the run's config.gin is for people and is not read.

    Raises:
      UserError: there is no run, its config.json is damaged, a module is missing, or the gin does not fit.
    """
    from triarch.training.config_json import read_config

    changes = argparse.Namespace(gin_file=list(files), gin_bindings=list(bindings))
    return load_run(changes, read_config(workdir))
