"""Studies from gin files."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from triarch.cli.gin import files as gin_files
from triarch.cli.modules import check_named
from triarch.data.manifest import FILE_NAME, read_manifest
from triarch.errors import UserError
from triarch.sweeps import design
from triarch.sweeps.checks import Findings, inspect_study
from triarch.sweeps.design import PlannedRun
from triarch.sweeps.stages import store_folder
from triarch.sweeps.study import Corpus, Study
from triarch.training.config import RunConfig


def load_study(
    files: Sequence[str], bindings: Sequence[str], modules: Sequence[str] = ()
) -> tuple[Study, tuple[PlannedRun, ...]]:
    """Returns the study that gin files and bindings describe, and its runs.

    Args:
      files: gin files.
      bindings: laid over them, "NAME=VALUE".
      modules: that the user named.

    Raises:
      UserError: a file, a name in it, or a file that it names does not exist, a run of the study cannot be, or a module
        that it needs was not named.
    """
    _built.cache_clear()  # The files may have changed since the last study.
    gin_files.parse(files, bindings)
    study: Study = gin_files.build("Study")
    gin_files.refuse_flags_without_effect()
    own = gin_files.unused_lines()
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

    def config_of(files: tuple[str, ...]) -> RunConfig:
        config, unused = _built(files, ())
        without_effect.append(set(unused))
        return config

    runs = design.runs(study, files_of, config_of)
    for run in runs:
        if run.config.data.window != study.window:
            raise UserError(
                f"{run.name}: DataConfig.window is {run.config.data.window}, but Study.window, which text is prepared "
                f"for, is {study.window}: set the same in {study.settings}"
            )
    # Settings may serve one family and not another.
    gin_files.say_without_effect([*own, *sorted(set.intersection(*without_effect))])
    return study, runs


def check_study(study: Study, runs: Sequence[PlannedRun], output: Path | None) -> Findings:
    """Returns what stands in a study's way: its stores, its files and its runs, all held against each other.

    Args:
      study: as its files have it.
      runs: of the study.
      output: folder of the study; None where only stores that it is given count.
    """
    found = inspect_study(study, runs, output)
    problems = [problem for corpus in study.corpora if corpus.files for problem in _of_files(corpus, output)]
    return dataclasses.replace(found, problems=(*found.problems, *problems))


def _of_files(corpus: Corpus, output: Path | None) -> Iterator[str]:
    """Yields what is wrong with a corpus's files: none, or others than those that its store was made of."""
    from triarch.prepare.corpora.files import Files, storage

    try:
        files = Files.matching(corpus.files, unit=corpus.documents)
    except UserError as error:
        yield f"{corpus.title}: {error}"
        return
    folder = None if output is None else store_folder(corpus, output)
    if folder is None or not (folder / FILE_NAME).exists():
        return
    made_of = {file["name"]: file["size"] for file in read_manifest(folder).source.get("files", [])}
    here = {path: storage.size(path) for path in files.paths}
    if changed := sorted(path for path in {*made_of, *here} if made_of.get(path) != here.get(path)):
        yield (
            f"{corpus.title}: {folder} was made of other files than there are now ({changed[0]}"
            f"{f' and {len(changed) - 1} more' if len(changed) > 1 else ''}): choose another --output, or delete it to "
            "have it prepared anew"
        )


def run_config(files: tuple[str, ...], bindings: tuple[str, ...] = ()) -> object:
    """Returns the RunConfig that gin files and bindings describe."""
    return _built(files, bindings)[0]


@functools.lru_cache(maxsize=256)
def _built(files: tuple[str, ...], bindings: tuple[str, ...]) -> tuple[RunConfig, tuple[str, ...]]:
    """Returns the RunConfig, and a line for each binding in the files that has no effect on it."""
    gin_files.parse(files, bindings)
    config = gin_files.build("RunConfig")
    return config, tuple(gin_files.unused_lines())
