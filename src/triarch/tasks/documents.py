"""Documents and the corpora they come from. Plain Python: reading text needs no TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol


@dataclasses.dataclass(frozen=True)
class Document:
    """One document.

    Attributes:
      text: its text, never empty, encodable as UTF-8.
      key: what decides its split; documents of equal keys are in the same one. The text itself for most corpora.
      progress: units of the corpus' `size` read since the document before.
    """

    text: str
    key: str
    progress: int


class Corpus(Protocol):
    """Text that can be read from the start any number of times, always in the same order."""

    def documents(self) -> Iterator[Document]:
        """Yields the documents.

        Raises:
          UserError: something cannot be read, with file and line.
        """
        ...

    @property
    def size(self) -> int:
        """What the documents' `progress` adds up to, about; for showing how far reading is."""
        ...

    def provenance(self) -> dict[str, Any]:
        """Returns where the text comes from, as JSON: the same text gives the same answer."""
        ...
