"""Where documents come from: file, record and bytes, one by one and by the million."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

# What does not apply to an origin.
NONE = -1
_COLUMNS = 6
# The last column: a document's tokens.
TOKENS = 5
# Where a document comes from; a plain tuple, for there are many and they travel between processes:
#   the file as it was named, a path or a URL, or whatever else tells; "" where nothing does;
#   the number of its first line in a text or JSON lines file, or of its row in a table, both from 1 on, or the index of
#   a TFDS example, from 0 on;
#   the offset of its first byte in the file, decompressed if need be (of JSON lines the line's), and that behind its
#   last byte, a line's end not included.
Origin = tuple[str, int, int, int]


def named(source: str, record: int = NONE, start: int = NONE, end: int = NONE) -> Origin:
    """Returns the origin of which only some is known."""
    return source, record, start, end


def place(origin: Origin) -> str:
    """Returns file and record, for messages."""
    source, record, _, _ = origin
    return source if record == NONE else f"{source}:{record}"


@dataclasses.dataclass(frozen=True)
class Origins:
    """The origins of consecutive documents, and the tokens that each gave.

    Attributes:
      sources: the files among them, in order of appearance.
      rows: int64[documents, 6]: number of the source in `sources`; record, start and end of `Origin`; of pairs how many
        tokens the inputs have, else 0; how many tokens the whole document has. Ends are counted, and what is cut off
        for its length too.
    """

    sources: tuple[str, ...]
    rows: np.ndarray

    @classmethod
    def none(cls) -> Origins:
        """Returns the table of no documents."""
        return cls((), np.zeros((0, _COLUMNS), np.int64))

    @classmethod
    def of(cls, origins: Sequence[Origin], tokens: np.ndarray) -> Origins:
        """Returns the table of documents from `origins`.

        Args:
          origins: of each document.
          tokens: int[documents, texts]: how many tokens each one's text has, or its inputs and its targets.
        """
        sources, *places = zip(*origins, strict=True)
        numbers = {source: number for number, source in enumerate(dict.fromkeys(sources))}
        rows = np.zeros((len(origins), _COLUMNS), np.int64)
        if len(numbers) > 1:
            rows[:, 0] = [numbers[source] for source in sources]
        for column, values in enumerate(places, start=1):
            rows[:, column] = np.fromiter(values, np.int64, len(values))
        if tokens.shape[1] == 2:
            rows[:, 4] = tokens[:, 0]
        rows[:, TOKENS] = tokens.sum(axis=1)
        return cls(tuple(numbers), rows)
