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
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from triarch.tokenizers.cuts import BETWEEN_WORDS

# Borders lie where a space follows anything else and, the finer the pattern, where letters meet other characters. A
# border is told from the two characters beside it alone, so a piece that holds none in itself never lies across one.
# The first is the fastest to match, the second keeps to words where pieces hold letters beyond ASCII.
_PATTERNS = (
    re.compile(r" *+(?:[A-Za-z]++|[^ A-Za-z]++)| ++"),
    re.compile(r" *+(?:[^\W\d_]++|(?:[\d_]|[^\w ])++)| ++"),
    re.compile(r" *+[^ ]++| ++"),
)
# A word of 64 characters and its ids take 1.5 KiB at most, the usual one a tenth of that: some 32 MiB in all.
_MAX_CHARACTERS = 64
_MAX_WORDS = 2**18
# A new word costs as much as 25 characters of running text. One in so many characters is more than text has once some
# megabytes are read; where there are more than that (base64, random names), running text is faster.
_CHARACTERS_A_NEW_WORD = 64
_NEW_WORDS_AT_FIRST = 2**16
# Characters that are taken apart at a time: little memory, and the credit is asked often.
_PART_CHARACTERS = 2**16


def word_pattern(pieces: Iterable[str]) -> re.Pattern[str] | None:
    """Returns what finds the words of a text such that no piece crosses a border, one after another without gaps.

    Args:
      pieces: all that text can become, with plain spaces.

    Returns:
      None where pieces hold several words, or end in a space.
    """
    pieces = list(pieces)
    return next((pattern for pattern in _PATTERNS if all(map(pattern.fullmatch, pieces))), None)


class WordEncoder(Protocol):
    """What makes ids of words and of running text: a SentencePieceProcessor."""

    def encode(self, input: str, out_type: type | str = int) -> Any:
        """Returns a list of ids, or int32[tokens] for "numpy"."""
        ...


class WordIds(dict[str, bytes]):
    """The ids of words, remembered: int32 in the machine's byte order.

    Memory is bounded: long words are not kept, and when it is full all are forgotten, which costs less than keeping
    account of which were used last. So is the time lost on text that does not repeat itself: new words are looked up
    on credit, and while that is used up running text is tokenized as it is. No answer depends on it.
    """

    def __init__(self, encoder: WordEncoder, pattern: re.Pattern[str]):
        """Remembers what `encoder` returns for the words that `pattern` finds."""
        super().__init__()
        self._encoder = encoder
        self._find = pattern.findall
        self._credit: float = _NEW_WORDS_AT_FIRST

    def of_text(self, text: str) -> np.ndarray:
        """Returns int32[tokens], read-only: the ids of `text`."""
        return np.frombuffer(b"".join(map(self._of_part, _parts(text))), np.int32)

    def __missing__(self, word: str) -> bytes:
        self._credit -= 1
        if len(word) > _MAX_CHARACTERS:
            return self._running(word)
        ids = array.array("i", self._encoder.encode(word)).tobytes()
        if len(self) >= _MAX_WORDS:
            self.clear()
        self[word] = ids
        return ids

    def _of_part(self, text: str) -> bytes:
        self._credit = min(self._credit + len(text) / _CHARACTERS_A_NEW_WORD, _NEW_WORDS_AT_FIRST)
        if self._credit < 0:
            return self._running(text)
        return b"".join(map(self.__getitem__, self._find(text)))

    def _running(self, text: str) -> bytes:
        # For short texts a list is faster.
        return self._encoder.encode(text, out_type="numpy").tobytes()


def _parts(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _PART_CHARACTERS:
        cut = BETWEEN_WORDS.search(text, start + _PART_CHARACTERS)
        if cut is None:
            break
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]
