"""Causal language modelling: every token is predicted from those before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from triarch.data.features import Features, Transform
from triarch.objectives import documents
from triarch.objectives.base import SpecialTokens, require_architecture
from triarch.objectives.token_objective import TokenObjective


@dataclasses.dataclass(frozen=True)
class CausalLM(TokenObjective):
    """Predicts every token of a window (DecLLM, arXiv 2510.26622; Ettin decoders)."""

    name = "causal_lm"
    layouts = ("windows", "packed")

    def lengths(self, architecture: str, window: int) -> dict[str, int]:
        """Returns the tokens each side reads."""
        require_architecture(self.name, architecture, ("decoder-only",))
        return {"decoder": window}

    def num_scored(self, architecture: str, window: int) -> int:
        """Returns how many tokens of a window carry loss."""
        return window

    def transform(self, architecture: str, special: SpecialTokens, vocab_size: int, window: int) -> Transform:
        """Returns the function from a window to decoder features."""
        self.lengths(architecture, window)

        def features(example: Mapping[str, np.ndarray], rng: np.random.Generator) -> Features:
            tokens, segments = documents.tokens_and_segments(example)
            return {
                "decoder_input_tokens": documents.shift_right(tokens, special.bos, segments),
                "decoder_target_tokens": tokens,
                "decoder_loss_weights": documents.is_token(tokens, segments).astype(np.float32),
                **documents.features("decoder", segments),
            }

        return features
