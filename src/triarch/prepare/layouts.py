"""How documents become examples of equal length."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from triarch.data.manifest import MOST_TOKENS
from triarch.errors import UserError

WINDOWS = "windows"
PACKED = "packed"
PAIRS = "pairs"
PACKED_PAIRS = "packed_pairs"
# Those whose documents are examples of inputs and targets.
OF_PAIRS = (PAIRS, PACKED_PAIRS)

# Rows that may still take a document: more waste less, and cost memory and time.
_OPEN_ROWS = 256
# Segment ids are stored as uint16.
_MAX_SEGMENTS = 2**16 - 1


@dataclasses.dataclass(frozen=True)
class ExampleArrays:
    """Examples of `window` tokens.

    Attributes:
      tokens: int[examples, window].
      segment_ids: int[examples, window]: the number of each token's text in its example, from 1 on; 0 is padding. A
        document is one text, or two of pairs: inputs are 1 (3, 5, ... where several are packed), targets the number
        after. None where an example is one text.
      pieces: int64[pieces, 4], where documents are packed what `PIECE_COLUMNS` says of each; None where their order
        tells which tokens are whose.
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

    def add(self, tokens: np.ndarray, lengths: np.ndarray) -> ExampleArrays:
        """Takes documents of `lengths` tokens each, one after another in `tokens`; returns examples that are done."""
        ...

    def add_part(self, tokens: np.ndarray) -> ExampleArrays:
        """Takes the first tokens of the next document of one text; the others come by `add`."""
        ...

    def finish(self) -> ExampleArrays:
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

    def add(self, tokens: np.ndarray, lengths: np.ndarray) -> ExampleArrays:
        return self.add_part(tokens)

    def add_part(self, tokens: np.ndarray) -> ExampleArrays:
        stream = np.concatenate([self.rest, tokens])
        count = len(stream) // self._window
        self.rest = stream[count * self._window :].copy()
        return ExampleArrays(stream[: count * self._window].reshape(count, self._window))

    def finish(self) -> ExampleArrays:
        """Returns nothing: what does not fill a window is left over."""
        return ExampleArrays(np.zeros((0, self._window), np.int32))

    def state(self) -> dict[str, Any]:
        return {"rest": self.rest.tolist()}


class FirstFit:
    """Whole documents side by side, each in the first of the open rows that has room for it; the rest is padding.

    When none has room the fullest row is done and a new one takes its place. A document longer than a row fills rows of
    its own, and its remainder is packed as a document.

    Documents of two sides, inputs and targets, need room on both: so a row fits an encoder and a decoder, and both
    together a decoder alone (SeqIO's `trim_and_pack_dataset`, which has one open row). They come by twos, no longer
    than the sides.

    Between documents of one text `gap` tokens may be left free: all of a row's padding comes last, and an objective
    that puts tokens of its own before each document finds room for them.
    """

    def __init__(
        self,
        sides: Sequence[int],
        pad: int,
        rows: Iterable[tuple[list[int], list[list[int]]]] = (),
        examples: int = 0,
        documents: int = 0,
        open_rows: int = _OPEN_ROWS,
        gap: int = 0,
    ):
        """Packs rows of `sum(sides)` tokens.

        Args:
          sides: tokens an example; of pairs, of its inputs and of its targets.
          pad: id that fills up.
          rows: the open rows' tokens and pieces, of an earlier `state`.
          examples: how many were done at that state.
          documents: how many were taken until then.
          open_rows: how many rows may be open.
          gap: tokens left free for each document of a row but one.
        """
        self._sides = tuple(sides)
        self._window = sum(sides)
        self._pad = pad
        self._open_rows = open_rows
        self._gap = gap
        self._rows = [_Row([np.array(tokens, np.int32)], [tuple(piece) for piece in pieces]) for tokens, pieces in rows]
        # Of each side int64[rows]: the room that is left. Every document takes its gap, the first one too.
        self._most = [most + gap for most in sides]
        self._free = [
            np.array([most - (row.lengths[side :: len(sides)] + gap).sum() for row in self._rows], np.int64)
            for side, most in enumerate(self._most)
        ]
        self._examples = examples
        self._documents = documents
        # Of a document that is not whole yet: tokens that fill no row, and the first one's place in it.
        self._begun = np.zeros(0, np.int32)
        self._begun_at = 0

    @property
    def left_over(self) -> int:
        return sum(row.used for row in self._rows)

    def add(self, tokens: np.ndarray, lengths: np.ndarray) -> ExampleArrays:
        done: list[_Row] = []
        start = 0
        for texts in lengths.reshape(-1, len(self._sides)).tolist():
            document, first = self._with_begun(tokens[start : start + sum(texts)])
            start += sum(texts)
            if len(texts) == 1:
                end = self._fill_rows(document, first, done)
                if end < len(document):
                    self._put(document[end:], first + end, [len(document) - end], done)
            else:
                self._put(document, 0, texts, done)
            self._documents += 1
        return self._laid_out(done)

    def add_part(self, tokens: np.ndarray) -> ExampleArrays:
        done: list[_Row] = []
        part, first = self._with_begun(tokens)
        end = self._fill_rows(part, first, done)
        self._begun, self._begun_at = part[end:].copy(), first + end
        return self._laid_out(done)

    def finish(self) -> ExampleArrays:
        rows, self._rows, self._free = self._rows, [], [free[:0] for free in self._free]
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
            done[-1].put(tokens[start : start + self._window], (self._documents, first + start, self._window))
        return end

    def _put(self, part: np.ndarray, start: int, texts: list[int], done: list[_Row]) -> None:
        """Puts the rest of the present document, from `start` on, into a row; adds one that made room to `done`."""
        row = self._with_room(texts)
        if row is None and len(self._rows) < self._open_rows:
            row = len(self._rows)
            self._rows.append(_Row())
            self._free = [np.append(free, most) for free, most in zip(self._free, self._most, strict=True)]
        elif row is None:
            row = self._fullest()
            done.append(self._rows[row])
            self._rows[row] = _Row()
            for free, most in zip(self._free, self._most, strict=True):
                free[row] = most
        self._rows[row].put(part, (self._documents, start, *texts))
        for free, length in zip(self._free, texts, strict=True):
            free[row] -= length + self._gap

    def _with_room(self, texts: list[int]) -> int | None:
        fits = self._free[0] >= texts[0] + self._gap
        for free, length in zip(self._free[1:], texts[1:], strict=True):
            fits &= free >= length + self._gap
        row = int(fits.argmax()) if len(fits) else 0
        numbered = len(fits) > 0 and len(self._rows[row].pieces) < _MAX_SEGMENTS // len(texts)
        return row if numbered and fits[row] else None

    def _fullest(self) -> int:
        """Returns the row with the least room on one of its sides, each measured by its length."""
        shares = [free / most for free, most in zip(self._free, self._most, strict=True)]
        return int(np.min(shares, axis=0).argmin())

    def _laid_out(self, rows: list[_Row]) -> ExampleArrays:
        tokens = np.full((len(rows), self._window), self._pad, np.int32)
        segment_ids = np.zeros(tokens.shape, np.int32)
        pieces: list[tuple[int, int, int, int]] = []
        for index, row in enumerate(rows):
            lengths = row.lengths
            used = lengths.sum()
            tokens[index, :used] = np.concatenate(row.parts)
            segment_ids[index, :used] = np.repeat(np.arange(1, len(lengths) + 1), lengths)
            pieces += [(self._examples + index, document, start, sum(texts)) for document, start, *texts in row.pieces]
        self._examples += len(rows)
        return ExampleArrays(tokens, segment_ids, np.array(pieces, np.int64).reshape(-1, 4))


@dataclasses.dataclass
class _Row:
    """An example to be: its tokens, and of each piece the document, the first token's place there, texts' lengths."""

    parts: list[np.ndarray] = dataclasses.field(default_factory=list)
    pieces: list[tuple[int, ...]] = dataclasses.field(default_factory=list)

    @property
    def used(self) -> int:
        return int(self.lengths.sum())

    @property
    def lengths(self) -> np.ndarray:
        """int64[texts], of one text a piece or of two."""
        return np.array([length for _, _, *texts in self.pieces for length in texts], np.int64)

    def put(self, part: np.ndarray, piece: tuple[int, ...]) -> None:
        self.parts.append(part)
        self.pieces.append(piece)


class Pairs:
    """One example a record: inputs and targets side by side, and padding.

    Documents come by twos, each example's inputs and then its targets, together no longer than `window`.
    """

    left_over = 0

    def __init__(self, window: int, pad: int):
        self._window = window
        self._pad = pad

    def add(self, tokens: np.ndarray, lengths: np.ndarray) -> ExampleArrays:
        ends = np.cumsum(lengths)
        count = len(lengths) // 2
        padded = np.full((count, self._window), self._pad, np.int32)
        segment_ids = np.zeros((count, self._window), np.int32)
        for index, (inputs, targets) in enumerate(lengths.reshape(-1, 2).tolist()):
            end = int(ends[2 * index + 1])
            padded[index, : inputs + targets] = tokens[end - inputs - targets : end]
            segment_ids[index, :inputs] = 1
            segment_ids[index, inputs : inputs + targets] = 2
        return ExampleArrays(padded, segment_ids)

    def add_part(self, tokens: np.ndarray) -> ExampleArrays:
        raise TypeError("pairs come whole, for they may have to be cut")

    def finish(self) -> ExampleArrays:
        """Returns nothing: no example waits."""
        nothing = np.zeros((0, self._window), np.int32)
        return ExampleArrays(nothing, nothing)

    def state(self) -> dict[str, Any]:
        return {}


def check_window(window: int) -> None:
    """Raises UserError unless a store may have examples of `window` tokens."""
    if not 1 <= window <= MOST_TOKENS:
        raise UserError(f"window={window}: expected 1 to {MOST_TOKENS:,} tokens")


def make_layout(
    name: str,
    window: int,
    pad: int,
    state: dict[str, Any] | None = None,
    lengths: Mapping[str, int] | None = None,
    gap: int | None = None,
) -> Layout:
    """Returns the layout `name`, as it was at `state`.

    Where pairs are packed it has a row's `lengths` of both sides; where documents are, a `gap` between them.
    """
    if name == WINDOWS:
        return Windows(window, **(state or {}))
    if name == PAIRS:
        return Pairs(window, pad)
    if name == PACKED_PAIRS:
        assert lengths is not None
        return FirstFit([lengths["inputs"], lengths["targets"]], pad, **(state or {}))
    return FirstFit([window], pad, **(state or {}), gap=gap or 0)
