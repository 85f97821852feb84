"""Prompts of unequal lengths as one batch, its shape one of a few."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from triarch.errors import UserError
from triarch.models import ModelConfig

_SMALLEST = 16


@dataclasses.dataclass(frozen=True)
class PromptLayout:
    """How prompts are put before a model.

    Attributes:
      config: of the model.
      start: what a decoder reads before anything else.
      bidirectional: whether a decoder-only model's prompt tokens see each other in both directions (prefix LM).
    """

    config: ModelConfig
    start: tuple[int, ...]
    bidirectional: bool = False

    @property
    def has_encoder(self) -> bool:
        """Whether prompts are read by an encoder."""
        return self.config.num_encoder_layers > 0

    def check(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
        """Raises UserError, naming the prompt, for one that is empty, too long or holds an unknown id."""
        places, vocab_size = self._places, self.config.vocab_size
        for number, prompt in enumerate(prompts, 1):
            if not len(prompt):
                raise UserError(f"prompt {number} is empty")
            bad = next((token for token in prompt if not 0 <= token < vocab_size), None)
            if bad is not None:
                raise UserError(
                    f"prompt {number} holds the id {bad}, the model knows 0 to {self.config.vocab_size - 1}"
                )
            if places is None:
                continue
            if self.has_encoder and len(prompt) > places:
                raise UserError(f"prompt {number} has {len(prompt)} tokens, the model has positions for {places}")
            read = len(self._before(prompt))
            if read > places:
                raise UserError(f"prompt {number} has {read} tokens, the model has positions for {places}")
            # The last new token is never read.
            if read + max_new_tokens - 1 > places:
                raise UserError(
                    f"prompt {number} has {read} tokens, and max_new_tokens={max_new_tokens} more go beyond the "
                    f"model's {places} positions: at most {places - read + 1} more"
                )

    def batch(self, prompts: Sequence[Sequence[int]], rows: int) -> dict[str, np.ndarray]:
        """Returns the features of prompts, padded on the left in a decoder and on the right in an encoder.

        Args:
          prompts: not empty, checked.
          rows: of the batch; the last prompt fills those that are left.
        """
        prompts = [*prompts, *[prompts[-1]] * (rows - len(prompts))]
        read = [self._before(prompt) for prompt in prompts]
        tokens, real = _padded(read, self._length(read), left=True)
        batch = {"decoder_input_tokens": tokens, "decoder_segment_ids": real}
        if self.has_encoder:
            tokens, real = _padded(prompts, self._length(prompts), left=False)
            batch |= {"encoder_input_tokens": tokens, "encoder_segment_ids": real}
        elif self.bidirectional:
            batch["decoder_causal_attention"] = real
        return batch

    @property
    def _places(self) -> int | None:
        rows = self.config.learned_positions
        return None if rows is None else rows - self.config.learned_position_offset

    def _before(self, prompt: Sequence[int]) -> list[int]:
        """Returns what the decoder reads before the first new token."""
        return [*self.start, *([] if self.has_encoder else prompt)]

    def _length(self, rows: Sequence[Sequence[int]]) -> int:
        longest = max(map(len, rows))
        # What is read once at a start of one token needs no room for more.
        length = longest if longest == len(self.start) else bucket(longest)
        return length if self._places is None else min(length, self._places)


def bucket(length: int) -> int:
    """Returns the least of 16, 24, 32, 48, 64, 96, ... that is no less than `length`: few shapes, little waste."""
    size = _SMALLEST
    while size < length:
        size *= 2
    three_quarters = size * 3 // 4
    return three_quarters if size > _SMALLEST and three_quarters >= length else size


def row_bucket(count: int) -> int:
    """Returns the least power of two that is no less than `count`."""
    return 1 << max(count - 1, 0).bit_length()


def _padded(rows: Sequence[Sequence[int]], length: int, left: bool) -> tuple[np.ndarray, np.ndarray]:
    tokens, real = (np.zeros((len(rows), length), np.int32) for _ in range(2))
    for index, row in enumerate(rows):
        place = slice(length - len(row), None) if left else slice(0, len(row))
        tokens[index, place], real[index, place] = row, 1
    return tokens, real
