"""Vocabularies of which the ids are known and nothing else: what made the ids of text is Python code of the user's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from triarch.data.manifest import Vocabulary
from triarch.data.token_bytes import TokenBytes
from triarch.errors import UserError
from triarch.tokenizers.base import bytes_of
from triarch.tokenizers.cuts import TextPart

KIND = "ids"


class IdTokenizer:
    """Ids that stand for no text here; `decode` writes them as numbers."""

    def __init__(self, info: Vocabulary):
        self.info = info

    @property
    def token_texts(self) -> list[bytes]:
        return [b""] * self.info.size

    @property
    def token_bytes(self) -> TokenBytes:
        return bytes_of(self.token_texts)

    def encode(self, text: str) -> np.ndarray:
        """Raises UserError: there is no way from text to ids."""
        self._refuse()

    def parts(self, text: str) -> Iterable[TextPart]:
        """Raises UserError as `encode`."""
        self._refuse()

    def encode_part(self, part: TextPart) -> np.ndarray:
        """Raises UserError as `encode`."""
        self._refuse()

    def decode(self, ids: Sequence[int]) -> str:
        special = {index for index in self.info.special.values() if isinstance(index, int)}
        return "".join(f"{index} " for index in ids if index not in special)

    def save(self, folder: Path) -> None:
        """Writes nothing: the manifest says it all."""

    def _refuse(self) -> NoReturn:
        raise UserError(
            "the vocabulary is one of ids only: it came with a SeqIO task, as Python code, and triarch cannot tokenize "
            "text with it; give token ids, or prepare the data as a SeqIO task"
        )
