"""Which documents of a corpus repeat an earlier one exactly."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from triarch.files import whole
from triarch.prepare.corpora.documents import Corpus, Document
from triarch.prepare.corpora.selection import Filters
from triarch.temporary import temporary_folder

# 128 bits of BLAKE2b: among 10**12 documents two different ones are taken for the same with a chance of about 10**-15.
DIGEST_BYTES = 16
_ENTRY = np.dtype([("high", "<u8"), ("low", "<u8"), ("index", "<u8")])
_BLOCK = 2**16


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """Which documents of a corpus repeat an earlier one, of those that have the right length.

    Attributes:
      bits: uint8[documents / 8], one bit each, the first document's first (`np.packbits`' order).
      counts: int64[shards]: how many of these documents each shard of the corpus has, one shard where it was not cut.
    """

    bits: np.ndarray
    counts: np.ndarray

    def save(self, path: Path) -> None:
        """Writes the file `path`, whole or not at all."""
        with whole(path) as temporary:
            np.savez(temporary, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Duplicates:
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**arrays)


def digests(corpus: Corpus, filters: Filters, advance: Callable[[int], None]) -> Iterator[bytes]:
    """Yields blocks of digests, side by side, of the documents of `corpus` that have the right length.

    Args:
      corpus: the documents, read once.
      filters: which of them have the right length.
      advance: told the progress.
    """
    found = _digests(corpus, filters, advance)
    while block := b"".join(itertools.islice(found, _BLOCK)):
        yield block


def find_duplicates(shards: Iterable[Iterable[bytes]], scratch: Path) -> Duplicates:
    """Returns which documents repeat an earlier one.

    Memory: an eighth of a byte a document, and 1/256 of 24 bytes a document; 24 bytes a document on disk.

    Args:
      shards: of each shard of the corpus, in order, what `digests` gives.
      scratch: a folder that may be written in.
    """
    with temporary_folder(scratch / "digests") as folder:
        counts = _write_digests(shards, folder)
        duplicates = np.zeros(-(-sum(counts) // 8), np.uint8)
        for bucket in folder.iterdir():
            entries = np.fromfile(bucket, _ENTRY)
            entries = entries[np.lexsort((entries["index"], entries["low"], entries["high"]))]
            same = (entries["high"][1:] == entries["high"][:-1]) & (entries["low"][1:] == entries["low"][:-1])
            repeated = entries["index"][1:][same].astype(np.int64)
            np.bitwise_or.at(duplicates, repeated >> 3, (128 >> (repeated & 7)).astype(np.uint8))
    return Duplicates(duplicates, np.array(counts, np.int64))


def _digests(corpus: Corpus, filters: Filters, advance: Callable[[int], None]) -> Iterator[bytes]:
    for record in corpus.documents():
        advance(record.progress)
        if isinstance(record, Document) and filters.fault(record) is None:
            yield hashlib.blake2b(record.whole.encode(), digest_size=DIGEST_BYTES).digest()


def _write_digests(shards: Iterable[Iterable[bytes]], folder: Path) -> list[int]:
    """Appends each digest with its number to the file of its first byte; returns how many each shard has.

    So one file's fit memory for billions of documents.
    """
    counts: list[int] = []
    start = 0
    with contextlib.ExitStack() as stack:

        @functools.cache
        def file(bucket: int) -> IO[bytes]:
            return stack.enter_context((folder / f"{bucket:03d}").open("wb"))

        for blocks in shards:
            end = start
            for block in blocks:
                end = _write_block(block, end, file)
            counts.append(end - start)
            start = end
    return counts


def _write_block(block: bytes, start: int, file: Callable[[int], IO[bytes]]) -> int:
    """Writes digests that are numbered from `start` on; returns the number behind the last."""
    entries = np.zeros(len(block) // DIGEST_BYTES, _ENTRY)
    words = np.frombuffer(block, "<u8").reshape(-1, 2)
    entries["high"], entries["low"] = words[:, 0], words[:, 1]
    entries["index"] = np.arange(start, start + len(entries))
    buckets = np.frombuffer(block, np.uint8)[::DIGEST_BYTES]
    for bucket in np.unique(buckets).tolist():
        file(bucket).write(entries[buckets == bucket].tobytes())
    return start + len(entries)
