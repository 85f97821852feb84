"""What has to be done for a study, as commands: prepare text, then train, evaluate and export each run."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triarch import schema
from triarch.errors import UserError
from triarch.evaluation import Domain, Options, open_corpus
from triarch.schema import Anything, MapOf
from triarch.sweeps.design import PlannedRun
from triarch.sweeps.study import Corpus, Study


@dataclasses.dataclass(frozen=True)
class Stage:
    """One command, and the file that says whether it is done.

    Attributes:
      owner: the run or corpus that the stage belongs to.
      name: "prepare", "train", "evaluate" or "export".
      arguments: of `triarch`.
      result: written last, and whole or not at all.
      log: takes what the command prints.
      made_with: what the result, a JSON file, must say, by dotted keys: the stage is done for these inputs only. None
        where the presence of the result is enough.
    """

    owner: str
    name: str
    arguments: tuple[str, ...]
    result: Path
    log: Path
    made_with: Mapping[str, Any] | None = None

    def with_flags(self, flags: tuple[str, ...]) -> Stage:
        """Returns the stage with further flags of its command."""
        return dataclasses.replace(self, arguments=(*self.arguments, *flags))

    @property
    def done(self) -> bool:
        if self.made_with is None or not self.result.exists():
            return self.result.exists()
        try:
            said = schema.read(self.result, MapOf(Anything()))
            return all(_at(said, key) == value for key, value in self.made_with.items())
        except (OSError, UserError, TypeError, KeyError):
            return False

    @property
    def command(self) -> str:
        """The command as one types it, quoted for a shell."""
        return shlex.join(("triarch", *self.arguments))


def _at(fields: Any, key: str) -> Any:
    for name in key.split("."):
        fields = fields[name]
    return fields


def store_folder(corpus: Corpus, output: Path) -> Path:
    """Returns where a corpus's token store lies, or will lie."""
    return Path(corpus.store) if corpus.store else output / "stores" / corpus.title


def run_folder(run: PlannedRun, output: Path) -> Path:
    """Returns a run's folder."""
    return output / "runs" / run.owner


def export_folder(run: PlannedRun, output: Path) -> Path:
    """Returns where a run's parameters are exported to."""
    return output / "exports" / run.owner


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
        arguments = ("prepare", *_text(corpus), f"--output={folder}", f"--window={study.window}", *vocabulary)
        log = output / "logs" / f"prepare_{corpus.title}.txt"
        stages.append(Stage(corpus.title, "prepare", arguments, folder / "manifest.json", log))
    return stages


def _text(corpus: Corpus) -> tuple[str, ...]:
    """Returns the flags that say which text a store is made of."""
    held_out = (
        *(f"--hold_out={pattern}" for pattern in corpus.hold_out),
        f"--validation_fraction={corpus.validation_fraction!r}",
    )
    if corpus.task:
        return f"--task={corpus.task}", *held_out
    files = tuple(f"--files={pattern}" for pattern in corpus.files)
    return "--task=files", *files, f"--documents={corpus.documents}", f"--text_field={corpus.text_field}", *held_out


def domains(study: Study, output: Path) -> list[Domain]:
    """Opens everything that a study evaluates on, in order.

    Raises:
      UserError: a store is missing or damaged.
    """
    return [
        domain
        for corpus in study.corpora
        for name, split in corpus.texts
        for domain in open_corpus(store_folder(corpus, output), corpus.role, name, split)
    ]


def evaluation_options(study: Study) -> Options:
    """Returns what of each text is scored."""
    return Options(max_windows=study.max_windows, pseudo_positions=study.pseudo_positions)


def run_stages(study: Study, run: PlannedRun, output: Path, made_with: Mapping[str, Any] | None = None) -> list[Stage]:
    """Returns what is to be done for one run, in order.

    Args:
      study: that it belongs to.
      run: of the study.
      output: folder of the study.
      made_with: what its evaluation has to be made with, of the checkpoint that is exported too; None to take whatever
        is there.
    """
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
        *(
            f"--{corpus.role}={name}={store_folder(corpus, output)}@{split}"
            for corpus in study.corpora
            for name, split in corpus.texts
        ),
        f"--max_windows={study.max_windows}",
        f"--pseudo_positions={study.pseudo_positions}",
        f"--json={folder / 'evaluations.json'}",
    )
    to_orbax = ("export", f"--workdir={folder}", "--format=orbax", f"--output={export}", "--overwrite")
    stages: list[tuple[str, tuple[str, ...], Path, Any]] = [("train", train, folder / "summary.json", None)]
    evaluated, exported = None, None
    if made_with is not None:
        evaluated, exported = {"made_with": made_with}, {"source.checkpoint": made_with["checkpoint"]}
    stages.append(("evaluate", evaluate, folder / "evaluations.json", evaluated))
    if study.exports:
        stages.append(("export", to_orbax, export / "manifest.json", exported))
    return [
        Stage(run.owner, name, arguments, result, folder / f"{name}.log", inputs)
        for name, arguments, result, inputs in stages
    ]
