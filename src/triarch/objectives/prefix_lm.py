"""Prefix language modelling: a window is cut in two, and the second part predicted given the first."""

from __future__ import annotations

import dataclasses

import numpy as np

from triarch.errors import UserError
from triarch.objectives.base import Features, SpecialTokens, Transform, require_architecture, shift_right

_ARCHITECTURES = ("encoder-decoder", "decoder-only")


@dataclasses.dataclass(frozen=True)
class PrefixLM:
    """Predicts the second part of a window given the first (RedLLM, arXiv 2510.26622: cut in the middle).

    An encoder-decoder reads the prefix in its encoder. A decoder-only model reads the whole window, is scored on the
    second part only, and sees the prefix causally, or in both directions if asked.

    Attributes:
      prefix_fraction: share of the window that is prefix.
      bidirectional_prefix: whether a decoder-only model's prefix tokens see each other in both directions.
    """

    prefix_fraction: float = 0.5
    bidirectional_prefix: bool = False

    name = "prefix_lm"

    def prefix_length(self, window: int) -> int:
        """Returns how many tokens of a window are prefix.

        Raises:
          UserError: nothing would be left on one of the sides.
        """
        length = round(self.prefix_fraction * window)
        if not 0 < length < window:
            raise UserError(
                f"PrefixLM.prefix_fraction = {self.prefix_fraction} leaves one side of {window} tokens empty"
            )
        return length

    def lengths(self, architecture: str, window: int) -> dict[str, int]:
        """Returns the tokens each side reads."""
        require_architecture(self.name, architecture, _ARCHITECTURES)
        prefix = self.prefix_length(window)
        if architecture == "decoder-only":
            return {"decoder": window}
        return {"encoder": prefix, "decoder": window - prefix}

    def num_scored(self, architecture: str, window: int) -> int:
        """Returns how many tokens of a window carry loss."""
        return window - self.prefix_length(window)

    def transform(self, architecture: str, special: SpecialTokens, vocab_size: int) -> Transform:
        """Returns the function from a window to features of `architecture`."""
        require_architecture(self.name, architecture, _ARCHITECTURES)
        if architecture == "decoder-only":
            return lambda example, rng: self._one_sided(np.asarray(example["tokens"], np.int32), special)
        return lambda example, rng: self._two_sided(np.asarray(example["tokens"], np.int32), special)

    def _two_sided(self, tokens: np.ndarray, special: SpecialTokens) -> Features:
        prefix, targets = np.split(tokens, [self.prefix_length(len(tokens))])
        return {
            "encoder_input_tokens": prefix,
            "encoder_segment_ids": np.ones_like(prefix),
            "decoder_input_tokens": shift_right(targets, special.bos),
            "decoder_target_tokens": targets,
            "decoder_loss_weights": np.ones(targets.shape, np.float32),
        }

    def _one_sided(self, tokens: np.ndarray, special: SpecialTokens) -> Features:
        prefix = self.prefix_length(len(tokens))
        is_target = np.arange(len(tokens)) >= prefix
        features = {
            "decoder_input_tokens": shift_right(tokens, special.bos),
            "decoder_target_tokens": tokens,
            "decoder_loss_weights": is_target.astype(np.float32),
        }
        if self.bidirectional_prefix:
            # Inputs are shifted by one: the input at `prefix` is the prefix's last token (SeqIO's convention).
            features["decoder_causal_attention"] = (np.arange(len(tokens)) <= prefix).astype(np.int32)
        return features
