"""What every tokenizer does, and how it takes long texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from triarch.data.manifest import Vocabulary

# SentencePiece writes a space as this character; byte-level BPE writes one as the other.
SPACE_SYMBOL = "\u2581"
BYTE_LEVEL_SPACE = "\u0120"
# Between two small letters and before the space, no vocabulary but one with pieces of several words has a piece.
_CUT = re.compile("(?<=[a-z]) (?=[a-z])")
_CROSSES_WORDS = re.compile(f"[a-z][ {SPACE_SYMBOL}{BYTE_LEVEL_SPACE}]+[^ {SPACE_SYMBOL}{BYTE_LEVEL_SPACE}]")
_PROBES = (("the", "cat"), ("o", "x"))
# Libraries need some hundred bytes a character while they tokenize.
PART_CHARACTERS = 2**18


class Tokenizer(Protocol):
    """A vocabulary: `encode` adds no special tokens; `decode` leaves special tokens out. It can be pickled."""

    @property
    def info(self) -> Vocabulary: ...

    @property
    def token_texts(self) -> Sequence[bytes]:
        """UTF-8 bytes each id stands for, none for special ids."""
        ...

    @property
    def token_bytes(self) -> np.ndarray:
        """uint16[size]: how many they are."""
        ...

    def encode(self, text: str) -> np.ndarray:
        """Returns int32[tokens]. Text that reads like a special token is text."""
        ...

    def parts(self, text: str) -> Iterable[str]:
        """Returns texts whose ids, one after another, are those of `text`; short ones, if there are such."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text; bytes that are not UTF-8 (a character cut in two) become U+FFFD."""
        ...

    def save(self, folder: Path) -> None:
        """Writes what rebuilds the tokenizer into `folder`."""
        ...


def can_be_cut(encode: Callable[[str], list[int]], pieces: Iterable[str]) -> bool:
    """Returns whether a text's ids are those of its `parts`: nothing is put before a text, no piece spans words."""
    if any(encode(f"{one} {two}") != encode(one) + encode(f" {two}") for one, two in _PROBES):
        return False
    return not any(_CROSSES_WORDS.search(piece) for piece in pieces)


def parts(text: str, size: int = PART_CHARACTERS) -> Iterable[str]:
    """Returns `text` cut before single spaces between words, in parts of `size` characters or a little more."""
    return (text,) if len(text) <= size else _cut(text, size)


def _cut(text: str, size: int) -> Iterator[str]:
    start = 0
    while len(text) - start > size:
        cut = _CUT.search(text, start + size)
        if cut is None:
            break
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]
