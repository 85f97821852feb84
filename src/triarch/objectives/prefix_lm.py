"""Prefix language modelling: a window is cut in two, and the second part predicted given the first."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np

from triarch.data.features import Features, Transform
from triarch.errors import UserError, nearest
from triarch.objectives import documents
from triarch.objectives.base import PairFunction, SpecialTokens
from triarch.objectives.pairs import PairLengths, document_lengths, packed_features, pair_transform
from triarch.objectives.token_objective import TokenObjective

SPLITS = ("fixed", "uniform")


@dataclasses.dataclass(frozen=True)
class PrefixLM(TokenObjective):
    """Predicts the second part of a window given the first.

    RedLLM (arXiv 2510.26622) cuts in the middle. T5 (arXiv 1910.10683, section 3.3.1) cuts anywhere, and ends both
    parts with the end-of-document token. An encoder-decoder reads the prefix in its encoder. A decoder-only model reads
    the whole window, is scored on the second part only, and sees the prefix causally, or in both directions if asked.

    Attributes:
      prefix_fraction: share of the window that is prefix, with a fixed split.
      bidirectional_prefix: whether a decoder-only model's prefix tokens see each other in both directions.
      split: "fixed" at `prefix_fraction`, or "uniform": every prefix but none and all is equally likely.
      append_eos: whether prefix and targets end with the end-of-document token.
      mode: name of the mode token before the prefix (UL2, arXiv 2205.05131), None for none.
    """

    prefix_fraction: float = 0.5
    bidirectional_prefix: bool = False
    split: Literal["fixed", "uniform"] = "fixed"
    append_eos: bool = False
    mode: str | None = None

    name = "prefix_lm"

    @property
    def layouts(self) -> tuple[str, ...]:
        """Layouts of stores: packed documents are each cut, if no tokens are to be added, for the lengths are fixed."""
        return ("windows",) if self.append_eos or self.mode is not None else ("windows", "packed")

    def prefix_length(self, window: int) -> int:
        """Returns how many tokens of a window are prefix: the most there may be if the split is random.

        Raises:
          UserError: nothing would be left on one of the sides, or the split is unknown.
        """
        if self.split not in SPLITS:
            raise UserError(f"PrefixLM.split = {self.split!r}{nearest(self.split, SPLITS)}")
        if self.split == "uniform":
            if window < 2:
                raise UserError(f"prefix_lm needs windows of at least 2 tokens, not {window}")
            return window - 1
        length = round(self.prefix_fraction * window)
        if not 0 < length < window:
            raise UserError(
                f"PrefixLM.prefix_fraction = {self.prefix_fraction} leaves one side of {window} tokens empty"
            )
        return length

    def lengths(self, architecture: str, window: int) -> dict[str, int]:
        """Returns the tokens each side reads."""
        return self._pair_lengths(window).sides(self.name, architecture)

    def num_scored(self, architecture: str, window: int) -> int:
        """Returns how many tokens of a window carry loss: the most there may be if the split is random."""
        return self._pair_lengths(window).targets

    def transform(self, architecture: str, special: SpecialTokens, vocab_size: int, window: int) -> Transform:
        """Returns the function from a window to features of `architecture`."""
        lengths = self.lengths(architecture, window)
        one = pair_transform(self.pair(special, window), architecture, lengths, special, self.bidirectional_prefix)

        def features(example: Mapping[str, np.ndarray], rng: np.random.Generator) -> Features:
            tokens, segments = documents.tokens_and_segments(example)
            if segments is None or "packed" not in self.layouts:
                return one(example, rng)
            prefixes = self._draw_prefixes(document_lengths(segments), window, rng)
            return packed_features(
                tokens, segments, prefixes, architecture, lengths, special, self.bidirectional_prefix
            )

        return features

    def pair(self, special: SpecialTokens, window: int) -> PairFunction:
        """Returns the function from tokens to the prefix and what follows it."""
        self.prefix_length(window)
        mode = special.mode(self.mode, "PrefixLM")
        end = np.array([special.eos] * self.append_eos, np.int32)

        def pair(tokens: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            prefix, targets = np.split(tokens, [self._draw_prefix(len(tokens), rng)])
            return np.concatenate([mode, prefix, end]), np.concatenate([targets, end])

        return pair

    def _draw_prefix(self, length: int, rng: np.random.Generator) -> int:
        if self.split == "uniform":
            return int(rng.integers(1, length)) if length > 1 else 0
        return round(self.prefix_fraction * length)

    def _draw_prefixes(self, lengths: np.ndarray, window: int, rng: np.random.Generator) -> np.ndarray:
        """Returns the prefix length of each document of an example."""
        if self.split == "uniform":
            # A single token cannot be cut: by turns it is prefix and target, so that neither side overflows.
            return np.where(lengths > 1, rng.integers(1, np.maximum(lengths, 2)), np.arange(len(lengths)) % 2)
        # Rounding the running total keeps the sum of the prefixes, and of the rest, within those of one text.
        ends = np.minimum(np.floor(self.prefix_fraction * np.cumsum(lengths) + 0.5), self.prefix_length(window))
        return np.diff(ends, prepend=0).astype(np.int64)

    def _pair_lengths(self, window: int) -> PairLengths:
        longest = self.prefix_length(window)
        shortest = 1 if self.split == "uniform" else longest
        mode, end = self.mode is not None, int(self.append_eos)
        return PairLengths(mode + longest + end, window - shortest + end, mode + window + 2 * end)
