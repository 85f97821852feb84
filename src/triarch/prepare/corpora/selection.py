"""Which documents of a corpus are kept: by length, and one of each that are equal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from triarch.errors import UserError
from triarch.prepare.corpora.documents import Corpus, Document, LeftOut
from triarch.prepare.corpora.origins import place

DUPLICATE = "exact duplicate"


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


def selected(
    corpus: Corpus, filters: Filters, duplicates: np.ndarray | None, first: int = 0
) -> Iterator[Document | LeftOut]:
    """Yields the records of `corpus`, those that are not kept as `LeftOut`.

    Args:
      corpus: where the documents come from.
      filters: which are kept.
      duplicates: what `find_duplicates` returned; None where duplicates are kept.
      first: the number among its bits of the first document that has the right length.
    """
    index = first
    for record in corpus.documents():
        if isinstance(record, Document):
            fault = filters.fault(record)
            if fault is None and duplicates is not None:
                fault = DUPLICATE if duplicates[index >> 3] & (128 >> (index & 7)) else None
                index += 1
            if fault is not None:
                record = LeftOut(fault, place(record.origin), record.progress)
        yield record
        del record
