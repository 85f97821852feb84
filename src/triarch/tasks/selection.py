"""Which documents of a corpus are kept: by length, and one of each that are equal."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from triarch.errors import UserError
from triarch.tasks.documents import Corpus, Document, LeftOut
from triarch.tasks.origins import place

DUPLICATE = "exact duplicate"

# Digests lie in as many files by their first byte, so that one file's fit memory for billions of documents.
_BUCKETS = 256
_ENTRY = np.dtype([("high", "<u8"), ("low", "<u8"), ("index", "<u8")])
_BLOCK = 2**16


@dataclasses.dataclass(frozen=True)
class Filters:
    """Which documents are kept.

    Attributes:
      min_characters: shorter ones are left out.
      max_characters: longer ones are left out; None for no limit.
      deduplicate: of documents with the same text (128 bits of its BLAKE2b are compared) the first is kept.
    """

    min_characters: int = 0
    max_characters: int | None = None
    deduplicate: bool = False

    def __post_init__(self):
        if self.min_characters < 0:
            raise UserError(f"min_characters={self.min_characters}: expected 0 or more")
        if self.max_characters is not None and self.max_characters < max(1, self.min_characters):
            raise UserError(
                f"max_characters={self.max_characters}: expected at least 1 and at least "
                f"min_characters={self.min_characters}"
            )

    def fault(self, document: Document) -> str | None:
        """Returns why `document` is left out for itself, None if it is not."""
        length = len(document.whole)
        if length < self.min_characters:
            return f"shorter than {self.min_characters:,} characters"
        if self.max_characters is not None and length > self.max_characters:
            return f"longer than {self.max_characters:,} characters"
        return None


def selected(corpus: Corpus, filters: Filters, duplicates: np.ndarray | None) -> Iterator[Document | LeftOut]:
    """Yields the records of `corpus`, those that are not kept as `LeftOut`.

    Args:
      corpus: where the documents come from.
      filters: which are kept.
      duplicates: what `find_duplicates` returned; None where duplicates are kept.
    """
    index = 0
    for record in corpus.documents():
        if isinstance(record, Document):
            fault = filters.fault(record)
            if fault is None and duplicates is not None:
                fault = DUPLICATE if duplicates[index >> 3] & (128 >> (index & 7)) else None
                index += 1
            if fault is not None:
                record = LeftOut(fault, place(record.origin), record.progress)
        yield record


def find_duplicates(corpus: Corpus, filters: Filters, scratch: Path, advance: Callable[[int], None]) -> np.ndarray:
    """Returns which documents repeat an earlier one: one bit each of those that have the right length, in order.

    Memory: an eighth of a byte a document, and 1/256 of 24 bytes a document; 24 bytes a document on disk.

    Args:
      corpus: the documents, read once.
      filters: which of them have the right length.
      scratch: a folder that may be written in.
      advance: told the progress.

    Returns:
      uint8[documents / 8], the first document's bit first (`np.packbits`' order).
    """
    folder = scratch / "digests"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    count = _write_digests(_digests(corpus, filters, advance), folder)
    duplicates = np.zeros(-(-count // 8), np.uint8)
    for bucket in sorted(folder.iterdir()):
        entries = np.fromfile(bucket, _ENTRY)
        entries = entries[np.lexsort((entries["index"], entries["low"], entries["high"]))]
        same = (entries["high"][1:] == entries["high"][:-1]) & (entries["low"][1:] == entries["low"][:-1])
        repeated = entries["index"][1:][same].astype(np.int64)
        np.bitwise_or.at(duplicates, repeated >> 3, (128 >> (repeated & 7)).astype(np.uint8))
    shutil.rmtree(folder)
    return duplicates


def _digests(corpus: Corpus, filters: Filters, advance: Callable[[int], None]) -> Iterator[bytes]:
    for record in corpus.documents():
        advance(record.progress)
        if isinstance(record, Document) and filters.fault(record) is None:
            yield hashlib.blake2b(record.whole.encode(), digest_size=16).digest()


def _write_digests(digests: Iterator[bytes], folder: Path) -> int:
    """Appends each digest with its number to the file of its first byte; returns how many there are."""
    files: dict[int, IO[bytes]] = {}
    count = 0
    try:
        while block := b"".join(digest for _, digest in zip(range(_BLOCK), digests, strict=False)):
            entries = np.zeros(len(block) // 16, _ENTRY)
            words = np.frombuffer(block, "<u8").reshape(-1, 2)
            entries["high"], entries["low"] = words[:, 0], words[:, 1]
            entries["index"] = np.arange(count, count + len(entries))
            buckets = np.frombuffer(block, np.uint8)[::16]
            for bucket in np.unique(buckets).tolist():
                if bucket not in files:
                    files[bucket] = (folder / f"{bucket:03d}").open("wb")
                files[bucket].write(entries[buckets == bucket].tobytes())
            count += len(entries)
    finally:
        for file in files.values():
            file.close()
    return count
