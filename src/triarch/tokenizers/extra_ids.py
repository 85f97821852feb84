"""Ids put behind a vocabulary's own: a mask, UL2's mode tokens, T5's sentinels."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from triarch.data.manifest import Vocabulary
from triarch.data.token_bytes import TokenBytes
from triarch.errors import UserError
from triarch.tokenizers.base import Tokenizer
from triarch.tokenizers.cuts import TextPart

# UL2 (arXiv 2205.05131): regular span corruption, sequential (prefix LM), extreme span corruption.
MODES = ("R", "S", "X")
# T5 has 100, and no text has as many spans as this.
MOST_SENTINELS = 10_000


@dataclasses.dataclass(frozen=True)
class ExtraIds:
    """Which ids a vocabulary gets behind its own, in this order.

    Attributes:
      mask: one that stands for a token to be guessed.
      modes: one for each of UL2's `MODES`.
      sentinels: how many mark where a span was taken out (T5: 100). They come last and are counted from the end, so
        that sentinel k is the vocabulary's size - 1 - k, as SeqIO's `extra_ids`.
    """

    mask: bool = False
    modes: bool = False
    sentinels: int = 0

    @property
    def count(self) -> int:
        """How many ids that makes."""
        return int(self.mask) + len(MODES) * self.modes + self.sentinels

    @classmethod
    def found_in(cls, vocabulary: Vocabulary, base_size: int) -> ExtraIds:
        """Returns which ids from `base_size` on are the extra ones of `vocabulary`."""
        special = vocabulary.special
        mask = special["mask"]
        first_sentinel, sentinels = special.get("sentinels", (-1, 0))
        return cls(
            mask=mask is not None and mask >= base_size,
            modes=any(index >= base_size for index in special.get("modes", {}).values()),
            sentinels=sentinels if first_sentinel >= base_size else 0,
        )


class TokenizerWithExtraIds:
    """A tokenizer with more special ids; what it makes of text does not change."""

    def __init__(self, base: Tokenizer, extra: ExtraIds):
        self.base = base
        self.extra = extra
        self.info = _extended(base.info, extra)

    @property
    def token_texts(self) -> list[bytes]:
        return [*self.base.token_texts, *[b""] * self.extra.count]

    @functools.cached_property
    def token_bytes(self) -> TokenBytes:
        base, none = self.base.token_bytes, np.zeros(self.extra.count, np.uint16)
        return TokenBytes(np.append(base.own, none), np.append(base.first, none), base.space)

    def encode(self, text: str) -> np.ndarray:
        return self.base.encode(text)

    def parts(self, text: str) -> Iterable[TextPart]:
        return self.base.parts(text)

    def encode_part(self, part: TextPart) -> np.ndarray:
        return self.base.encode_part(part)

    def decode(self, ids: Sequence[int]) -> str:
        return self.base.decode([index for index in ids if index < self.base.info.size])

    def save(self, folder: Path) -> None:
        self.base.save(folder)


def with_extra_ids(base: Tokenizer, extra: ExtraIds) -> Tokenizer:
    """Returns `base` with the ids of `extra`.

    Raises:
      UserError: `base` has such ids already, or the number of sentinels is negative or above MOST_SENTINELS.
    """
    if not 0 <= extra.sentinels <= MOST_SENTINELS:
        raise UserError(f"add_sentinels={extra.sentinels}: expected 0 to {MOST_SENTINELS:,} sentinels (T5 has 100)")
    if extra.count and isinstance(base, TokenizerWithExtraIds):
        raise UserError("the vocabulary has ids added already: leave out --add_mask, --add_modes and --add_sentinels")
    special = base.info.special
    if extra.mask and special["mask"] is not None:
        raise UserError(f"the vocabulary has a mask already, id {special['mask']}: leave out --add_mask")
    if extra.sentinels and "sentinels" in special:
        raise UserError(f"the vocabulary has {special['sentinels'][1]} sentinels already: leave out --add_sentinels")
    if extra.modes and "modes" in special:
        raise UserError("the vocabulary has mode tokens already: leave out --add_modes")
    return TokenizerWithExtraIds(base, extra) if extra.count else base


def _extended(info: Vocabulary, extra: ExtraIds) -> Vocabulary:
    special = dict(info.special)
    size = info.size
    if extra.mask:
        special["mask"] = size
        size += 1
    if extra.modes:
        special["modes"] = {mode: size + index for index, mode in enumerate(MODES)}
        size += len(MODES)
    if extra.sentinels:
        size += extra.sentinels
        special["sentinels"] = [size - 1, extra.sentinels]
    added = f"{info.fingerprint} mask={extra.mask} modes={extra.modes} sentinels={extra.sentinels}"
    return Vocabulary(info.kind, size, hashlib.sha256(added.encode()).hexdigest(), special)
