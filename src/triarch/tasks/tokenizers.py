"""Text to token ids and back, without TensorFlow: bytes and SentencePiece.

The ids are those of SeqIO's vocabularies (`triarch.tasks.vocabularies` builds the SeqIO object of a tokenizer).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import sentencepiece

from triarch.data.manifest import Vocabulary
from triarch.errors import UserError

if TYPE_CHECKING:  # Tokenizing processes import this module, and need no Grain.
    from triarch.data.store import TokenStore

MODEL_FILE = "sentencepiece.model"
MASK_PIECE = "<mask>"
_MASK_PIECES = (MASK_PIECE, "[MASK]")
# SentencePiece writes a space as this character, so the character itself has to go as bytes.
SPACE_SYMBOL = "\u2581"


class Tokenizer(Protocol):
    """A vocabulary: `encode` adds no special tokens; `decode` leaves special tokens out."""

    @property
    def info(self) -> Vocabulary: ...

    @property
    def token_bytes(self) -> np.ndarray:
        """uint16[size]: UTF-8 bytes each id stands for, 0 for special ids."""
        ...

    def encode(self, text: str) -> np.ndarray:
        """Returns int32[tokens]."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text; bytes that are not UTF-8 (a character cut in two) become U+FFFD."""
        ...

    def save(self, folder: Path) -> None:
        """Writes what rebuilds the tokenizer into `folder`."""
        ...


class ByteTokenizer:
    """UTF-8 bytes, as ByT5 (arXiv 2105.13626): pad 0, eos 1, unk 2, byte b is b + 3, and one extra id as mask."""

    _FIRST = 3
    _MASK = _FIRST + 256

    @property
    def info(self) -> Vocabulary:
        special = {"pad": 0, "bos": 0, "eos": 1, "mask": self._MASK}
        return Vocabulary("bytes", self._MASK + 1, hashlib.sha256(b"triarch bytes, 3 + 256 + 1").hexdigest(), special)

    @property
    def token_bytes(self) -> np.ndarray:
        token_bytes = np.zeros(self._MASK + 1, np.uint16)
        token_bytes[self._FIRST : self._MASK] = 1
        return token_bytes

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode(), np.uint8).astype(np.int32) + self._FIRST

    def decode(self, ids: Sequence[int]) -> str:
        values = np.asarray(ids, np.int64) - self._FIRST
        return values[(values >= 0) & (values < 256)].astype(np.uint8).tobytes().decode(errors="replace")

    def save(self, folder: Path) -> None:
        """Writes nothing: the bytes need no file."""


class SentencePieceTokenizer:
    """A SentencePiece model.

    With the models that `triarch prepare` trains (no normalisation, no dummy prefix, byte fallback), decode(encode(x))
    is x for every text. A given model does whatever it was trained to do.
    """

    def __init__(self, model: bytes, name: str):
        """A tokenizer from a model's serialized bytes; `name` is what messages call it.

        Raises:
          UserError: it is no SentencePiece model, or lacks the special tokens triarch needs.
        """
        self.model = model
        self._name = name
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise UserError(f"{name}: not a SentencePiece model: {str(error).splitlines()[0]}") from None
        self.space_symbol_ids = self._find_space_symbol_ids()
        self._special = self._find_special()

    @classmethod
    def load(cls, path: Path) -> SentencePieceTokenizer:
        """Reads a `.model` file.

        Raises:
          UserError: it cannot be read or is no usable model.
        """
        try:
            return cls(path.read_bytes(), str(path))
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None

    @functools.cached_property
    def info(self) -> Vocabulary:
        fingerprint = hashlib.sha256(self.model).hexdigest()
        return Vocabulary("sentencepiece", len(self._processor), fingerprint, self._special)

    @functools.cached_property
    def token_bytes(self) -> np.ndarray:
        return np.array([self._piece_bytes(index) for index in range(len(self._processor))], np.uint16)

    def encode(self, text: str) -> np.ndarray:
        if not self.space_symbol_ids or SPACE_SYMBOL not in text:
            return np.array(self._processor.encode(text), np.int32)
        first, *rest = text.split(SPACE_SYMBOL)
        ids = self._processor.encode(first)
        for part in rest:
            ids += [*self.space_symbol_ids, *self._processor.encode(part)]
        return np.array(ids, np.int32)

    def decode(self, ids: Sequence[int]) -> str:
        special = set(self._special.values())
        return self._processor.decode([int(index) for index in ids if int(index) not in special])

    def save(self, folder: Path) -> None:
        (folder / MODEL_FILE).write_bytes(self.model)

    def _piece_bytes(self, index: int) -> int:
        if self._processor.is_byte(index):
            return 1
        if self._processor.is_control(index) or self._processor.is_unknown(index) or self._processor.is_unused(index):
            return 0
        piece = self._processor.id_to_piece(index)
        return 0 if index in self._special.values() else len(piece.replace(SPACE_SYMBOL, " ").encode())

    def _find_space_symbol_ids(self) -> list[int]:
        """Returns the byte tokens for a literal U+2581 where the model is lossless otherwise, else nothing."""
        dummy_prefix = self._processor.decode(self._processor.encode(" a  a ")) != " a  a "
        ids = [self._processor.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE_SYMBOL.encode()]
        return ids if all(map(self._processor.is_byte, ids)) and not dummy_prefix else []

    def _find_special(self) -> dict[str, int | None]:
        processor = self._processor
        if processor.eos_id() < 0:
            raise UserError(f"{self._name}: has no end-of-sentence piece, which ends a document")
        if not (processor.is_control(0) or processor.is_unknown(0) or processor.is_unused(0)):
            raise UserError(f"{self._name}: id 0 is {processor.id_to_piece(0)!r}, expected a special piece for padding")
        masks = [processor.piece_to_id(piece) for piece in _MASK_PIECES]
        mask = next((index for index in masks if index != processor.unk_id()), None)
        return {"pad": 0, "bos": 0, "eos": processor.eos_id(), "mask": mask}


def load_tokenizer(store: TokenStore) -> Tokenizer:
    """Returns the tokenizer of a store.

    Raises:
      UserError: the vocabulary is missing, damaged or of an unknown kind.
    """
    info = store.manifest.vocabulary
    if info.kind not in ("bytes", "sentencepiece"):
        raise UserError(f"{store.path}: unknown kind of vocabulary {info.kind!r} (one of: bytes, sentencepiece)")
    path = store.vocabulary_folder / MODEL_FILE
    tokenizer = ByteTokenizer() if info.kind == "bytes" else SentencePieceTokenizer.load(path)
    if tokenizer.info.fingerprint != info.fingerprint:
        raise UserError(f"{store.path}: the vocabulary does not match the store's manifest: prepare the store again")
    return tokenizer
