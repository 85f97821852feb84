"""How tokens are chosen, and when to stop."""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import Any

from triarch.errors import UserError

# The cache has room for all of them from the start: more is a slip of the keyboard.
_MOST_NEW_TOKENS = 2**20


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

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    num_beams: int = 1
    length_penalty: float = 1.0
    first_token: int | None = None
    last_token: int | None = None
    stop_tokens: tuple[tuple[int, ...], ...] = ()
    seed: int = 0

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
        whole = _is_whole(self.max_new_tokens, 1) and self.max_new_tokens <= _MOST_NEW_TOKENS
        self._require("max_new_tokens", whole, f"expected 1 to {_MOST_NEW_TOKENS:,}")
        self._require("num_beams", _is_whole(self.num_beams, 1), "expected at least 1 (1 is no beam search)")
        self._require("seed", _is_whole(self.seed, 0) and self.seed < 2**32, "expected 0 to 2^32 - 1")
        self._require("temperature", _is_finite(self.temperature) and self.temperature >= 0, "expected 0 or more")
        self._require("length_penalty", _is_finite(self.length_penalty), "expected a finite number")
        self._require("top_k", self.top_k is None or _is_whole(self.top_k, 1), "expected at least 1")
        for name in ("top_p", "min_p"):
            value = getattr(self, name)
            self._require(name, value is None or (_is_finite(value) and 0 < value <= 1), "expected above 0, at most 1")
        for name in ("top_k", "top_p", "min_p"):
            idle = getattr(self, name) is not None and not self.samples
            self._require(name, not idle, "has no effect at temperature 0: set a temperature")
        both = self.num_beams > 1 and self.samples
        self._require("num_beams", not both, "goes with temperature 0: beam search does not sample")
        for name in ("first_token", "last_token"):
            token = getattr(self, name)
            known = token is None or (_is_whole(token, 0) and (vocab_size is None or token < vocab_size))
            self._require(name, known, "expected an id of the vocabulary")
        for sequence in self.stop_tokens:
            self._require("stop_tokens", len(sequence) > 0, "holds an empty sequence")
            if vocab_size is not None:
                known = all(_is_whole(token, 0) and token < vocab_size for token in sequence)
                limits = f"holds an id that is not in the vocabulary (0 to {vocab_size - 1})"
                self._require("stop_tokens", known, limits)

    def _require(self, field: str, condition: bool, expectation: str) -> None:
        if not condition:
            raise UserError(f"{field}={getattr(self, field)}: {expectation}")


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= least


def _is_finite(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
