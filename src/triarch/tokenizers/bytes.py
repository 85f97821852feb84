"""The vocabulary of UTF-8 bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from triarch.data.manifest import Vocabulary
from triarch.data.token_bytes import TokenBytes
from triarch.tokenizers import cuts
from triarch.tokenizers.base import bytes_of
from triarch.tokenizers.cuts import TextPart

KIND = "bytes"


class ByteTokenizer:
    """UTF-8 bytes, as ByT5 (arXiv 2105.13626): pad 0, eos 1, unk 2, byte b is b + 3, and one extra id as mask."""

    _FIRST = 3
    _MASK = _FIRST + 256

    @property
    def info(self) -> Vocabulary:
        special = {"pad": 0, "bos": 0, "eos": 1, "mask": self._MASK}
        return Vocabulary(KIND, self._MASK + 1, hashlib.sha256(b"triarch bytes, 3 + 256 + 1").hexdigest(), special)

    @property
    def token_texts(self) -> list[bytes]:
        return [b""] * self._FIRST + [bytes([byte]) for byte in range(256)] + [b""]

    @property
    def token_bytes(self) -> TokenBytes:
        return bytes_of(self.token_texts)

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode(), np.uint8).astype(np.int32) + self._FIRST

    def parts(self, text: str) -> Iterable[TextPart]:
        size = cuts.PART_CHARACTERS
        return (TextPart(text[start : start + size]) for start in range(0, max(1, len(text)), size))

    def encode_part(self, part: TextPart) -> np.ndarray:
        return self.encode(part.text)

    def decode(self, ids: Sequence[int]) -> str:
        values = np.asarray(ids, np.int64) - self._FIRST
        return values[(values >= 0) & (values < 256)].astype(np.uint8).tobytes().decode(errors="replace")

    def save(self, folder: Path) -> None:
        """Writes nothing: the bytes need no file."""
