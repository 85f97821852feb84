"""What stands in a study's way, found before its first step: every store is opened, for every run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from triarch.data.manifest import FILE_NAME, Vocabulary
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.evaluation import open_corpus
from triarch.sweeps.design import PlannedRun
from triarch.sweeps.stages import store_folder
from triarch.sweeps.study import Corpus, Study
from triarch.training.inputs import open_inputs


@dataclasses.dataclass(frozen=True)
class Findings:
    """What looking at a study's text and runs gave, in lines.

    Attributes:
      problems: for which runs or evaluations would fail, or not be comparable.
      notes: worth knowing.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]

    def refuse(self) -> None:
        """Raises UserError if there is any problem."""
        if self.problems:
            raise UserError("; ".join(self.problems))


def inspect_study(study: Study, runs: Sequence[PlannedRun], output: Path | None) -> Findings:
    """Opens every store there is and holds it against the study and its runs.

    Args:
      study: as its files have it.
      runs: of the study.
      output: folder of the study, in which its prepared stores lie; None where only stores that it is given count.
    """
    problems, notes = list(_mixed_vocabularies(runs)), []
    stores: dict[int, list[TokenStore]] = {}
    for number, corpus in enumerate(study.corpora):
        folder = _folder(corpus, output)
        if folder is None:
            continue
        if output is None and not folder.exists():
            notes.append(f"{corpus.title}: no store {folder} here yet")
            continue
        try:
            stores[number] = _opened(study, corpus, folder)
        except UserError as error:
            problems.append(f"{corpus.title}: {error}")
    problems += _unlike_vocabularies(study, stores)
    if 0 in stores:
        problems += _untrainable(runs, stores[0][0])
        notes += _padded(runs, stores[0][0].manifest.vocabulary)
    return Findings(tuple(dict.fromkeys(problems)), tuple(dict.fromkeys(notes)))


def _folder(corpus: Corpus, output: Path | None) -> Path | None:
    """Returns where a corpus's store must be; None where the study has yet to prepare it."""
    if corpus.store:
        return Path(corpus.store)
    folder = None if output is None else store_folder(corpus, output)
    return folder if folder is not None and (folder / FILE_NAME).exists() else None


def _opened(study: Study, corpus: Corpus, folder: Path) -> list[TokenStore]:
    """Returns the stores of a corpus; each has something in every split that is evaluated on."""
    first = corpus is study.corpora[0]
    if first and folder.is_dir() and not (folder / FILE_NAME).exists() and any(folder.glob(f"*/{FILE_NAME}")):
        raise UserError(f"{folder}: is a folder of stores, and a study trains on one store")
    domains = [domain for name, split in corpus.texts for domain in open_corpus(folder, corpus.role, name, split)]
    for domain in domains:
        if domain.split is not None:
            domain.store.split(domain.split)
    stores = list({domain.store.path: domain.store for domain in domains}.values())
    if not corpus.store:
        _check_prepared(study, corpus, stores[0])
    return stores


def _check_prepared(study: Study, corpus: Corpus, store: TokenStore) -> None:
    """Raises UserError if a store that the study prepared was prepared otherwise than it would be now."""
    manifest = store.manifest
    wanted: dict[str, tuple[object, object]] = {
        "task": (manifest.task, corpus.task or "files"),
        "window": (manifest.window, study.window),
        "validation_fraction": (manifest.source.get("validation_fraction"), corpus.validation_fraction),
        "hold_out": (list(manifest.source.get("hold_out", [])), list(corpus.hold_out)),
    }
    if corpus.files:
        wanted["documents"] = (manifest.source.get("unit"), corpus.documents)
        wanted["text_field"] = (manifest.source.get("text_field"), corpus.text_field)
    if corpus is study.corpora[0] and study.vocabulary == "sentencepiece":
        wanted["vocabulary_size"] = (manifest.vocabulary.size, study.vocabulary_size)
    changed = [f"{name}: {old!r} -> {new!r}" for name, (old, new) in wanted.items() if old != new]
    if changed:
        raise UserError(
            f"{store.path} was prepared otherwise ({'; '.join(changed)}): set these back, choose another --output, or "
            "delete it to have it prepared anew"
        )


def _mixed_vocabularies(runs: Sequence[PlannedRun]) -> Iterator[str]:
    first = {run.config.model.vocab_size: run for run in reversed(runs)}
    if len(first) > 1:
        sizes = ", ".join(f"{size:,} of {run.name}" for size, run in sorted(first.items()))
        yield (
            f"the runs' models have vocabularies of several sizes ({sizes}), so neither parameters nor FLOPs compare: "
            "set one ModelConfig.vocab_size in Study.settings"
        )


def _unlike_vocabularies(study: Study, stores: dict[int, list[TokenStore]]) -> Iterator[str]:
    if 0 not in stores:
        return
    first = stores[0][0]
    for number, own in stores.items():
        for store in own:
            ours, theirs = first.manifest.vocabulary, store.manifest.vocabulary
            if ours.fingerprint != theirs.fingerprint:
                yield (
                    f"{study.corpora[number].title}: {store.path} has another vocabulary ({_described(theirs)}) than "
                    f"{first.path} ({_described(ours)}): prepare it again with --vocabulary_from={first.path}"
                )


def _described(vocabulary: Vocabulary) -> str:
    return f"{vocabulary.kind}, {vocabulary.size:,} ids, sha256 {vocabulary.fingerprint[:12]}"


def _untrainable(runs: Sequence[PlannedRun], store: TokenStore) -> Iterator[str]:
    """Yields what keeps runs from training on a store, once for all runs that it keeps."""
    failed: dict[str, list[str]] = {}
    for run in runs:
        data = dataclasses.replace(run.config.data, store=str(store.path))
        try:
            open_inputs(dataclasses.replace(run.config, data=data))
        except UserError as error:
            failed.setdefault(str(error), []).append(run.name)
    for reason, names in failed.items():
        yield f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {reason}"


def _padded(runs: Sequence[PlannedRun], vocabulary: Vocabulary) -> Iterator[str]:
    for rows in sorted({run.config.model.vocab_size for run in runs}):
        if rows > vocabulary.size:
            yield (
                f"the models have {rows:,} ids, the text's vocabulary {vocabulary.size:,}: the rest are never used, "
                "and count as parameters of the embedding"
            )
