"""Rows with labels to a token store of the layout "labelled"."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from triarch.data.manifest import LABELLED, TOKEN_CLASSES, VOCABULARY, Split, StoreManifest
from triarch.data.partial import full_disk_explained
from triarch.data.store import TokenStore
from triarch.data.writer import StoreWriter, check_output
from triarch.errors import UserError
from triarch.prepare.corpora.documents import BadRecordError
from triarch.prepare.corpora.files import storage
from triarch.prepare.corpora.files.records import checked_string
from triarch.prepare.corpora.files.rows import Row, rows
from triarch.prepare.corpora.origins import Origins
from triarch.prepare.corpora.splits import split_names, split_of
from triarch.prepare.counts import LeftOutCounts
from triarch.prepare.labelled.framing import FramedRow, Text, framing
from triarch.prepare.labelled.labels import NO_LABEL, LabelReader, as_array, class_names_of, find_labels
from triarch.prepare.layouts import check_window
from triarch.prepare.pipeline import UINT16_IDS
from triarch.prepare.vocabulary_choice import VocabularyChoice
from triarch.progress import Progress
from triarch.tokenizers import Tokenizer

TRAIN = "train"
_BATCH = 1000


@dataclasses.dataclass(frozen=True)
class LabelledFiles:
    """Files whose rows have texts and labels.

    Attributes:
      paths: by split; local paths, or URLs that fsspec knows.
      text_field: the field or column of a row's text, or of its words, a list.
      label_field: of its label, or of its words' labels, a list.
      pair_field: of its second text; None for none.
      columns: of TSV and CSV files that do not begin with their columns' names.
      regression: whether labels are numbers, not classes.
      names: of the classes in their order; None for those that the training split has.
      skip_bad_records: leave out rows that cannot be read or have no label, and count them.
    """

    paths: Mapping[str, Sequence[str]]
    text_field: str
    label_field: str
    pair_field: str | None = None
    columns: tuple[str, ...] = ()
    regression: bool = False
    names: tuple[str, ...] | None = None
    skip_bad_records: bool = False

    @property
    def fields(self) -> list[str]:
        """Those that every row must have."""
        return [name for name in (self.text_field, self.pair_field, self.label_field) if name is not None]


@dataclasses.dataclass
class _Read:
    """What was read of the files.

    Attributes:
      rows: by split.
      left_out: the others, counted.
    """

    rows: dict[str, list[Row]]
    left_out: LeftOutCounts = dataclasses.field(default_factory=LeftOutCounts)


def prepare_labelled(
    files: LabelledFiles,
    task: str,
    output: Path,
    vocabulary: VocabularyChoice,
    window: int,
    validation_fraction: float,
    overwrite: bool = False,
    show_progress: bool = False,
) -> TokenStore:
    """Writes rows with labels as a token store: an example a row, framed as a model reads it, and padding.

    Args:
      files: that hold the rows.
      task: name to record.
      output: folder of the store; nothing is there until all is written.
      vocabulary: which one; it must be there.
      window: tokens of an example; what is longer is cut.
      validation_fraction: of the rows, where no files of validation are given.
      overwrite: replace a store that is at `output`.
      show_progress: draw a progress bar on stderr if it is a terminal.

    Raises:
      UserError: a row is bad (unless such are skipped), a label missing or unknown, there is one class only, a split
        has no row, there is no vocabulary, an existing output, a full disk.
    """
    check_window(window)
    tokenizer = vocabulary.required(f"--layout={LABELLED}")
    check_output(output, overwrite)
    with Progress(show_progress) as progress:
        progress.start("reading", None)
        read = _read(files, validation_fraction)
        reader = _labels(files, read)
        dtype = "uint16" if tokenizer.info.size <= UINT16_IDS else "int32"
        kind = reader.labels.kind
        with (
            StoreWriter(
                output,
                window,
                dtype,
                overwrite,
                segments=True,
                label_bytes=4 * (window if kind == TOKEN_CLASSES else 1),
            ) as writer,
            full_disk_explained(output),
        ):
            _write(writer, files, task, tokenizer, window, dtype, read, reader, progress, validation_fraction)
    return TokenStore.open(output)


def _read(files: LabelledFiles, validation_fraction: float) -> _Read:
    """Returns the rows by split, those of training shared out where no others are for validation."""
    share = validation_fraction if "validation" not in files.paths else 0.0
    names = [*split_names(share), *(name for name in files.paths if name != TRAIN)]
    read = _Read({name: [] for name in names})
    for split, paths in files.paths.items():
        for path in paths:
            for row in rows(path, files.fields, files.columns):
                try:
                    if isinstance(row, BadRecordError):
                        raise row
                    _check_texts(files, row)
                except BadRecordError as error:
                    if not files.skip_bad_records:
                        raise
                    read.left_out.add(error)
                    continue
                own = split_of(_key(files, row), share) if split == TRAIN and share else split
                read.rows[own].append(row)
    for name, found in read.rows.items():
        if not found:
            told = read.left_out.told()
            raise UserError(f"split {name!r} has no row{told}: give more, or another --validation_fraction")
    return read


def _key(files: LabelledFiles, row: Row) -> str:
    """Returns what decides the split of a row: its texts, so that none is in two splits."""
    texts = [row.values[name] for name in (files.text_field, files.pair_field) if name is not None]
    return hashlib.sha256("\n".join(map(str, texts)).encode("utf-8", "surrogatepass")).hexdigest()


def _check_texts(files: LabelledFiles, row: Row) -> None:
    of_words = isinstance(row.values[files.label_field], list | tuple)
    for name in (files.text_field, files.pair_field):
        if name is None:
            continue
        text = row.values[name]
        parts = text if of_words and isinstance(text, list | tuple) else [text]
        for part in parts:
            checked_string(part, name, row.place)
        if not any(part.strip() for part in parts):
            raise BadRecordError("empty", row.place, f"field {name!r} is empty")
    if of_words:
        words, labels = row.values[files.text_field], row.values[files.label_field]
        if not isinstance(words, list | tuple):
            told = f"field {files.label_field!r} is a list, so {files.text_field!r} is expected to be a list of words"
            raise BadRecordError("not words", row.place, told)
        if len(words) != len(labels):
            told = f"{len(words)} words in {files.text_field!r} and {len(labels)} labels in {files.label_field!r}"
            raise BadRecordError("words without labels", row.place, told)
        if files.pair_field is not None:
            raise BadRecordError("words", row.place, "words with labels come alone: give no --pair_field")


def _labels(files: LabelledFiles, read: _Read) -> LabelReader:
    """Returns the reader of the rows' labels, having left out the rows whose label it cannot read."""
    field = files.label_field

    def raw() -> dict[str, list[tuple[Any, str]]]:
        return {split: [(row.values[field], row.place) for row in found] for split, found in read.rows.items()}

    if files.skip_bad_records and files.names is None and not files.regression:
        _drop(read, files, lambda row: class_names_of(row.values[field], field, row.place))
    reader = find_labels(raw(), field, files.regression, files.names)
    if files.skip_bad_records:
        _drop(read, files, lambda row: _number(reader, row.values[field], row.place))
    return reader


def _drop(read: _Read, files: LabelledFiles, check: Callable[[Row], Any]) -> None:
    """Leaves out the rows that `check` raises a BadRecordError for."""
    for split, found in read.rows.items():
        kept = []
        for row in found:
            try:
                check(row)
            except BadRecordError as error:
                read.left_out.add(error)
            else:
                kept.append(row)
        read.rows[split] = kept
        if not kept:
            raise UserError(f"split {split!r} has no row with a label in {files.label_field!r}")


def _number(reader: LabelReader, raw: Any, place: str) -> Any:
    of_words = reader.labels.kind == TOKEN_CLASSES
    if isinstance(raw, list | tuple) != of_words:
        told = "a list, expected one label" if not of_words else "one label, expected a list"
        raise BadRecordError("not a label", place, f"field {reader.field!r} is {told}")
    return reader.numbers(raw, place) if of_words else reader.number(raw, place)


def _write(
    writer: StoreWriter,
    files: LabelledFiles,
    task: str,
    tokenizer: Tokenizer,
    window: int,
    dtype: str,
    read: _Read,
    reader: LabelReader,
    progress: Progress,
    validation_fraction: float,
) -> None:
    frame, pad = framing(tokenizer, window), tokenizer.info.special["pad"]
    splits: dict[str, Split] = {}
    cut = 0
    for name, found in read.rows.items():
        progress.start(f"tokenizing {name}", len(found))
        tokens = num_bytes = 0
        for batch in _batches(found):
            texts = [_texts(files, row) for row in batch]
            framed = list(frame(texts))
            labels = [_number(reader, row.values[files.label_field], row.place) for row in batch]
            writer.write(name, *_laid_out(framed, labels, reader.labels.kind, window, pad))
            lengths = np.array([len(one.tokens) for one in framed], np.int64)
            origins = Origins.of([row.origin for row in batch], lengths[:, None])
            starts = tokens + np.cumsum(lengths) - lengths
            writer.write_documents(name, np.column_stack([origins.rows, starts]), origins.sources)
            tokens += int(lengths.sum())
            num_bytes += sum(_num_bytes(text) for text in texts)
            cut += sum(one.is_cut for one in framed)
            progress.advance(len(batch))
        splits[name] = Split(len(found), len(found), tokens, 0, num_bytes, writer.finish_files(name))
    source = {
        "files": {split: [storage.provenance(path) for path in paths] for split, paths in files.paths.items()},
        **{name: getattr(files, name) for name in ("text_field", "pair_field", "label_field") if getattr(files, name)},
        "validation_fraction": validation_fraction if "validation" not in files.paths else 0.0,
        "left_out": read.left_out.to_json(),
        "cut_documents": cut,
    }
    manifest = StoreManifest(
        task=task,
        layout=LABELLED,
        window=window,
        dtype=dtype,
        vocabulary=tokenizer.info,
        splits=splits,
        source=source,
        provenance={name: writer.finish_provenance(name) for name in splits},
        labels=reader.labels,
    )
    folder = writer.folder / VOCABULARY
    folder.mkdir(exist_ok=True)
    tokenizer.save(folder)
    writer.finish(manifest, tokenizer.token_bytes)


def _batches(found: Sequence[Row]) -> Iterable[Sequence[Row]]:
    return (found[start : start + _BATCH] for start in range(0, len(found), _BATCH))


def _texts(files: LabelledFiles, row: Row) -> tuple[Text, str | None]:
    return row.values[files.text_field], None if files.pair_field is None else row.values[files.pair_field]


def _num_bytes(texts: tuple[Text, str | None]) -> int:
    first, second = texts
    words = [first] if isinstance(first, str) else first
    return sum(len(word.encode()) for word in words) + len((second or "").encode())


def _laid_out(
    framed: Sequence[FramedRow], labels: Sequence[Any], kind: str, window: int, pad: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns tokens and segment ids, int32[examples, window], and labels."""
    tokens = np.full((len(framed), window), pad, np.int32)
    segments = np.zeros((len(framed), window), np.int32)
    for row, one in enumerate(framed):
        tokens[row, : len(one.tokens)] = one.tokens
        segments[row, : len(one.tokens)] = one.types + 1
    if kind != TOKEN_CLASSES:
        return tokens, segments, as_array(labels, kind)[:, None]
    of_tokens = np.full((len(framed), window), NO_LABEL, np.int32)
    for row, (one, own) in enumerate(zip(framed, labels, strict=True)):
        # A word's first token has its label.
        begins = (one.words >= 0) & (one.words != np.concatenate([[-1], one.words[:-1]]))
        of_tokens[row, np.flatnonzero(begins)] = np.array(own, np.int32)[one.words[begins]]
    return tokens, segments, of_tokens
