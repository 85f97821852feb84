"""Documents to token streams, in parallel processes, in the documents' order."""

from __future__ import annotations

import collections
import dataclasses
import functools
import multiprocessing
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from triarch.errors import UserError
from triarch.prepare.corpora.documents import Document, LeftOut
from triarch.prepare.corpora.origins import Origins
from triarch.prepare.corpora.splits import Splitting
from triarch.prepare.worker_processes import end_with_parent, interrupts_blocked
from triarch.tokenizers import Tokenizer
from triarch.tokenizers.base import encode_rendered
from triarch.tokenizers.cuts import TextPart

# Characters of text a process gets at a time: large beside the cost of handing over, small beside memory.
_CHUNK_CHARACTERS = 2**20
# What a record weighs beside its text, lest millions of short ones, or of such as are left out, gather in a chunk.
_RECORD_CHARACTERS = 100
# Longer documents are handed over part by part.
_LONG_CHARACTERS = 2**22
# What may be under way at a time for each process, but for a document alone that cannot be taken apart.
_CHARACTERS_A_WORKER = 2**22


@dataclasses.dataclass(frozen=True)
class TokenizedSplit:
    """Consecutive documents of one split; or, where there are tokens and no documents, a part of the next one.

    Attributes:
      tokens: the documents' ids one after another, each document ended by the end-of-document id; the store's dtype.
      documents: how many.
      lengths: int64[documents]: how many tokens each has, its end included. Of pairs int64[2 * documents]: of inputs
        and targets by turns.
      bytes: UTF-8 bytes of their text.
      token_bytes: bytes that their tokens stand for.
      lossy_documents: how many of them stand for other bytes than the text's (given vocabularies only).
      cut_documents: how many of them lost their end, for they were too long (pairs only).
      parted_documents: how many of them were tokenized in parts that may show: see `tokenizers.cuts`.
      origins: where they come from, and how many tokens each had before it was cut.
      tasks: how many documents there are of each task, of those that say theirs.
    """

    tokens: np.ndarray
    documents: int
    lengths: np.ndarray
    bytes: int
    token_bytes: int
    lossy_documents: int
    cut_documents: int
    parted_documents: int
    origins: Origins
    tasks: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class TokenizedChunk:
    """Consecutive records.

    Attributes:
      splits: the documents among them.
      left_out: the others.
      records: how many all are.
      progress: how far the corpus has been read for them.
    """

    splits: dict[str, TokenizedSplit]
    left_out: list[LeftOut]
    records: int
    progress: int


@dataclasses.dataclass(frozen=True)
class DocumentPart:
    """A part of a long document: the parts' ids, one after another, are the document's.

    Attributes:
      text: the part's, and how it follows the one before.
      split: the document's.
      last: what is known of the document beside its text; None of all parts but the last.
    """

    text: TextPart
    split: str
    last: Document | None


Record = Document | LeftOut | DocumentPart


@dataclasses.dataclass(frozen=True)
class ChunkTokenizer:
    """Tokenizes a list of records: the work of one process.

    Attributes:
      tokenizer: of the store.
      dtype: of the ids.
      validation_fraction: decides the splits, see `Splitting`.
      lengths: of pairs, how many tokens "inputs" and "targets" may have, ends included; what is longer is cut. None for
        documents that are one text.
      hold_out: decides the splits too.
    """

    tokenizer: Tokenizer
    dtype: str
    validation_fraction: float
    lengths: Mapping[str, int] | None = None
    hold_out: tuple[str, ...] = ()

    @functools.cached_property
    def splitting(self) -> Splitting:
        """How documents are shared out."""
        return Splitting(self.validation_fraction, self.hold_out)

    def __call__(self, records: list[Record]) -> TokenizedChunk:
        if records and isinstance(records[0], DocumentPart):
            return self._tokenize_part(records[0])
        by_split: dict[str, list[Document]] = collections.defaultdict(list)
        left_out: list[LeftOut] = []
        for record in records:
            if isinstance(record, LeftOut):
                left_out.append(record)
            elif isinstance(record, Document):
                by_split[self.splitting.of(record)].append(record)
        splits = {split: self._tokenize(documents) for split, documents in by_split.items()}
        return TokenizedChunk(
            splits,
            left_out,
            len(records),
            sum(record.progress for record in records if not isinstance(record, DocumentPart)),
        )

    def takes_apart(self, document: Document) -> bool:
        """Returns whether `document` is to be handed over in `parts`: a long one, but of pairs, which may be cut."""
        if document.rendered:
            return False
        return self.lengths is None and len(document.text) + len(document.inputs or "") > _LONG_CHARACTERS

    def parts(self, document: Document) -> Iterator[DocumentPart]:
        """Yields the parts of `document`."""
        split = self.splitting.of(document)
        texts = iter(self.tokenizer.parts(document.whole))
        text = next(texts)
        for following in texts:
            yield DocumentPart(text, split, None)
            text = following
        yield DocumentPart(text, split, dataclasses.replace(document, text="", key="", inputs=None))

    def _tokenize_part(self, part: DocumentPart) -> TokenizedChunk:
        ids = self.tokenizer.encode_part(part.text)
        num_bytes = len(part.text.text.encode())
        token_bytes = self._num_bytes(part.text, ids)
        lossy = int(num_bytes != token_bytes)
        if part.last is None:
            lengths, origins = np.zeros(0, np.int64), Origins.none()
        else:
            ids = np.append(ids, self.tokenizer.info.special["eos"])
            lengths = np.array([len(ids)])
            origins = Origins.of([part.last.origin], lengths[:, None])
        documents = len(lengths)
        parted = int(not part.text.certain)
        counts = (num_bytes, token_bytes, lossy, 0, parted)
        split = TokenizedSplit(ids.astype(self.dtype), documents, lengths, *counts, origins)
        return TokenizedChunk({part.split: split}, [], documents, part.last.progress if part.last else 0)

    def _tokenize(self, documents: list[Document]) -> TokenizedSplit:
        end = np.array([self.tokenizer.info.special["eos"]], self.dtype)
        pieces: list[np.ndarray] = []
        lengths: list[int] = []
        uncut: list[int] = []
        num_bytes = token_bytes = lossy = cut = parted = 0
        for document in documents:
            found = found_bytes = 0
            too_long, certain = False, True
            if document.rendered:
                sides, whole = self._rendered(document)
                pieces += sides
                lengths += map(len, sides)
                uncut += whole if self.lengths is not None else []
                found = found_bytes = sum(self.tokenizer.token_bytes.count(ids, _first_of(ids)) for ids in sides)
                num_bytes, token_bytes = num_bytes + found, token_bytes + found_bytes
                cut += any(len(ids) < count for ids, count in zip(sides, whole, strict=True))
                continue
            for text, longest in self._texts(document):
                kept = count = 0
                for part in self.tokenizer.parts(text):
                    ids = self.tokenizer.encode_part(part)
                    found += len(part.text.encode())
                    found_bytes += self._num_bytes(part, ids)
                    count += len(ids)
                    certain &= part.certain
                    if longest is not None and count >= longest:
                        ids, too_long = ids[: longest - 1 - kept], True
                    kept += len(ids)
                    pieces.append(ids.astype(self.dtype))
                pieces.append(end)
                lengths.append(kept + 1)
                if self.lengths is not None:
                    uncut.append(count + 1)
            num_bytes += found
            token_bytes += found_bytes
            lossy += found != found_bytes
            cut += too_long
            parted += not certain
        kept_lengths = np.array(lengths, np.int64)
        uncut_lengths = np.array(uncut, np.int64) if uncut else kept_lengths
        origins = Origins.of([document.origin for document in documents], uncut_lengths.reshape(len(documents), -1))
        tokens = np.concatenate(pieces)
        tasks = collections.Counter(document.task for document in documents if document.task is not None)
        numbers = (num_bytes, token_bytes, lossy, cut, parted)
        return TokenizedSplit(tokens, len(documents), kept_lengths, *numbers, origins, tasks)

    def _rendered(self, document: Document) -> tuple[list[np.ndarray], list[int]]:
        """Returns the ids of what a chat template made, cut to the lengths, and how many there were.

        Of inputs that are too long the end stays, which asks for the answer; of targets the beginning.
        """
        inputs, targets = encode_rendered(self.tokenizer, document.inputs or "", document.text)
        if self.lengths is None:
            whole = np.concatenate([inputs, targets]).astype(self.dtype)
            return [whole], [len(whole)]
        kept = inputs[max(0, len(inputs) - self.lengths["inputs"]) :], targets[: self.lengths["targets"]]
        return [ids.astype(self.dtype) for ids in kept], [len(inputs), len(targets)]

    def _num_bytes(self, part: TextPart, ids: np.ndarray) -> int:
        """Returns how many bytes of text the ids of a part stand for: a space put before a text is none of it."""
        counts, starts = self.tokenizer.token_bytes, np.zeros(len(ids), bool)
        found = counts.count(ids, starts)
        # What is cut between words begins with a space of its own.
        if part.continues or (part.text.startswith(" ") and found == len(part.text.encode())):
            return found
        starts[:1] = True
        return counts.count(ids, starts)

    def _texts(self, document: Document) -> list[tuple[str, int | None]]:
        """Returns the texts that are each ended by a token, and how many tokens they may have."""
        if self.lengths is None:
            return [(document.whole, None)]
        return [(document.inputs or "", self.lengths["inputs"]), (document.text, self.lengths["targets"])]


def _first_of(ids: np.ndarray) -> np.ndarray:
    """Returns bool[tokens]: whether a text starts there, which no part of a template's does."""
    return np.zeros(len(ids), bool)


def tokenize(records: Iterable[Document | LeftOut], work: ChunkTokenizer, workers: int) -> Iterator[TokenizedChunk]:
    """Yields the tokenized `records` in order, whatever the number of `workers`.

    Memory is bounded: a few chunks a worker are under way at a time, of documents as long as may be.

    Raises:
      UserError: a worker process was killed.
    """
    chunks = _chunks(records, work)
    if workers == 1:
        yield from (work(chunk) for chunk, _ in chunks)
        return
    # Spawned, not forked: the parent may hold TensorFlow's or JAX's threads, whose locks a fork would inherit.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (work,)) as pool:
        pending: collections.deque[tuple[Future[TokenizedChunk], int]] = collections.deque()
        under_way = 0
        try:
            for chunk, characters in chunks:
                while pending and (
                    len(pending) > 2 * workers or under_way + characters > _CHARACTERS_A_WORKER * workers
                ):
                    future, done = pending.popleft()
                    yield future.result()
                    under_way -= done
                if characters > _CHARACTERS_A_WORKER * workers:
                    # To hand it over would take several times its memory.
                    yield work(chunk)
                    continue
                with interrupts_blocked():  # For a process that this starts, from its first moment on.
                    pending.append((pool.submit(_run_worker, chunk), characters))
                under_way += characters
            while pending:
                yield pending.popleft()[0].result()
        except BrokenProcessPool:
            raise UserError("a tokenizing process was killed (out of memory? fewer --workers need less)") from None
        finally:
            for future, _ in pending:
                future.cancel()


def _chunks(records: Iterable[Document | LeftOut], work: ChunkTokenizer) -> Iterator[tuple[list[Record], int]]:
    """Yields what one process gets at a time, and its characters; each part of a long document is alone."""
    chunk: list[Record] = []
    characters = 0
    for record in records:
        long = isinstance(record, Document) and work.takes_apart(record)
        if not long:
            chunk.append(record)
            characters += _RECORD_CHARACTERS
            if isinstance(record, Document):
                characters += len(record.text) + len(record.inputs or "")
        if chunk and (long or characters >= _CHUNK_CHARACTERS):
            yield chunk, characters
            chunk, characters = [], 0
        if long and isinstance(record, Document):
            for part in work.parts(record):
                yield [part], len(part.text.text)
        # A long one need not stay while the next one is read.
        del record
    if chunk:
        yield chunk, characters


_work: ChunkTokenizer | None = None


def _start_worker(work: ChunkTokenizer) -> None:
    global _work
    end_with_parent()
    _work = work


def _run_worker(records: list[Record]) -> TokenizedChunk:
    assert _work is not None
    return _work(records)
