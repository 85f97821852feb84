"""Studies from gin files."""

from __future__ import annotations

import functools

from triarch.cli import gin_files
from triarch.errors import UserError
from triarch.sweeps import design
from triarch.sweeps.design import Run
from triarch.sweeps.study import Study


def load_study(files: list[str], bindings: list[str]) -> tuple[Study, tuple[Run, ...]]:
    """Returns the study that gin files and bindings describe, and its runs.

    Raises:
      UserError: a file, a name in it, or a file that it names does not exist, or a run of the study cannot be.
    """
    gin_files.parse(files, bindings)
    study: Study = gin_files.build("Study")
    study.validate()

    def files_of(family: str, size: str) -> tuple[str, ...]:
        return gin_files.recipe_file(family, size), f"models/{family}/{size}.gin", study.settings

    runs = design.runs(study, files_of, run_config)
    for run in runs:
        if run.config.data.window != study.window:
            raise UserError(
                f"{run.name}: DataConfig.window is {run.config.data.window}, but Study.window, which text is prepared "
                f"for, is {study.window}: set the same in {study.settings}"
            )
    return study, runs


@functools.lru_cache(maxsize=256)
def run_config(files: tuple[str, ...], bindings: tuple[str, ...] = ()) -> object:
    """Returns the RunConfig that gin files and bindings describe."""
    gin_files.parse(files, bindings)
    return gin_files.build("RunConfig")
