"""Configs of existing runs: read from config.json, then changed by gin."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch.cli.gin.files import load_run

if TYPE_CHECKING:
    from triarch.training.inputs import Inputs


def config_of(workdir: Path, files: Sequence[str] = (), bindings: Sequence[str] = ()) -> tuple[Any, str]:
    """Returns (RunConfig, its resolved gin text) of a run folder, with gin files and then bindings on top.

    The config is that of config.json, which is data; the run's config.gin is for people and is not read.

    Raises:
      UserError: there is no run, its config.json is damaged, a module is missing, or the gin does not fit.
    """
    from triarch.training.record.config_json import read_config

    changes = argparse.Namespace(gin_file=list(files), gin_bindings=list(bindings))
    return load_run(changes, read_config(workdir))


def segments_of(workdir: Path | None, files: Sequence[str], bindings: Sequence[str]) -> list[Inputs]:
    """Returns what each segment of a run reads; of a run folder, checked to be what it was begun with.

    Args:
      workdir: the run folder; None for the run that gin alone describes.
      files: gin files.
      bindings: gin bindings.

    Raises:
      UserError: there is no such run, its config or stores are others, or it cannot begin from what it names.
    """
    from triarch.training.config import validate
    from triarch.training.phases.course import open_course
    from triarch.training.record import changing
    from triarch.training.record.fingerprint import check_folder

    if workdir is None:
        config = load_run(argparse.Namespace(gin_file=list(files), gin_bindings=list(bindings)))[0]
    else:
        config = config_of(workdir, files, bindings)[0]
    validate(config)
    course = open_course(config)
    if workdir is not None:
        check_folder(workdir, config, course.stores, even_unbegun=True)
    return changing.segments_of(workdir, course)
