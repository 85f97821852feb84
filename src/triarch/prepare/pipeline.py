"""A corpus to a token store."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch import schema
from triarch.data.manifest import LAYOUTS, VOCABULARY, StoreManifest, parse_vocabulary
from triarch.data.partial import full_disk_explained
from triarch.data.store import TokenStore
from triarch.data.writer import StoreWriter, check_output
from triarch.errors import UserError, nearest
from triarch.files import write_whole
from triarch.prepare.corpora.documents import Corpus, Document, LeftOut, has_inputs
from triarch.prepare.corpora.duplicates import Duplicates, digests, find_duplicates
from triarch.prepare.corpora.selection import Filters, selected
from triarch.prepare.corpora.splits import DEFAULT_VALIDATION_FRACTION, Splitting, split_names
from triarch.prepare.counts import Counts
from triarch.prepare.layouts import OF_PAIRS, PACKED, WINDOWS, check_window, make_layout
from triarch.prepare.tokenization import ChunkTokenizer, TokenizedChunk, tokenize
from triarch.prepare.vocabulary_choice import VocabularyChoice, training_texts
from triarch.progress import Progress
from triarch.schema import Anything
from triarch.tokenizers import Tokenizer, read_tokenizer
from triarch.version import __version__

if TYPE_CHECKING:
    from triarch.prepare.beam import Beam

__all__ = ["VocabularyChoice", "prepare"]

UINT16_IDS = 2**16
# What an interruption loses at most.
CHECKPOINT_SECONDS = 30
_DUPLICATES = "duplicates.npz"
_TRAINED = "vocabulary.json"


def prepare(
    corpus: Corpus,
    task: str,
    output: Path,
    vocabulary: VocabularyChoice,
    window: int,
    validation_fraction: float = DEFAULT_VALIDATION_FRACTION,
    workers: int | None = None,
    overwrite: bool = False,
    show_progress: bool = False,
    filters: Filters | None = None,
    layout: str = WINDOWS,
    lengths: Mapping[str, int] | None = None,
    beam: Beam | None = None,
    hold_out: tuple[str, ...] = (),
    gap: int = 0,
) -> TokenStore:
    """Writes `corpus` as a token store.

    Each document goes to the split its key says and is followed by the end-of-document token. In the layout "windows" a
    split's documents are concatenated and cut into windows of `window` tokens, and the last incomplete window is left
    out and counted; in the layout "packed" whole documents lie side by side, see `layouts.FirstFit`; in the layout
    "pairs" an example is a document's inputs and, as targets, its text, each cut to its length; in the layout
    "packed_pairs" several such lie side by side, all inputs together no longer than one may be, nor all targets. The
    store's bytes do not depend on `workers`, on `beam`, nor on interruptions: called again with the same arguments, it
    resumes. Nothing is at `output` until all is written.

    Args:
      corpus: documents to write.
      task: name to record.
      output: folder of the store.
      vocabulary: which vocabulary.
      window: tokens an example; not of pairs.
      validation_fraction: of the documents; 0 or 1 makes a store of one split.
      workers: processes that tokenize; all cores when None.
      overwrite: replace a store that is at `output`.
      show_progress: draw a progress bar on stderr if it is a terminal.
      filters: which documents are kept; all when None.
      layout: "windows", "packed", "pairs" or "packed_pairs".
      lengths: of pairs, how many tokens "inputs" and "targets" may have, ends included.
      beam: tokenizes on other machines, file by file, in place of processes here.
      hold_out: patterns of documents that go to a split "test" beside these, see `splits.Splitting`.
      gap: in the layout "packed", tokens left free for each document of a row but one, see `layouts.FirstFit`.

    Raises:
      UserError: bad text, an empty corpus, a split shorter than one window, a vocabulary too large for the text, an
        existing output, a full disk.
    """
    splitting = Splitting(validation_fraction, hold_out)
    split_names(validation_fraction)
    if layout not in LAYOUTS:
        raise UserError(f"layout={layout!r}: unknown layout{nearest(layout, LAYOUTS)}")
    if layout in OF_PAIRS:
        window = _pairs_window(corpus, task, layout, lengths or {})
    check_window(window)
    if gap and layout != PACKED:
        raise UserError(f"gap={gap}: tokens are left free between documents in the layout {PACKED!r}, not {layout!r}")
    if not 0 <= gap < window:
        raise UserError(f"gap={gap}: expected 0 or more, below the window of {window}")
    workers = workers if workers is not None else len(os.sched_getaffinity(0))
    if workers < 1:
        raise UserError(f"workers={workers}: expected at least 1")
    check_output(output, overwrite)
    if layout not in OF_PAIRS:
        lengths = None
    preparation = _Preparation(
        corpus, task, vocabulary, layout, window, lengths, splitting, filters or Filters(), beam, gap or None
    )
    with (
        Progress(show_progress) as progress,
        StoreWriter(
            output, window, preparation.dtype, overwrite, job=preparation.job, segments=layout != WINDOWS
        ) as writer,
        full_disk_explained(output),
    ):
        preparation.run(writer, workers, progress)
    return TokenStore.open(output)


class _Preparation:
    """The steps of one call of `prepare`; each finds what an interrupted call left of it."""

    def __init__(
        self,
        corpus: Corpus,
        task: str,
        vocabulary: VocabularyChoice,
        layout: str,
        window: int,
        lengths: Mapping[str, int] | None,
        splitting: Splitting,
        filters: Filters,
        beam: Beam | None,
        gap: int | None,
    ):
        self._corpus = corpus
        self._task = task
        self._vocabulary = vocabulary
        self._layout = layout
        self._window = window
        self._lengths = lengths
        self._splitting = splitting
        self._filters = filters
        self._beam = beam
        self._gap = gap
        self._given = vocabulary.existing()
        num_ids = vocabulary.size + vocabulary.extra.count if self._given is None else self._given.info.size
        self.dtype = "uint16" if num_ids <= UINT16_IDS else "int32"

    @functools.cached_property
    def job(self) -> str:
        """What decides the store's bytes, and in which steps they are made."""
        vocabulary = self._vocabulary if self._given is None else self._given.info.fingerprint
        options = (
            self._task,
            vocabulary,
            self._layout,
            self._window,
            self._lengths,
            self._splitting,
            self._filters,
            self._beam is not None,
            self._gap,
        )
        return repr((__version__, self._corpus.version, *options))

    def run(self, writer: StoreWriter, workers: int, progress: Progress) -> None:
        """Writes the store and completes it."""
        duplicates = self._duplicates(writer, progress)
        tokenizer = self._given or self._trained(writer, duplicates, progress)
        counts = self._tokenize(writer, tokenizer, duplicates, workers, progress)
        counts.check(self._task, self._layout, self._window)
        manifest = StoreManifest(
            task=self._task,
            layout=self._layout,
            window=self._window,
            dtype=self.dtype,
            vocabulary=tokenizer.info,
            splits={name: split.manifest(writer, name) for name, split in counts.splits.items()},
            source=self._source(counts),
            lengths=self._lengths,
            provenance={name: writer.finish_provenance(name) for name in counts.splits},
            gap=self._gap,
        )
        folder = writer.folder / VOCABULARY
        folder.mkdir(exist_ok=True)
        tokenizer.save(folder)
        writer.finish(manifest, tokenizer.token_bytes)
        if self._beam is not None:
            self._beam.remove(self.job, writer.scratch)

    def _duplicates(self, writer: StoreWriter, progress: Progress) -> Duplicates | None:
        if not self._filters.deduplicate:
            return None
        path = writer.scratch / _DUPLICATES
        if not path.is_file():
            self._found_duplicates(writer.scratch, progress).save(path)
        return Duplicates.load(path)

    def _found_duplicates(self, scratch: Path, progress: Progress) -> Duplicates:
        if self._beam is None:
            progress.start("looking for duplicates", self._corpus.size)
            return find_duplicates([digests(self._corpus, self._filters, progress.advance)], scratch)
        from triarch.prepare.shards import find_shards_duplicates

        progress.start("looking for duplicates on Beam", None)
        folder = self._beam.folder_of(self.job, scratch)
        return find_shards_duplicates(self._corpus, self._filters, self._beam, folder, scratch)

    def _trained(self, writer: StoreWriter, duplicates: Duplicates | None, progress: Progress) -> Tokenizer:
        path, folder = writer.scratch / _TRAINED, writer.folder / VOCABULARY
        if path.is_file():
            info = parse_vocabulary(schema.read(path, Anything()), str(path))
            return read_tokenizer(info, folder, str(writer.output))
        progress.start("reading for the vocabulary", self._corpus.size)
        records = self._selected(duplicates)
        texts = training_texts(records, self._splitting, progress.advance)
        tokenizer = self._vocabulary.trained(_announced(texts, progress))
        folder.mkdir(exist_ok=True)
        tokenizer.save(folder)
        write_whole(path, json.dumps(dataclasses.asdict(tokenizer.info)))
        return tokenizer

    def _tokenize(
        self,
        writer: StoreWriter,
        tokenizer: Tokenizer,
        duplicates: Duplicates | None,
        workers: int,
        progress: Progress,
    ) -> Counts:
        pad = tokenizer.info.special["pad"]
        make = functools.partial(make_layout, self._layout, self._window, pad, lengths=self._lengths, gap=self._gap)
        counts = Counts.from_json(writer.state, self._splitting.names, make)
        work = ChunkTokenizer(
            tokenizer, self.dtype, self._splitting.validation_fraction, self._lengths, self._splitting.hold_out
        )
        if self._beam is None:
            records = self._all_held_out(self._selected(duplicates))
            chunks = tokenize(itertools.islice(records, counts.records, None), work, workers)
        else:
            chunks = self._tokenized_by_beam(writer, work, duplicates, counts.records, progress)
        progress.start("tokenizing" if self._beam is None else "writing", self._corpus.size)
        progress.advance(counts.progress)
        saved = time.monotonic()
        for chunk in chunks:
            counts.add(chunk, writer)
            progress.advance(chunk.progress)
            if counts.between_documents and time.monotonic() - saved >= CHECKPOINT_SECONDS:
                writer.checkpoint(counts.to_json())
                saved = time.monotonic()
        return counts

    def _all_held_out(self, records: Iterator[Document | LeftOut]) -> Iterator[Document | LeftOut]:
        """Yields the records; raises UserError at their end if a pattern held none of them out."""
        unmatched = set(self._splitting.hold_out)
        for record in records:
            if unmatched and isinstance(record, Document):
                unmatched.difference_update(self._splitting.matching(record))
            yield record
        if unmatched:
            raise UserError(f"--hold_out={sorted(unmatched)[0]}: no file name and no id matches")

    def _selected(self, duplicates: Duplicates | None) -> Iterator[Document | LeftOut]:
        return selected(self._corpus, self._filters, None if duplicates is None else duplicates.bits)

    def _tokenized_by_beam(
        self,
        writer: StoreWriter,
        work: ChunkTokenizer,
        duplicates: Duplicates | None,
        done: int,
        progress: Progress,
    ) -> Iterator[TokenizedChunk]:
        """Tokenizes everything, then returns the chunks after the first `done` records, which is where one begins."""
        from triarch.prepare.shards import tokenize_shards

        assert self._beam is not None
        progress.start("tokenizing on Beam", None)
        folder = self._beam.folder_of(self.job, writer.scratch)
        chunks = tokenize_shards(self._corpus, self._filters, work, self._beam, folder, duplicates)
        while done:
            done -= next(chunks).records
        return chunks

    def _source(self, counts: Counts) -> dict[str, Any]:
        return {
            **self._corpus.provenance(),
            "validation_fraction": self._splitting.validation_fraction,
            **({"hold_out": list(self._splitting.hold_out)} if self._splitting.hold_out else {}),
            "filters": dataclasses.asdict(self._filters),
            **({"token_bytes": counts.other_token_bytes} if counts.other_token_bytes else {}),
            "lossy_documents": sum(split.lossy_documents for split in counts.splits.values()),
            "left_out": counts.left_out.to_json(),
            **({"tasks": counts.tasks} if any(counts.tasks.values()) else {}),
            "cut_documents": sum(split.cut_documents for split in counts.splits.values()),
            "parted_documents": sum(split.parted_documents for split in counts.splits.values()),
        }


def _pairs_window(corpus: Corpus, task: str, layout: str, lengths: Mapping[str, int]) -> int:
    """Returns how many tokens an example's inputs and targets have together at most."""
    if not has_inputs(corpus):
        raise UserError(
            f"layout={layout!r}: the documents of {task} have no inputs: name their field with --inputs_field"
        )
    for name in ("inputs", "targets"):
        if lengths.get(name, 0) < 1:
            raise UserError(f"max_{name}={lengths.get(name)}: expected at least 1")
    if lengths["targets"] < 2:
        raise UserError("max_targets=1: leaves nothing of targets but the token that ends them: expected at least 2")
    return sum(lengths.values())


def _announced(texts: Iterator[str], progress: Progress) -> Iterator[str]:
    yield from texts
    progress.start("training the vocabulary", None)
