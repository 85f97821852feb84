"""Studies from gin files."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

from triarch.cli import gin_files
from triarch.cli.modules import check_named
from triarch.errors import UserError
from triarch.sweeps import design
from triarch.sweeps.design import Run
from triarch.sweeps.study import Study


def load_study(
    files: Sequence[str], bindings: Sequence[str], modules: Sequence[str] = ()
) -> tuple[Study, tuple[Run, ...]]:
    """Returns the study that gin files and bindings describe, and its runs.

    Args:
      files: gin files.
      bindings: laid over them, "NAME=VALUE".
      modules: that the user named.

    Raises:
      UserError: a file, a name in it, or a file that it names does not exist, a run of the study cannot be, or a module
        that it needs was not named.
    """
    gin_files.parse(files, bindings)
    study: Study = gin_files.build("Study")
    gin_files.check_effects()
    study.validate()
    check_named(study.modules, modules, "Study.modules")
    folders = [gin_files.find(file).parent for file in files]
    without_effect: list[set[str]] = []

    def beside(name: str) -> str | None:
        """Returns the path of a file beside the study, None if there is none."""
        return next((str(folder / name) for folder in folders if os.path.isfile(folder / name)), None)

    def files_of(family: str, size: str) -> tuple[str, ...]:
        model = beside(f"{family}/{size}.gin") or f"models/{family}/{size}.gin"
        return gin_files.recipe_file(family, size), model, beside(study.settings) or study.settings

    def config_of(files: tuple[str, ...]) -> object:
        config, unused = _built(files, ())
        without_effect.append(set(unused))
        return config

    runs = design.runs(study, files_of, config_of)
    # Settings may serve one family and not another.
    gin_files.say_without_effect(sorted(set.intersection(*without_effect)))
    for run in runs:
        if run.config.data.window != study.window:
            raise UserError(
                f"{run.name}: DataConfig.window is {run.config.data.window}, but Study.window, which text is prepared "
                f"for, is {study.window}: set the same in {study.settings}"
            )
    return study, runs


def run_config(files: tuple[str, ...], bindings: tuple[str, ...] = ()) -> object:
    """Returns the RunConfig that gin files and bindings describe."""
    return _built(files, bindings)[0]


@functools.lru_cache(maxsize=256)
def _built(files: tuple[str, ...], bindings: tuple[str, ...]) -> tuple[object, tuple[str, ...]]:
    """Returns the RunConfig, and a line for each binding in the files that has no effect on it."""
    gin_files.parse(files, bindings)
    config = gin_files.build("RunConfig")
    return config, tuple(gin_files.unused_lines())
