"""Masked next-token prediction: a decoder learns to look both ways."""

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
class MNTP(TokenObjective):
    """Predicts hidden tokens, each at the place before it, attending in both directions.

    This turns a decoder into an encoder (LLM2Vec, arXiv 2404.05961; Ettin's encoders from decoders, arXiv 2507.11412:
    15 %): like a decoder it reads the start token and all tokens but the last, and predicts each token where the token
    before it is read. A decoder-only model does so with a prefix that is the whole window
    (`decoder_causal_attention`), an encoder-only model, which has the same parameters, by itself.

    Attributes:
      rate: share of tokens to choose.
      mask_share: share of the chosen that become the mask token.
      random_share: share of the chosen that become a token drawn uniformly from the vocabulary; the rest stay.
    """

    rate: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1

    name = "mntp"
    layouts = ("windows", "packed")

    def lengths(self, architecture: str, window: int) -> dict[str, int]:
        """Returns the tokens each side reads."""
        require_architecture(self.name, architecture, ("encoder-only", "decoder-only"))
        return {"encoder" if architecture == "encoder-only" else "decoder": window}

    def num_scored(self, architecture: str, window: int) -> int:
        """Returns how many tokens of a window carry loss, at most."""
        return self._masking.most(window)

    def transform(self, architecture: str, special: SpecialTokens, vocab_size: int, window: int) -> Transform:
        """Returns the function from a window to features of its one side; random choices come from its generator."""
        (side,) = self.lengths(architecture, window)
        masking = self._masking
        masking.validate(special)
        masking.most(window)

        def features(example: Mapping[str, np.ndarray], rng: np.random.Generator) -> Features:
            masked = masking.of_example(example, special, vocab_size, rng)
            return {
                f"{side}_input_tokens": documents.shift_right(masked.hidden, special.bos, masked.segments),
                f"{side}_target_tokens": masked.tokens,
                f"{side}_loss_weights": masked.weights,
                "encoder_segment_ids" if side == "encoder" else "decoder_causal_attention": masked.there,
                **documents.features(side, masked.segments),
            }

        return features

    @property
    def _masking(self) -> Masking:
        return Masking("MNTP", self.rate, self.mask_share, self.random_share)
