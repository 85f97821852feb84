"""Which windows of a split are scored: a sample of all, the same for every model, and which documents they are from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from triarch.data.features import Example, Examples
from triarch.data.manifest import LAYOUTS
from triarch.data.store import TokenStore
from triarch.evaluation.sums import WindowSums


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """A simple random sample, without replacement, of the windows of a split.

    Attributes:
      numbers: int64[windows]: those scored, ascending.
      population: windows that there are.
      documents: int64[windows]: the document that most of each window is from; None where examples are pairs, of which
        no two share one, or the store does not say.
    """

    numbers: np.ndarray
    population: int
    documents: np.ndarray | None = None

    @property
    def share(self) -> float:
        """Of all windows, how many are scored, from 0 to 1."""
        return len(self.numbers) / self.population


class Scored(NamedTuple):
    """What was scored of one text: a sample of its windows.

    Attributes:
      sums: of each window.
      sample: which windows they are.
      share: of what could be scored of each window, how much was: less than 1 where positions were drawn. The sums
        stand for all that could be; float64[windows], or one number for all.
    """

    sums: WindowSums
    sample: Sample
    share: np.ndarray | float = 1.0

    @classmethod
    def whole(cls, sums: WindowSums) -> Scored:
        """All windows of a text, each a document."""
        return cls(sums, Sample(np.arange(len(sums.nats)), len(sums.nats)))


@dataclasses.dataclass(frozen=True, eq=False)
class SampledWindows:
    """The windows of a sample: (number in the split, example) at each place.

    Where the documents are known, an example of text tells which tokens are the first of one, "starts"; otherwise a
    window of running text has the token that stands before it, "previous_token", but for the split's first.

    Attributes:
      examples: all windows of the split.
      sample: which of them.
      starts: places (ascending) and tokens in them, int64 each, at which documents begin; None where they are unknown.
    """

    examples: Examples
    sample: Sample
    starts: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.sample.numbers)

    def __getitem__(self, place: int) -> tuple[int, Example]:
        number = int(self.sample.numbers[place])
        example = self.examples[number]
        if self.starts is not None:
            places, tokens = self.starts
            is_start = np.zeros(len(example["tokens"]), bool)
            is_start[tokens[slice(*np.searchsorted(places, [place, place + 1]))]] = True
            example = {**example, "starts": is_start}
        elif number and "tokens" in example and "segment_ids" not in example:  # A window of running text.
            example = {**example, "previous_token": self.examples[number - 1]["tokens"][-1]}
        return number, example

    def __iter__(self) -> Iterator[tuple[int, Example]]:
        return (self[place] for place in range(len(self)))


def draw(population: int, count: int | None, seed: int) -> np.ndarray:
    """Returns `count` of `population` numbers, ascending, int64; all where `count` is None or not less.

    The first ones of a permutation of all: a larger sample with the same seed holds a smaller one.
    """
    if count is None or count >= population:
        return np.arange(population)
    return np.sort(np.random.default_rng([seed, population]).permutation(population)[:count])


def sample_windows(
    examples: Examples, store: TokenStore, split: str, length: int, count: int | None, seed: int
) -> SampledWindows:
    """Returns a sample of windows, spread over the split by chance, the same for every model.

    Args:
      examples: all windows of `length` tokens that the split holds.
      store: where they are from.
      split: of the store.
      length: tokens a window; the store's own, or other where windows are joined.
      count: windows to draw; None for all.
      seed: of the draw.

    Raises:
      UserError: the store's tables of documents are damaged.
    """
    numbers = draw(len(examples), count, seed)
    manifest = store.manifest
    if manifest.layout not in LAYOUTS[:2] or split not in (manifest.provenance or {}):
        return SampledWindows(examples, Sample(numbers, len(examples)))
    pieces = _pieces(store, split, numbers, length)
    sample = Sample(numbers, len(examples), _documents(pieces))
    begins = (pieces.token_start == 0) & (pieces.offset >= 0) & (pieces.offset < length)
    return SampledWindows(examples, sample, (pieces.window[begins], pieces.offset[begins]))


class _Pieces(NamedTuple):
    """Runs of tokens of one document each, by window and in their order, int64[pieces] each.

    Attributes:
      window: the window's place in the sample.
      document: number of the document in its split.
      token_start: the run's first token in the document.
      offset: that token's place in the window; negative where it is before it.
      tokens: how many.
    """

    window: np.ndarray
    document: np.ndarray
    token_start: np.ndarray
    offset: np.ndarray
    tokens: np.ndarray


def _pieces(store: TokenStore, split: str, numbers: np.ndarray, length: int) -> _Pieces:
    """Returns what windows are made of; their first and last runs may reach beyond them."""
    manifest = store.manifest
    first, last = numbers * length // manifest.window, ((numbers + 1) * length - 1) // manifest.window
    place = np.repeat(np.arange(len(numbers)), last - first + 1)
    covering = np.concatenate([np.arange(a, b + 1) for a, b in zip(first, last, strict=True)])
    pieces = store.provenance(split).pieces(covering)
    window, tokens = place[pieces.place], pieces.token_end - pieces.token_start
    # The runs follow one another without a gap, in a window from the beginning of its first example on.
    ends = np.cumsum(tokens)
    before = (ends - tokens)[np.searchsorted(window, window)]
    offset = ends - tokens - before + (first * manifest.window - numbers * length)[window]
    return _Pieces(window, pieces.document, pieces.token_start, offset, tokens)


def _documents(pieces: _Pieces) -> np.ndarray:
    """Returns the document that most of each window is from, a document longer than a row filling several."""
    # Of each window and document together, and then of each window the greatest, the lower document first.
    pairs, inverse = np.unique(np.column_stack([pieces.window, pieces.document]), axis=0, return_inverse=True)
    tokens = np.bincount(inverse.reshape(-1), pieces.tokens)
    order = np.lexsort((pairs[:, 1], -tokens, pairs[:, 0]))
    _, firsts = np.unique(pairs[order, 0], return_index=True)
    return pairs[order[firsts], 1]
