"""Studies from gin files."""

from __future__ import annotations

from triarch.cli import gin_files
from triarch.sweeps.study import Run, Study


def load_study(file: str) -> tuple[Study, tuple[Run, ...]]:
    """Returns the study that a gin file describes, and its runs.

    Raises:
      UserError: the file, a name in it, or a file that it names does not exist.
    """
    gin_files.parse([file], [])
    study: Study = gin_files.build("Study")
    study.validate()
    runs = study.runs(gin_files.recipe_file)
    for run in runs:
        for gin_file in run.gin_files:
            gin_files.find(gin_file)
    return study, runs
