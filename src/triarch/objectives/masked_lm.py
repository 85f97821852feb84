"""Masked language modelling: some tokens are hidden and predicted from both sides."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from triarch.data.features import Features, Transform
from triarch.objectives import documents
from triarch.objectives.base import SpecialTokens, require_architecture
from triarch.objectives.masking import Masking
from triarch.objectives.token_objective import TokenObjective


@dataclasses.dataclass(frozen=True)
class MaskedLM(TokenObjective):
    """Predicts a random share of tokens (BERT, arXiv 1810.04805; Ettin, arXiv 2507.11412: 30 %, then 15 %).

    Of the chosen tokens most are replaced by the mask token, some by a random token, and the rest stay; all of
    them, and only they, are scored. Special tokens are never chosen; of the others exactly `round(rate * count)` are.

    With `add_special_tokens` a document is read as BERT's and ModernBERT's tokenizers lay it out, [CLS] text [SEP], and
    a row is two tokens longer than the window: [SEP], which every whole document ends with, is put where a window cuts
    one too. A packed store needs `prepare --gap=1`, which leaves room for a [CLS] a document.

    Attributes:
      rate: share of tokens to choose.
      mask_share: share of the chosen that become the mask token.
      random_share: share of the chosen that become a token drawn uniformly from the vocabulary.
      add_special_tokens: whether each document is read between the vocabulary's start and end tokens, as by models that
        were trained with [CLS] and [SEP]; without, it is followed by the end token alone.
    """

    rate: float = 0.3
    mask_share: float = 0.8
    random_share: float = 0.1
    add_special_tokens: bool = False

    name = "masked_lm"
    layouts = ("windows", "packed")

    def lengths(self, architecture: str, window: int) -> dict[str, int]:
        """Returns the tokens each side reads."""
        require_architecture(self.name, architecture, ("encoder-only",))
        return {"encoder": window + documents.FRAME * self.add_special_tokens}

    def num_scored(self, architecture: str, window: int) -> int:
        """Returns how many tokens of a window carry loss, at most."""
        return self._masking.most(window)

    def transform(self, architecture: str, special: SpecialTokens, vocab_size: int, window: int) -> Transform:
        """Returns the function from a window to encoder features; random choices come from its generator."""
        length = self.lengths(architecture, window)["encoder"]
        masking = self._masking
        masking.validate(special)
        masking.most(window)
        if self.add_special_tokens:
            documents.require_frame(special, "MaskedLM.add_special_tokens")

        def features(example: Mapping[str, np.ndarray], rng: np.random.Generator) -> Features:
            is_packed = "segment_ids" in example
            if self.add_special_tokens:
                framed = documents.framed(*documents.tokens_and_segments(example), special, length)
                example = {"tokens": framed.tokens, "segment_ids": framed.segments}
            masked = masking.of_example(example, special, vocab_size, rng)
            return {
                "encoder_input_tokens": masked.hidden,
                "encoder_segment_ids": masked.there,
                "encoder_target_tokens": masked.tokens,
                "encoder_loss_weights": masked.weights,
                **documents.features("encoder", masked.segments if is_packed else None),
            }

        return features

    @property
    def _masking(self) -> Masking:
        return Masking("MaskedLM", self.rate, self.mask_share, self.random_share)
