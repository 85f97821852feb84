"""How tokens are chosen, and when to stop."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from triarch.errors import UserError
from triarch.fields import Count, Limits, NotNegative, Seed, Size, check, is_whole


@dataclasses.dataclass(frozen=True)
class GenerationSettings:
    """How a continuation is chosen token by token.

    Logits are divided by the temperature, then cut by top_k, top_p and min_p in this order, each seeing what the
    one before has left; tokens as likely as the last one kept are kept too.

    Attributes:
      max_new_tokens: tokens to generate at most.
      temperature: 0 takes the likeliest token (greedy); 1 samples from the model's distribution.
      top_k: sample from this many likeliest tokens only; None from all.
      top_p: sample from the fewest tokens that together have this probability (arXiv 1904.09751); None from all.
      min_p: sample from tokens at least this share as likely as the likeliest (arXiv 2407.01082); None from all.
      num_beams: continuations kept side by side (beam search); 1 is none of it.
      length_penalty: a finished beam of n new tokens, the stop token included, and log-probability s scores
        s / n^length_penalty: above 0 favours long ones. As `generate` of Hugging Face has it.
      first_token: what every row begins with, whatever the model makes of it; None for its own choice. It counts as a
        new token, of log-probability 0 (`forced_bos_token_id` of Hugging Face's `generate`).
      last_token: what a row that is `max_new_tokens` long ends with, likewise (`forced_eos_token_id`); None for the
        model's own choice. A stop token, as it usually is, is left out of the row.
      stop_tokens: sequences of token ids; the first to appear ends a row and is left out of it.
      seed: of sampling: a token is a pure function of its logits, (seed, row, step) and the settings.
    """

    max_new_tokens: Annotated[int, Limits(least=1, most=2**20)] = 128
    temperature: NotNegative = 0.0
    top_k: Size | None = None
    top_p: Annotated[float, Limits(above=0, most=1)] | None = None
    min_p: Annotated[float, Limits(above=0, most=1)] | None = None
    num_beams: Size = 1
    length_penalty: float = 1.0
    first_token: Count | None = None
    last_token: Count | None = None
    stop_tokens: tuple[tuple[int, ...], ...] = ()
    seed: Seed = 0

    @property
    def samples(self) -> bool:
        """Whether there is chance in it."""
        return self.temperature > 0

    @property
    def num_single_stops(self) -> int:
        """How many stop sequences are of one token, as many as may end the best continuations of a beam."""
        return sum(len(sequence) == 1 for sequence in self.stop_tokens)

    def validate(self, vocab_size: int | None = None) -> None:
        """Raises UserError, naming the field, for values out of range or that exclude each other."""
        check(self, name=lambda field: f"{field}=")
        for name in ("top_k", "top_p", "min_p"):
            idle = getattr(self, name) is not None and not self.samples
            self._require(name, not idle, "has no effect at temperature 0: set a temperature")
        both = self.num_beams > 1 and self.samples
        self._require("num_beams", not both, "goes with temperature 0: beam search does not sample")
        for name in ("first_token", "last_token"):
            token = getattr(self, name)
            known = token is None or vocab_size is None or token < vocab_size
            self._require(name, known, "expected an id of the vocabulary")
        for sequence in self.stop_tokens:
            self._require("stop_tokens", len(sequence) > 0, "holds an empty sequence")
            if vocab_size is not None:
                known = all(is_whole(token) and 0 <= token < vocab_size for token in sequence)
                limits = f"holds an id that is not in the vocabulary (0 to {vocab_size - 1})"
                self._require("stop_tokens", known, limits)

    def _require(self, field: str, condition: bool, expectation: str) -> None:
        if not condition:
            raise UserError(f"{field}={getattr(self, field)}: {expectation}")
