"""Span corruption: some spans are cut out, and predicted from what is left.

Section 3.1.4 of arXiv 1910.10683. Counts, the distribution of the spans and the tokens are those of
`t5.data.preprocessors`.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from triarch.data.features import Transform
from triarch.errors import UserError
from triarch.objectives.base import PairFunction, SpecialTokens
from triarch.objectives.pairs import PairLengths, pair_transform
from triarch.objectives.token_objective import TokenObjective


class SpanCounts(NamedTuple):
    """How much of a sequence is noise.

    Attributes:
      noise: tokens in noise spans.
      kept: the other tokens.
      spans: noise spans, each after a span of kept tokens.
    """

    noise: int
    kept: int
    spans: int


@dataclasses.dataclass(frozen=True)
class SpanCorruption(TokenObjective):
    """Predicts spans of a window, each of which stands as one sentinel in the inputs (T5, arXiv 1910.10683).

    Inputs and targets end with the end-of-document token. Windows of one length always give inputs and targets of one
    length: 568 tokens make 512 inputs and 114 targets, 1137 make 1024 and 229, 2274 make 2048 and 456.

    Attributes:
      noise_density: share of tokens to predict.
      mean_noise_span_length: tokens of a span on average.
      bidirectional_prefix: whether a decoder-only model's inputs see each other in both directions.
      mode: name of the mode token before the inputs (UL2, arXiv 2205.05131), None for none.
    """

    noise_density: float = 0.15
    mean_noise_span_length: float = 3.0
    bidirectional_prefix: bool = False
    mode: str | None = None

    name = "span_corruption"
    layouts = ("windows",)  # Packed documents would each add tokens, and the lengths are fixed.

    def counts(self, window: int) -> SpanCounts:
        """Returns how many tokens of a window are noise, and in how many spans.

        Raises:
          UserError: a field is out of range, or there are too few tokens for the spans.
        """
        if not 0 < self.noise_density < 1:
            raise UserError(f"SpanCorruption.noise_density = {self.noise_density}: expected a share between 0 and 1")
        if not self.mean_noise_span_length >= 1:
            raise UserError(
                f"SpanCorruption.mean_noise_span_length = {self.mean_noise_span_length}: expected at least 1"
            )
        if window < 2:
            raise UserError(f"span_corruption needs windows of at least 2 tokens, not {window}")
        counts = span_counts(window, self.noise_density, self.mean_noise_span_length)
        if counts.spans > counts.kept:
            raise UserError(
                f"SpanCorruption.noise_density = {self.noise_density} leaves {counts.kept} of {window} tokens between "
                f"{counts.spans} spans: fewer noise tokens or longer spans are needed"
            )
        return counts

    def lengths(self, architecture: str, window: int) -> dict[str, int]:
        """Returns the tokens each side reads."""
        return self._pair_lengths(window).sides(self.name, architecture)

    def num_scored(self, architecture: str, window: int) -> int:
        """Returns how many tokens of a window carry loss: all targets."""
        return self._pair_lengths(window).targets

    def transform(self, architecture: str, special: SpecialTokens, vocab_size: int, window: int) -> Transform:
        """Returns the function from a window to features of `architecture`."""
        lengths = self.lengths(architecture, window)
        return pair_transform(self.pair(special, window), architecture, lengths, special, self.bidirectional_prefix)

    def pair(self, special: SpecialTokens, window: int) -> PairFunction:
        """Returns the function from tokens to corrupted inputs and the missing spans."""
        spans = self.counts(window).spans
        sentinels = special.first_sentinels(spans, f"span_corruption of windows of {window} tokens")
        mode = special.mode(self.mode, "SpanCorruption")
        end = np.array([special.eos], np.int32)

        def pair(tokens: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            counts = span_counts(max(len(tokens), 2), self.noise_density, self.mean_noise_span_length)
            inputs, targets = corrupt(tokens, random_noise_mask(len(tokens), counts, rng), sentinels)
            return np.concatenate([mode, inputs, end]), np.concatenate([targets, end])

        return pair

    def _pair_lengths(self, window: int) -> PairLengths:
        counts = self.counts(window)
        inputs = (self.mode is not None) + counts.kept + counts.spans + 1
        targets = counts.noise + counts.spans + 1
        return PairLengths(inputs, targets, inputs + targets)


def span_counts(length: int, noise_density: float, mean_noise_span_length: float) -> SpanCounts:
    """Returns the counts of a sequence of `length` tokens, at least 2.

    Products and quotients are rounded as T5's mask does, in float32 and halves to even; its `random_spans_helper`
    rounds in float64 and differs from it by one token at some lengths (190, 350, ... at a density of 0.15).
    """
    rounded = np.round(np.float32(length) * np.float32(noise_density))
    noise = min(max(int(rounded), 1), length - 1)
    spans = max(int(np.round(np.float32(noise) / np.float32(mean_noise_span_length))), 1)
    return SpanCounts(noise, length - noise, spans)


def random_noise_mask(length: int, counts: SpanCounts, rng: np.random.Generator) -> np.ndarray:
    """Returns bool[length], True in noise: kept and noise spans by turns, kept first, all such masks equally likely."""
    spans = min(counts.spans, counts.noise, counts.kept)
    both = np.stack([_random_lengths(counts.kept, spans, rng), _random_lengths(counts.noise, spans, rng)], axis=1)
    return np.repeat(np.arange(2 * spans) % 2 == 1, both.ravel())[:length]


def _random_lengths(total: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """Returns `parts` positive lengths that sum to `total`, every choice equally likely."""
    cuts = np.sort(rng.choice(total - 1, parts - 1, replace=False, shuffle=False)) + 1
    return np.diff(cuts, prepend=0, append=total)


def corrupt(tokens: np.ndarray, noise: np.ndarray, sentinels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns inputs and targets: each noise span of the inputs, and each kept one of the targets, is one sentinel.

    "Thank you for inviting me to your party" with noise at "for inviting" and "party" gives "Thank you <X> me to your
    <Y>" and "<X> for inviting <Y> party".

    Args:
      tokens: int32[length].
      noise: bool[length].
      sentinels: ids in order of use, at least as many as there are spans.
    """
    return _spans_to_sentinels(tokens, noise, sentinels), _spans_to_sentinels(tokens, ~noise, sentinels)


def _spans_to_sentinels(tokens: np.ndarray, replaced: np.ndarray, sentinels: np.ndarray) -> np.ndarray:
    first = replaced.copy()
    first[1:] &= ~replaced[:-1]
    result = tokens.copy()
    result[first] = sentinels[: np.count_nonzero(first)]
    return result[first | ~replaced]
