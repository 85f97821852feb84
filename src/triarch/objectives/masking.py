"""Which tokens are hidden, and behind what: shared by masked and masked next-token prediction."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from triarch.errors import UserError
from triarch.objectives import documents
from triarch.objectives.base import SpecialTokens


class Masked(NamedTuple):
    """An example with some of its tokens hidden, [window] each.

    Attributes:
      tokens: int32, as they were.
      hidden: int32, as they are read.
      weights: float32, 1 where a token was chosen.
      there: int32, 0 in padding.
      segments: int32, which document a token belongs to; None for a window that is one text.
    """

    tokens: np.ndarray
    hidden: np.ndarray
    weights: np.ndarray
    there: np.ndarray
    segments: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Masking:
    """Hides a random share of tokens (BERT, arXiv 1810.04805).

    Special tokens (padding, start, end of document, mask) are never chosen, as in BERT's own preprocessing and in
    Hugging Face's collator, which Ettin's code uses without sequence packing (with it, any token is chosen); they are
    left out of the count that `rate` is a share of.

    Attributes:
      owner: class that messages name.
      rate: share of tokens to choose.
      mask_share: share of the chosen that become the mask token.
      random_share: share of the chosen that become a token drawn uniformly from the vocabulary; the rest stay.
    """

    owner: str
    rate: float
    mask_share: float
    random_share: float

    def most(self, window: int) -> int:
        """Returns how many tokens are chosen of a window without special tokens; no more ever are.

        Raises:
          UserError: the rate leaves nothing to predict, or nothing to predict it from.
        """
        count = round(self.rate * window)
        if not 0 < count < window:
            raise UserError(f"{self.owner}.rate = {self.rate} chooses {count} of {window} tokens")
        return count

    def validate(self, special: SpecialTokens) -> None:
        """Raises UserError if the vocabulary has no mask, or the shares are none."""
        if special.mask is None:
            raise UserError(f"{self.owner} needs a mask token, and the store's vocabulary has none (see --add_mask)")
        if min(self.mask_share, self.random_share) < 0 or self.mask_share + self.random_share > 1 + 1e-9:
            shares = f"mask_share = {self.mask_share} and random_share = {self.random_share}"
            raise UserError(f"{self.owner}.{shares} must be shares of the chosen tokens: none negative, sum at most 1")

    def of_example(
        self, example: Mapping[str, np.ndarray], special: SpecialTokens, vocab_size: int, rng: np.random.Generator
    ) -> Masked:
        """Returns an example with some of its tokens hidden; the arguments are those of an objective's transform."""
        tokens, segments = documents.tokens_and_segments(example)
        there = documents.is_token(tokens, segments)
        hidden, chosen = self.hide(tokens, there, special, vocab_size, rng)
        weights = np.zeros(tokens.shape, np.float32)
        weights[chosen] = 1.0
        return Masked(tokens, hidden, weights, there.astype(np.int32), segments)

    def hide(
        self,
        tokens: np.ndarray,
        there: np.ndarray,
        special: SpecialTokens,
        vocab_size: int,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns `tokens` with some of them hidden, and the positions chosen.

        Args:
          tokens: int32[length].
          there: bool[length]: False in padding.
          special: of the vocabulary.
          vocab_size: random tokens are below it.
          rng: of all choices.
        """
        candidates = np.flatnonzero(there & _ordinary(tokens, special))
        # At least one, as BERT: a window with nothing to predict teaches nothing.
        count = max(round(self.rate * len(candidates)), min(1, len(candidates)))
        chosen = candidates[rng.permutation(len(candidates))[:count]]
        fate = rng.random(count)
        noise = rng.integers(vocab_size, size=count, dtype=np.int32)
        assert special.mask is not None
        masked = np.where(fate < self.mask_share, special.mask, tokens[chosen])
        replaced = (self.mask_share <= fate) & (fate < self.mask_share + self.random_share)
        hidden = tokens.copy()
        hidden[chosen] = np.where(replaced, noise, masked)
        return hidden, chosen


def _ordinary(tokens: np.ndarray, special: SpecialTokens) -> np.ndarray:
    ordinary = tokens != special.pad
    for index in {special.bos, special.eos, special.mask} - {special.pad, None}:
        ordinary &= tokens != index
    return ordinary
