"""Where a long text is cut, so that the ids of its parts, one after another, are those of the whole text.

Before a space between two words is simplest, where no piece of the vocabulary spans words. Text without such spaces
(Chinese, base64, minified code, DNA) is cut where it can be shown not to matter. Byte pair encoding and unigram models
have this in common: between two borders of tokens they make of a text what they make of it alone. So where every text
that begins at one of certain places before a cut, and ends at one of certain places behind it, is tokenized as its
two halves are, the whole text is too, if it has a border at one of the former and at one of the latter. Such places are
any place and the ends of all pieces that lie across it there. Three things are taken for granted: that normalizers and
pre-tokenizers go by the characters nearby (several texts more are tried for their sake), that of equal ways to
cut a text any is right, and that sums of a unigram model's scores are exact, as 32-bit ones of long texts are not.

Text that offers no such place near where a part is to end (spaces by the million: which of them are together is told by
their number) is cut there all the same, by these rules alone: the ids do not depend on who asks. Such parts say so.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple

import numpy as np

# Libraries need some hundred bytes a character while they tokenize.
PART_CHARACTERS = 2**18
# Between two small letters and before the space, no vocabulary but one with pieces of several words has a piece.
BETWEEN_WORDS = re.compile("(?<=[a-z]) (?=[a-z])")
# How far behind the end of a part words are looked for, then places: so many in a row, in several stretches.
_WORDS_WITHIN = 2**12
_PLACES = 32
_STRETCHES = range(0, 8 * 509, 509)
# Characters between these places and where the texts begin or end that are tried there; the fewest such texts on each
# side; and how many characters on a place for them is looked for, as not every one is a border of characters' bytes.
_REACH = 64
_MORE = 8
_TRIED = 16


class TextPart(NamedTuple):
    """A part of a text.

    Attributes:
      text: the part's.
      continues: whether it is a text's that has begun: nothing is put before it.
      certain: whether the cut before it is known not to show.
    """

    text: str
    continues: bool = False
    certain: bool = True


@dataclasses.dataclass
class Cutter:
    """Cuts texts for a tokenizer and tokenizes the parts.

    Attributes:
      encode: returns int32[tokens] of a text of its own.
      anchor: put before what continues a text, and its ids taken away: characters of no piece for a tokenizer that puts
        something before texts or makes one token of several unknown characters; a word too long to be known where
        words are looked up.
      pieces: returns all that normalized text can become, with plain spaces: texts, or bytes where tokens are made of
        those. None where each word is tokenized by itself, and differently where it does not begin.
      normalize: what the tokenizer does to a text first, with plain spaces.
      between_words: whether texts may be cut before single spaces between words.
      exact: whether what is said above of tokens between borders holds.
      takes_spaces: whether some pieces take all spaces beside them, however many.
    """

    encode: Callable[[str], np.ndarray]
    anchor: str
    pieces: Callable[[], Collection[str | bytes]] | Callable[[], Collection[bytes]] | None
    normalize: Callable[[str], str]
    between_words: bool
    exact: bool = True
    takes_spaces: bool = False

    def encode_part(self, part: TextPart) -> np.ndarray:
        """Returns int32[tokens] of a part."""
        return self._rest(part.text) if part.continues else self.encode(part.text)

    def parts(self, text: str) -> Iterator[TextPart]:
        """Yields `text` in parts of `PART_CHARACTERS` or a little more."""
        start, part = 0, TextPart("")
        while len(text) - start > PART_CHARACTERS:
            end, following = self._next(text, start, start + PART_CHARACTERS, part.continues)
            if not following.certain and len(text) - end <= _WORDS_WITHIN:
                break
            yield part._replace(text=text[start:end])
            start, part = end, following
        yield part._replace(text=text[start:])

    def _next(self, text: str, start: int, end: int, continues: bool) -> tuple[int, TextPart]:
        """Returns where the part from `start` on ends, from `end` on, and the next part, still without its text."""
        if self.between_words and (found := BETWEEN_WORDS.search(text, end, end + _WORDS_WITHIN)):
            return found.start(), TextPart("")
        likely: int | None = None
        for first in (end + stretch for stretch in _STRETCHES if end + stretch < len(text)):
            begins, ends = self._begins(text, start, first), self._ends(text, first)
            if not begins or not ends:
                continue
            tried = _Tried(self, text, start, continues)
            for place in range(first, min(first + _PLACES, len(text))):
                if tried.is_border(place, begins[:1], ends[:1]):
                    if self.exact and tried.is_border(place, begins, ends):
                        return place, TextPart("", continues=True)
                    likely = place if likely is None else likely
        return end if likely is None else likely, TextPart("", continues=True, certain=False)

    def _begins(self, text: str, start: int, first: int) -> list[int]:
        """Returns places before `first` at one of which there is a border, and some more; none if that is not known."""
        reach = self._reach
        if first - reach <= start:
            return [start]
        for place in range(first - reach, max(start, first - reach - _TRIED), -1):
            across = self._across(text, place)
            if across is not None and self._outgrows_words(text[place + _MORE : first]):
                found = {*range(place, place + _MORE), *(end for _, end in across)}
                return sorted(found) if max(found) < first else []
        return []

    def _ends(self, text: str, first: int) -> list[int]:
        """Returns places behind `first` and `_PLACES` more at one of which there is a border, as `_begins`."""
        last = first + _PLACES
        if last + self._reach >= len(text):
            return [len(text)]
        for place in range(last + self._reach, min(len(text), last + self._reach + _TRIED)):
            across = self._across(text, place)
            if across is not None and self._outgrows_words(text[last : place - _MORE]):
                found = {*range(place, place - _MORE, -1), *(start for start, _ in across)}
                return sorted(found, reverse=True) if min(found) >= last else []
        return []

    @property
    def _reach(self) -> int:
        return max(_REACH, len(self.anchor) + _MORE)

    def _outgrows_words(self, text: str) -> bool:
        """Returns whether a word all through `text` is too long to be known, even where the normalizer drops much."""
        return self.pieces is not None or len(self._normalized(text)) >= max(1, len(self.anchor))

    def _across(self, text: str, place: int) -> list[tuple[int, int]] | None:
        """Returns beginnings and ends of all pieces that lie across `place`; None where they are not characters'."""
        if self.pieces is None:
            return []
        first = max(0, place - self._longest)
        window = text[first : place + self._longest]
        if self.takes_spaces and any(map(str.isspace, window)):
            return None
        normalized = self._normalized(window)
        if not self._one_to_one(window, normalized):
            return None
        units, offsets = _units(normalized, self._of_bytes)
        at = offsets[place - first]
        places = {offset: first + index for index, offset in enumerate(offsets)}
        across = [
            (places.get(start, -1), places.get(end, -1))
            for length in self._lengths
            for start, end in zip(range(at - length + 1, at), range(at + 1, len(units) + 1), strict=False)
            if start >= 0 and units[start:end] in self._pieces
        ]
        return None if any(-1 in piece for piece in across) else across

    @functools.cached_property
    def _pieces(self) -> Collection[str | bytes]:
        assert self.pieces is not None
        return frozenset(piece for piece in self.pieces() if len(piece) > 1)

    @functools.cached_property
    def _lengths(self) -> list[int]:
        return sorted(set(map(len, self._pieces)))

    @functools.cached_property
    def _longest(self) -> int:
        return max(self._lengths, default=1)

    @functools.cached_property
    def _of_bytes(self) -> bool:
        return isinstance(next(iter(self._pieces), ""), bytes)

    def _normalized(self, text: str) -> str:
        return self.normalize(self.anchor + text)[len(self.normalize(self.anchor)) :]

    def _one_to_one(self, text: str, normalized: str) -> bool:
        """Returns whether each character of `text` became one of `normalized`, whatever stands beside it."""
        return len(text) == len(normalized) and all(
            one == other or self._normalized(one) == other for one, other in set(zip(text, normalized, strict=True))
        )

    def _rest(self, text: str) -> np.ndarray:
        return self.encode(self.anchor + text)[self._anchor_ids :] if self.anchor else self.encode(text)

    @functools.cached_property
    def _anchor_ids(self) -> int:
        return len(self.encode(self.anchor))


class TokenizerInParts:
    """What tokenizers do alike with long texts: `_encode` is theirs for texts of one part, `_cutter` cuts others."""

    _encode: Callable[[str], np.ndarray]
    _cutter: Cutter

    def encode(self, text: str) -> np.ndarray:
        # Most texts are one part, and need no cutter: this is asked millions of times.
        if len(text) <= PART_CHARACTERS:
            return self._encode(text)
        return np.concatenate([self._cutter.encode_part(part) for part in self._cutter.parts(text)])

    def parts(self, text: str) -> Iterable[TextPart]:
        return (TextPart(text),) if len(text) <= PART_CHARACTERS else self._cutter.parts(text)

    def encode_part(self, part: TextPart) -> np.ndarray:
        return self._cutter.encode_part(part) if part.continues else self._encode(part.text)


class _Tried:
    """The texts between some places, each tokenized once."""

    def __init__(self, cutter: Cutter, text: str, start: int, continues: bool):
        self._cutter = cutter
        self._text = text
        self._start = start
        self._continues = continues
        self._known: dict[tuple[int, int], bytes] = {}

    def is_border(self, place: int, begins: list[int], ends: list[int]) -> bool:
        """Returns whether all texts from one of `begins` to one of `ends` are tokenized as their halves are."""
        return all(
            self._ids(begin, end) == self._ids(begin, place) + self._ids(place, end)
            for begin, end in itertools.product(begins, ends)
        )

    def _ids(self, begin: int, end: int) -> bytes:
        if (begin, end) not in self._known:
            part = TextPart(self._text[begin:end], begin != self._start or self._continues)
            self._known[begin, end] = self._cutter.encode_part(part).tobytes()
        return self._known[begin, end]


def unused_character(pieces: Iterable[str]) -> str:
    """Returns a character for private use that none of `pieces` holds."""
    used = set("".join(pieces))
    return next(letter for letter in map(chr, range(0xE000, 0xF900)) if letter not in used)


def _units(text: str, of_bytes: bool) -> tuple[str | bytes, list[int]]:
    """Returns what pieces are made of, and where each character begins in it and the last one ends."""
    if not of_bytes:
        return text, list(range(len(text) + 1))
    return text.encode(), [0, *itertools.accumulate(len(letter.encode()) for letter in text)]
