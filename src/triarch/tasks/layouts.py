"""How documents become examples of equal length."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

WINDOWS = "windows"
PACKED = "packed"
PAIRS = "pairs"

# Rows that may still take a document: more waste less, and cost memory and time.
_OPEN_ROWS = 256
# Segment ids are stored as uint16.
_MAX_SEGMENTS = 2**16 - 1


@dataclasses.dataclass(frozen=True)
class Examples:
    """Examples of `window` tokens.

    Attributes:
      tokens: int[examples, window].
      segment_ids: int[examples, window]: the number of each token's document in its example, from 1 on, or 1 for inputs
        and 2 for targets; 0 is padding. None where an example is one text.
      pieces: int64[pieces, 4], of packed documents what `PIECE_COLUMNS` says of each segment; None where the order of
        the documents tells which tokens are whose.
    """

    tokens: np.ndarray
    segment_ids: np.ndarray | None = None
    pieces: np.ndarray | None = None


class Layout(Protocol):
    """Takes documents one after another and gives examples; every token is in one example, or is `left_over`."""

    @property
    def left_over(self) -> int:
        """Tokens that are in no example so far."""
        ...

    def add(self, tokens: np.ndarray, lengths: np.ndarray) -> Examples:
        """Takes documents of `lengths` tokens each, one after another in `tokens`; returns examples that are done."""
        ...

    def add_part(self, tokens: np.ndarray) -> Examples:
        """Takes the first tokens of the next document of one text; the others come by `add`."""
        ...

    def finish(self) -> Examples:
        """Returns the examples that waited for more documents."""
        ...

    def state(self) -> dict[str, Any]:
        """Returns, as JSON, what `make_layout` needs to go on."""
        ...


class Windows:
    """Non-overlapping windows of the concatenation of all documents: what does not fill one waits for the next tokens.

    Attributes:
      rest: int32[< window]: tokens after the last full window.
    """

    def __init__(self, window: int, rest: Iterable[int] = ()):
        self._window = window
        self.rest = np.array(list(rest), np.int32)

    @property
    def left_over(self) -> int:
        return len(self.rest)

    def add(self, tokens: np.ndarray, lengths: np.ndarray) -> Examples:
        return self.add_part(tokens)

    def add_part(self, tokens: np.ndarray) -> Examples:
        stream = np.concatenate([self.rest, tokens])
        count = len(stream) // self._window
        self.rest = stream[count * self._window :].copy()
        return Examples(stream[: count * self._window].reshape(count, self._window))

    def finish(self) -> Examples:
        """Returns nothing: what does not fill a window is left over."""
        return Examples(np.zeros((0, self._window), np.int32))

    def state(self) -> dict[str, Any]:
        return {"rest": self.rest.tolist()}


class FirstFit:
    """Whole documents side by side, each in the first of the open rows that has room for it; the rest is padding.

    When none has room the fullest row is done and a new one takes its place. A document longer than a row fills rows of
    its own, and its remainder is packed as a document.
    """

    def __init__(
        self,
        window: int,
        pad: int,
        rows: Iterable[tuple[list[int], list[list[int]]]] = (),
        examples: int = 0,
        documents: int = 0,
        open_rows: int = _OPEN_ROWS,
    ):
        """Packs rows of `window` tokens.

        Args:
          window: tokens an example.
          pad: id that fills up.
          rows: the open rows' tokens and pieces, of an earlier `state`.
          examples: how many were done at that state.
          documents: how many were taken until then.
          open_rows: how many rows may be open.
        """
        self._window = window
        self._pad = pad
        self._open_rows = open_rows
        self._rows = [_Row([np.array(tokens, np.int32)], [tuple(piece) for piece in pieces]) for tokens, pieces in rows]
        self._free = np.array([window - row.used for row in self._rows], np.int64)
        self._examples = examples
        self._documents = documents
        # Of a document that is not whole yet: tokens that fill no row, and the first one's place in it.
        self._begun = np.zeros(0, np.int32)
        self._begun_at = 0

    @property
    def left_over(self) -> int:
        return int(self._window * len(self._free) - self._free.sum())

    def add(self, tokens: np.ndarray, lengths: np.ndarray) -> Examples:
        done: list[_Row] = []
        start = 0
        for length in lengths.tolist():
            document, first = self._with_begun(tokens[start : start + length])
            start += length
            end = self._fill_rows(document, first, done)
            if end < len(document):
                done += self._put(document[end:], first + end)
            self._documents += 1
        return self._laid_out(done)

    def add_part(self, tokens: np.ndarray) -> Examples:
        done: list[_Row] = []
        part, first = self._with_begun(tokens)
        end = self._fill_rows(part, first, done)
        self._begun, self._begun_at = part[end:].copy(), first + end
        return self._laid_out(done)

    def finish(self) -> Examples:
        rows, self._rows, self._free = self._rows, [], np.zeros(0, np.int64)
        return self._laid_out(rows)

    def state(self) -> dict[str, Any]:
        rows = [(np.concatenate(row.parts).tolist(), row.pieces) for row in self._rows]
        return {"rows": rows, "examples": self._examples, "documents": self._documents}

    def _with_begun(self, tokens: np.ndarray) -> tuple[np.ndarray, int]:
        """Returns `tokens` behind what waits of the present document, and the place in it of the first one."""
        tokens, first = tokens.astype(np.int32, copy=False), self._begun_at
        if len(self._begun):
            tokens = np.concatenate([self._begun, tokens])
        self._begun, self._begun_at = tokens[:0], 0
        return tokens, first

    def _fill_rows(self, tokens: np.ndarray, first: int, done: list[_Row]) -> int:
        """Adds the rows that `tokens`, the document's from its `first` on, fill; returns how many those take."""
        end = len(tokens) - len(tokens) % self._window
        for start in range(0, end, self._window):
            done.append(_Row())
            done[-1].put(tokens[start : start + self._window], self._documents, first + start)
        return end

    def _put(self, part: np.ndarray, start: int) -> list[_Row]:
        """Puts the rest of the present document, from `start` on, into a row; returns the one that made room for it."""
        fits = np.flatnonzero(self._free >= len(part))
        fits = [row for row in fits[:1].tolist() if len(self._rows[row].pieces) < _MAX_SEGMENTS]
        done = []
        if fits:
            row = fits[0]
        elif len(self._rows) < self._open_rows:
            row = len(self._rows)
            self._rows.append(_Row())
            self._free = np.append(self._free, self._window)
        else:
            row = int(np.argmin(self._free))
            done.append(self._rows[row])
            self._rows[row] = _Row()
            self._free[row] = self._window
        self._rows[row].put(part, self._documents, start)
        self._free[row] -= len(part)
        return done

    def _laid_out(self, rows: list[_Row]) -> Examples:
        tokens = np.full((len(rows), self._window), self._pad, np.int32)
        segment_ids = np.zeros((len(rows), self._window), np.int32)
        pieces: list[tuple[int, int, int, int]] = []
        for index, row in enumerate(rows):
            tokens[index, : row.used] = np.concatenate(row.parts)
            lengths = [length for _, _, length in row.pieces]
            segment_ids[index, : row.used] = np.repeat(np.arange(1, len(lengths) + 1), lengths)
            pieces += [(self._examples + index, *piece) for piece in row.pieces]
        self._examples += len(rows)
        return Examples(tokens, segment_ids, np.array(pieces, np.int64).reshape(-1, 4))


@dataclasses.dataclass
class _Row:
    """An example to be: its tokens, and of each piece the document, its first token's place there and its length."""

    parts: list[np.ndarray] = dataclasses.field(default_factory=list)
    pieces: list[tuple[int, int, int]] = dataclasses.field(default_factory=list)

    @property
    def used(self) -> int:
        return sum(length for _, _, length in self.pieces)

    def put(self, part: np.ndarray, document: int, start: int) -> None:
        self.parts.append(part)
        self.pieces.append((document, start, len(part)))


class Pairs:
    """One example a record: inputs and targets side by side, and padding.

    Documents come by twos, each example's inputs and then its targets, together no longer than `window`.
    """

    left_over = 0

    def __init__(self, window: int, pad: int):
        self._window = window
        self._pad = pad

    def add(self, tokens: np.ndarray, lengths: np.ndarray) -> Examples:
        ends = np.cumsum(lengths)
        count = len(lengths) // 2
        padded = np.full((count, self._window), self._pad, np.int32)
        segment_ids = np.zeros((count, self._window), np.int32)
        for index, (inputs, targets) in enumerate(lengths.reshape(-1, 2).tolist()):
            end = int(ends[2 * index + 1])
            padded[index, : inputs + targets] = tokens[end - inputs - targets : end]
            segment_ids[index, :inputs] = 1
            segment_ids[index, inputs : inputs + targets] = 2
        return Examples(padded, segment_ids)

    def add_part(self, tokens: np.ndarray) -> Examples:
        raise TypeError("pairs come whole, for they may have to be cut")

    def finish(self) -> Examples:
        """Returns nothing: no example waits."""
        nothing = np.zeros((0, self._window), np.int32)
        return Examples(nothing, nothing)

    def state(self) -> dict[str, Any]:
        return {}


def make_layout(name: str, window: int, pad: int, state: dict[str, Any] | None = None) -> Layout:
    """Returns the layout `name`, as it was at `state`."""
    if name == WINDOWS:
        return Windows(window, **(state or {}))
    if name == PAIRS:
        return Pairs(window, pad)
    return FirstFit(window, pad, **(state or {}))
