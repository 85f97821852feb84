"""What every tokenizer does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from triarch.data.manifest import Vocabulary
from triarch.data.token_bytes import TokenBytes
from triarch.tokenizers.cuts import TextPart

# SentencePiece writes a space as this character; byte-level BPE writes one as the other.
SPACE_SYMBOL = "\u2581"
BYTE_LEVEL_SPACE = "\u0120"
# Of a tokenizer's file; the largest that are published have 40 MB.
MOST_TOKENIZER_BYTES = 2**29
_CROSSES_WORDS = re.compile(f"[a-z][ {SPACE_SYMBOL}{BYTE_LEVEL_SPACE}]+[^ {SPACE_SYMBOL}{BYTE_LEVEL_SPACE}]")
_PROBES = (("the", "cat"), ("o", "x"))


class Tokenizer(Protocol):
    """A vocabulary: `encode` adds no special tokens; `decode` leaves special tokens out. It can be pickled."""

    @property
    def info(self) -> Vocabulary: ...

    @property
    def token_texts(self) -> Sequence[bytes]:
        """UTF-8 bytes each id stands for, none for special ids."""
        ...

    @property
    def token_bytes(self) -> TokenBytes:
        """How many they are."""
        ...

    def encode(self, text: str) -> np.ndarray:
        """Returns int32[tokens]. Text that reads like a special token is text."""
        ...

    def parts(self, text: str) -> Iterable[TextPart]:
        """Returns short texts whose ids, one after another, are those of `text`."""
        ...

    def encode_part(self, part: TextPart) -> np.ndarray:
        """Returns int32[tokens] of one of `parts`."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text; bytes that are not UTF-8 (a character cut in two) become U+FFFD."""
        ...

    def save(self, folder: Path) -> None:
        """Writes what rebuilds the tokenizer into `folder`."""
        ...


def encode_rendered(tokenizer: Tokenizer, inputs: str, targets: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns int32 ids of a text that a chat template made, in two parts.

    Names of special tokens are those tokens where the tokenizer is one of Hugging Face's; elsewhere they are text.
    """
    own = getattr(getattr(tokenizer, "base", tokenizer), "encode_rendered", None)
    return own(inputs, targets) if own is not None else (tokenizer.encode(inputs), tokenizer.encode(targets))


def bytes_of(texts: Sequence[bytes], puts_space: bool = False, space: Sequence[int] = ()) -> TokenBytes:
    """Returns the bytes of tokens.

    Args:
      texts: of each token.
      puts_space: whether the tokenizer puts a space before each text.
      space: ids that are a space together, see `TokenBytes`.
    """
    own = np.array([len(text) for text in texts], np.uint16)
    first = own - np.array([puts_space and text.startswith(b" ") for text in texts], np.uint16)
    return TokenBytes(own, first, tuple(space))


def space_in(ids: Sequence[int], symbol: Sequence[int | None]) -> tuple[int, ...]:
    """Returns the ids of a space that is written out in bytes, none if it is not.

    Args:
      ids: of a text with a space.
      symbol: of the bytes of SentencePiece's space symbol, None for one that has none.
    """
    found = any(list(ids[start : start + len(symbol)]) == list(symbol) for start in range(len(ids)))
    return tuple(index for index in symbol if index is not None) if found else ()


def has_words(encode: Callable[[str], list[int]], pieces: Iterable[str]) -> bool:
    """Returns whether texts may be cut between words: nothing is put before one but a space, no piece spans words."""
    if any(encode(f"{one} {two}") != encode(one) + encode(f" {two}") for one, two in _PROBES):
        return False
    return not any(_CROSSES_WORDS.search(piece) for piece in pieces)
