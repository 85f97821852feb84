"""Masked language modelling: some tokens are hidden and predicted from both sides."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from triarch.errors import UserError
from triarch.objectives.base import Features, SpecialTokens, Transform, require_architecture


@dataclasses.dataclass(frozen=True)
class MaskedLM:
    """Predicts a random share of tokens (BERT, arXiv 1810.04805; Ettin, arXiv 2507.11412: 30 %, then 15 %).

    Of the chosen tokens most are replaced by the mask token, some by a random token, and the rest stay; all of
    them, and only they, are scored. Exactly `round(rate * window)` tokens are chosen.

    Attributes:
      rate: share of tokens to choose.
      mask_share: share of the chosen that become the mask token.
      random_share: share of the chosen that become a token drawn uniformly from the vocabulary.
    """

    rate: float = 0.3
    mask_share: float = 0.8
    random_share: float = 0.1

    name = "masked_lm"

    def lengths(self, architecture: str, window: int) -> dict[str, int]:
        """Returns the tokens each side reads."""
        require_architecture(self.name, architecture, ("encoder-only",))
        return {"encoder": window}

    def num_scored(self, architecture: str, window: int) -> int:
        """Returns how many tokens of a window carry loss.

        Raises:
          UserError: the rate leaves nothing to predict, or nothing to predict it from.
        """
        count = round(self.rate * window)
        if not 0 < count < window:
            raise UserError(f"MaskedLM.rate = {self.rate} chooses {count} of {window} tokens")
        return count

    def transform(self, architecture: str, special: SpecialTokens, vocab_size: int) -> Transform:
        """Returns the function from a window to encoder features; random choices come from its generator."""
        require_architecture(self.name, architecture, ("encoder-only",))
        if special.mask is None:
            raise UserError("masked_lm needs a mask token, and the store's vocabulary has none")
        if min(self.mask_share, self.random_share) < 0 or self.mask_share + self.random_share > 1 + 1e-9:
            shares = f"mask_share = {self.mask_share} and random_share = {self.random_share}"
            raise UserError(f"MaskedLM.{shares} must be shares of the chosen tokens: none negative, sum at most 1")

        def features(example: Mapping[str, np.ndarray], rng: np.random.Generator) -> Features:
            tokens = np.asarray(example["tokens"], np.int32)
            chosen = rng.permutation(len(tokens))[: self.num_scored(architecture, len(tokens))]
            fate = rng.random(len(chosen))
            noise = rng.integers(vocab_size, size=len(chosen), dtype=np.int32)
            masked = np.where(fate < self.mask_share, special.mask, tokens[chosen])
            replaced = (self.mask_share <= fate) & (fate < self.mask_share + self.random_share)
            inputs = tokens.copy()
            inputs[chosen] = np.where(replaced, noise, masked)
            weights = np.zeros(tokens.shape, np.float32)
            weights[chosen] = 1.0
            return {
                "encoder_input_tokens": inputs,
                "encoder_segment_ids": np.ones_like(tokens),
                "encoder_target_tokens": tokens,
                "encoder_loss_weights": weights,
            }

        return features
