"""A text's ids out of its words' ids: text repeats its words, so each is tokenized once.

That is exact, not about right, where two things hold. No piece of the vocabulary crosses a border between words: then
the text between two borders is the same whatever stands around it. And the tokenizer's choice between pieces depends on
those pieces alone. Byte pair encoding's does: it merges neighbours in the order of fixed ranks, leftmost first, and two
merges on either side of a border never touch. A unigram model's does not: SentencePiece adds up 32-bit floats from the
start of the text, so what comes before decides how a near tie is rounded.
"""

from __future__ import annotations

import array
import re
from collections.abc import Callable, Iterable

import numpy as np

from triarch.tasks.tokenizers.base import parts

# Borders lie where a space follows anything else and, the finer the pattern, where letters meet other characters. A
# border is told from the two characters beside it alone, so a piece that holds none in itself never lies across one.
# The first is the fastest to match, the second keeps to words where pieces hold letters beyond ASCII.
_PATTERNS = (
    re.compile(r" *+(?:[A-Za-z]++|[^ A-Za-z]++)| ++"),
    re.compile(r" *+(?:[^\W\d_]++|(?:[\d_]|[^\w ])++)| ++"),
    re.compile(r" *+[^ ]++| ++"),
)
# A word of 64 characters and its ids take 1 KiB at most, the usual one an eighth of that: some 32 MiB in all.
_MAX_CHARACTERS = 64
_MAX_WORDS = 2**18


def word_pattern(pieces: Iterable[str]) -> re.Pattern[str] | None:
    """Returns what finds the words of a text such that no piece crosses a border, one after another without gaps.

    Args:
      pieces: all that text can become, with plain spaces.

    Returns:
      None where pieces hold several words, or end in a space.
    """
    pieces = list(pieces)
    return next((pattern for pattern in _PATTERNS if all(map(pattern.fullmatch, pieces))), None)


class WordIds(dict[str, bytes]):
    """The ids of words, remembered: int32 in the machine's byte order.

    Memory is bounded: long words are not kept, and when it is full all are forgotten, which costs less than keeping
    account of which were used last.
    """

    def __init__(self, encode: Callable[[str], list[int]], pattern: re.Pattern[str]):
        """Remembers what `encode` returns for the words that `pattern` finds."""
        super().__init__()
        self._encode = encode
        self._find = pattern.findall

    def of_text(self, text: str) -> np.ndarray:
        """Returns int32[tokens], read-only: the ids of `text`."""
        return np.frombuffer(b"".join(map(self._of_part, parts(text))), np.int32)

    def __missing__(self, word: str) -> bytes:
        ids = array.array("i", self._encode(word)).tobytes()
        if len(word) <= _MAX_CHARACTERS:
            if len(self) >= _MAX_WORDS:
                self.clear()
            self[word] = ids
        return ids

    def _of_part(self, text: str) -> bytes:
        return b"".join(map(self.__getitem__, self._find(text)))
