"""Documents to token streams, in parallel processes, in the documents' order."""

from __future__ import annotations

import collections
import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from triarch.errors import UserError
from triarch.tasks.documents import Document, LeftOut
from triarch.tasks.origins import Origins
from triarch.tasks.splits import split_of
from triarch.tasks.tokenizers import Tokenizer

# Characters of text a process gets at a time: large beside the cost of handing over, small beside memory.
_CHUNK_CHARACTERS = 2**20
# What a record weighs beside its text, lest millions of short ones, or of such as are left out, gather in a chunk.
_RECORD_CHARACTERS = 100


@dataclasses.dataclass(frozen=True)
class TokenizedSplit:
    """Consecutive documents of one split.

    Attributes:
      tokens: the documents' ids one after another, each document ended by the end-of-document id; the store's dtype.
      documents: how many.
      lengths: int64[documents]: how many tokens each has, its end included. Of pairs int64[2 * documents]: of inputs
        and targets by turns.
      bytes: UTF-8 bytes of their text.
      lossy_documents: how many of them stand for other bytes than the text's (given vocabularies only).
      cut_documents: how many of them lost their end, for they were too long (pairs only).
      origins: where they come from, and how many tokens each had before it was cut.
    """

    tokens: np.ndarray
    documents: int
    lengths: np.ndarray
    bytes: int
    lossy_documents: int
    cut_documents: int
    origins: Origins


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
class ChunkTokenizer:
    """Tokenizes a list of records: the work of one process.

    Attributes:
      tokenizer: of the store.
      dtype: of the ids.
      validation_fraction: decides the splits.
      lengths: of pairs, how many tokens "inputs" and "targets" may have, ends included; what is longer is cut. None for
        documents that are one text.
    """

    tokenizer: Tokenizer
    dtype: str
    validation_fraction: float
    lengths: Mapping[str, int] | None = None

    def __call__(self, records: list[Document | LeftOut]) -> TokenizedChunk:
        by_split: dict[str, list[Document]] = collections.defaultdict(list)
        left_out: list[LeftOut] = []
        for record in records:
            if isinstance(record, LeftOut):
                left_out.append(record)
            else:
                by_split[split_of(record.key, self.validation_fraction)].append(record)
        splits = {split: self._tokenize(documents) for split, documents in by_split.items()}
        return TokenizedChunk(splits, left_out, len(records), sum(record.progress for record in records))

    def _tokenize(self, documents: list[Document]) -> TokenizedSplit:
        end = np.array([self.tokenizer.info.special["eos"]], self.dtype)
        token_bytes = self.tokenizer.token_bytes
        pieces: list[np.ndarray] = []
        lengths: list[int] = []
        uncut: list[int] = []
        num_bytes = lossy = cut = 0
        for document in documents:
            found = found_bytes = 0
            too_long = False
            for text, longest in self._texts(document):
                ids = self.tokenizer.encode(text)
                found += len(text.encode())
                found_bytes += int(token_bytes[ids].sum(dtype=np.int64))
                uncut.append(len(ids) + 1)
                if longest is not None and len(ids) >= longest:
                    ids, too_long = ids[: longest - 1], True
                pieces += [ids.astype(self.dtype), end]
                lengths.append(len(ids) + 1)
            num_bytes += found
            lossy += found != found_bytes
            cut += too_long
        tokens = np.concatenate(pieces)
        origins = Origins.of([document.origin for document in documents], np.array(uncut).reshape(len(documents), -1))
        return TokenizedSplit(tokens, len(documents), np.array(lengths, np.int64), num_bytes, lossy, cut, origins)

    def _texts(self, document: Document) -> list[tuple[str, int | None]]:
        """Returns the texts that are each ended by a token, and how many tokens they may have."""
        if self.lengths is None:
            return [(document.whole, None)]
        return [(document.inputs or "", self.lengths["inputs"]), (document.text, self.lengths["targets"])]


def tokenize(records: Iterable[Document | LeftOut], work: ChunkTokenizer, workers: int) -> Iterator[TokenizedChunk]:
    """Yields the tokenized `records` in order, whatever the number of `workers`.

    Memory is bounded: a few chunks a worker are under way at a time.

    Raises:
      UserError: a worker process was killed.
    """
    chunks = _chunks(records)
    if workers == 1:
        yield from map(work, chunks)
        return
    # Spawned, not forked: the parent may hold TensorFlow's or JAX's threads, whose locks a fork would inherit.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (work,)) as pool:
        pending: collections.deque[Future[TokenizedChunk]] = collections.deque()
        try:
            for chunk in chunks:
                pending.append(pool.submit(_run_worker, chunk))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool:
            raise UserError("a tokenizing process was killed (out of memory? fewer --workers need less)") from None
        finally:
            for future in pending:
                future.cancel()


def _chunks(records: Iterable[Document | LeftOut]) -> Iterator[list[Document | LeftOut]]:
    chunk: list[Document | LeftOut] = []
    characters = 0
    for record in records:
        chunk.append(record)
        characters += _RECORD_CHARACTERS
        if isinstance(record, Document):
            characters += len(record.text) + len(record.inputs or "")
        if characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


_work: ChunkTokenizer | None = None


def _start_worker(work: ChunkTokenizer) -> None:
    global _work
    # An interruption from the keyboard reaches all processes; the parent's word is enough.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    _work = work


def _exit_with_parent() -> None:
    """Ends this process when its parent is killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run_worker(records: list[Document | LeftOut]) -> TokenizedChunk:
    assert _work is not None
    return _work(records)
