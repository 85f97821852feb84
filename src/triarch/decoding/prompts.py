"""Prompts of unequal lengths as one batch, its shape one of a few."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

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
        places, vocab_size = num_places(self.config), self.config.vocab_size
        for number, prompt in enumerate(prompts, 1):
            if not len(prompt):
                raise UserError(f"prompt {number} is empty")
            bad = next((token for token in prompt if not 0 <= token < vocab_size), None)
            if bad is not None:
                raise UserError(f"prompt {number} holds the id {bad}, the model knows 0 to {vocab_size - 1}")
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
        read = [self._before(prompt) for prompt in prompts]
        tokens, real = padded(read, rows, self._length(read), left=True)
        batch = {"decoder_input_tokens": tokens, "decoder_segment_ids": real}
        if self.has_encoder:
            tokens, real = padded(prompts, rows, self._length(prompts), left=False)
            batch |= {"encoder_input_tokens": tokens, "encoder_segment_ids": real}
        elif self.bidirectional:
            batch["decoder_causal_attention"] = real
        return batch

    def _before(self, prompt: Sequence[int]) -> list[int]:
        """Returns what the decoder reads before the first new token."""
        return [*self.start, *([] if self.has_encoder else prompt)]

    def _length(self, rows: Sequence[Sequence[int]]) -> int:
        longest, places = max(map(len, rows)), num_places(self.config)
        # What is read once at a start of one token needs no room for more.
        length = longest if longest == len(self.start) else bucket(longest)
        return length if places is None else min(length, places)


def num_places(config: ModelConfig) -> int | None:
    """Returns how many tokens a side can read; None if positions are not learned."""
    rows = config.learned_positions
    return None if rows is None else rows - config.learned_position_offset


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


def in_batches(
    rows: Sequence[Sequence[int]], batch_size: int, run: Callable[[Sequence[int]], Sequence[list[int]]]
) -> list[list[int]]:
    """Puts rows of like lengths into batches, and what `run` makes of the numbers of a batch's rows into their order.

    Raises:
      UserError: the batch size is not positive.
    """
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size}: expected at least 1")
    results: list[list[int]] = [[] for _ in rows]
    by_length = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    for first in range(0, len(rows), batch_size):
        chosen = by_length[first : first + batch_size]
        for index, tokens in zip(chosen, run(chosen), strict=True):
            results[index] = tokens
    return results


def padded(rows: Sequence[Sequence[int]], count: int, length: int, left: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns tokens and where they are real, int32[count, length].

    Args:
      rows: of tokens; a row that only fills the batch repeats the last one.
      count: rows of the result.
      length: columns of the result.
      left: whether padding is on the left.
    """
    tokens, real = (np.zeros((count, length), np.int32) for _ in range(2))
    for index in range(count):
        row = rows[min(index, len(rows) - 1)]
        place = slice(length - len(row), None) if left else slice(0, len(row))
        tokens[index, place], real[index, place] = row, 1
    return tokens, real
