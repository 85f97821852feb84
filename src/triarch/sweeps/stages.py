"""What has to be done for a study, as commands: prepare text, then train, evaluate and export each run."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

from triarch.sweeps.design import Run
from triarch.sweeps.study import Corpus, Study


@dataclasses.dataclass(frozen=True)
class Stage:
    """One command, and the file whose presence says that it is done.

    Attributes:
      owner: the run or corpus that the stage belongs to.
      name: "prepare", "train", "evaluate" or "export".
      arguments: of `triarch`.
      result: written last, and whole or not at all.
      log: takes what the command prints.
    """

    owner: str
    name: str
    arguments: tuple[str, ...]
    result: Path
    log: Path

    def with_flags(self, flags: tuple[str, ...]) -> Stage:
        """Returns the stage with further flags of its command."""
        return dataclasses.replace(self, arguments=(*self.arguments, *flags))

    @property
    def done(self) -> bool:
        return self.result.exists()

    @property
    def command(self) -> str:
        """The command as one types it, quoted for a shell."""
        return shlex.join(("triarch", *self.arguments))


def store_folder(corpus: Corpus, output: Path) -> Path:
    """Returns where a corpus's token store lies, or will lie."""
    return Path(corpus.store) if corpus.store else output / "stores" / corpus.task


def run_folder(run: Run, output: Path) -> Path:
    """Returns a run's folder."""
    return output / "runs" / run.name


def export_folder(run: Run, output: Path) -> Path:
    """Returns where a run's parameters are exported to."""
    return output / "exports" / run.name


def compilation_cache(output: Path) -> Path:
    """Returns where a study keeps compiled programs, which its runs share."""
    return output / "compilation_cache"


def prepare_stages(study: Study, output: Path) -> list[Stage]:
    """Returns a stage for each corpus without a store; later corpora take the first one's vocabulary."""
    stages = []
    for corpus in study.corpora:
        if corpus.store:
            continue
        first = corpus is study.corpora[0]
        vocabulary = (
            (f"--vocabulary={study.vocabulary}", f"--vocabulary_size={study.vocabulary_size}")
            if first
            else (f"--vocabulary_from={store_folder(study.corpora[0], output)}",)
        )
        folder = store_folder(corpus, output)
        arguments = ("prepare", f"--task={corpus.task}", f"--output={folder}", f"--window={study.window}", *vocabulary)
        log = output / "logs" / f"prepare_{corpus.task}.txt"
        stages.append(Stage(corpus.task, "prepare", arguments, folder / "manifest.json", log))
    return stages


def run_stages(study: Study, run: Run, output: Path) -> list[Stage]:
    """Returns what is to be done for one run, in order."""
    folder, export = run_folder(run, output), export_folder(run, output)
    train = (
        "train",
        *(f"--gin_file={file}" for file in run.gin_files),
        *(f"--gin.{name}={value!r}" for name, value in run.bindings),
        f"--gin.DataConfig.store={str(store_folder(study.corpora[0], output))!r}",
        f"--gin.RunConfig.compilation_cache={str(compilation_cache(output))!r}",
        f"--workdir={folder}",
    )
    evaluate = (
        "evaluate",
        f"--model={folder}",
        *(f"--{corpus.role}={store_folder(corpus, output)}" for corpus in study.corpora),
        f"--max_windows={study.max_windows}",
        f"--pseudo_positions={study.pseudo_positions}",
        f"--json={folder / 'evaluations.json'}",
    )
    to_orbax = ("export", f"--workdir={folder}", "--format=orbax", f"--output={export}", "--overwrite")
    stages = [("train", train, folder / "summary.json"), ("evaluate", evaluate, folder / "evaluations.json")]
    if study.exports:
        stages.append(("export", to_orbax, export / "manifest.json"))
    return [Stage(run.name, name, arguments, result, folder / f"{name}.log") for name, arguments, result in stages]
