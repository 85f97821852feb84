"""SentencePiece models: trained by `triarch prepare`, or given."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as model_pb2

from triarch.data.manifest import Vocabulary
from triarch.data.token_bytes import TokenBytes
from triarch.errors import UserError, brief
from triarch.files import read_regular
from triarch.tokenizers.base import MOST_TOKENIZER_BYTES, SPACE_SYMBOL, bytes_of, has_words, space_in
from triarch.tokenizers.cuts import Cutter, TokenizerInParts, unused_character
from triarch.tokenizers.sentencepiece_words import SentencePieceWords

KIND = "sentencepiece"
MODEL_FILE = "sentencepiece.model"
MASK_PIECE = "<mask>"
_MASK_PIECES = (MASK_PIECE, "[MASK]")
_UNUSED = model_pb2.ModelProto.SentencePiece.UNUSED
# Those that choose between pieces by what is between two borders alone.
_MODELS = (model_pb2.TrainerSpec.BPE, model_pb2.TrainerSpec.UNIGRAM, model_pb2.TrainerSpec.CHAR)


class SentencePieceTokenizer(TokenizerInParts):
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
            raise UserError(f"{name}: not a SentencePiece model: {brief(error)}") from None
        try:
            self.space_symbol_ids = self._find_space_symbol_ids()
            self._special = self._find_special()
        except UnicodeDecodeError:
            raise UserError(f"{name}: a damaged SentencePiece model: one of its pieces is not UTF-8") from None

    def __reduce__(self):
        return SentencePieceTokenizer, (self.model, self._name)

    @classmethod
    def load(cls, path: Path, home: Path | None = None) -> SentencePieceTokenizer:
        """Reads a `.model` file; `home` is the folder that it must not leave by way of a link, if any.

        Raises:
          UserError: it cannot be read or is no usable model.
        """
        try:
            return cls(read_regular(path, MOST_TOKENIZER_BYTES, home), str(path))
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None

    @functools.cached_property
    def info(self) -> Vocabulary:
        fingerprint = hashlib.sha256(self.model).hexdigest()
        return Vocabulary(KIND, len(self._processor), fingerprint, self._special)

    @functools.cached_property
    def token_texts(self) -> list[bytes]:
        return [self._piece_text(index) for index in range(len(self._processor))]

    @functools.cached_property
    def token_bytes(self) -> TokenBytes:
        puts_space = model_pb2.ModelProto.FromString(self.model).normalizer_spec.add_dummy_prefix
        return bytes_of(self.token_texts, puts_space, space_in(self._processor.encode("a a"), self._symbol_bytes))

    def decode(self, ids: Sequence[int]) -> str:
        special = {index for index in self._special.values() if isinstance(index, int)}
        # A network may have more ids than the vocabulary.
        known = (int(index) for index in ids if 0 <= int(index) < len(self._processor))
        text = self._processor.decode([index for index in known if index not in special])
        return text.replace(SPACE_SYMBOL, " ") if self.token_bytes.space else text

    def save(self, folder: Path) -> None:
        (folder / MODEL_FILE).write_bytes(self.model)

    def _encode(self, text: str) -> np.ndarray:
        if not self.space_symbol_ids or SPACE_SYMBOL not in text:
            return self._ids(text)
        space_symbol = np.array(self.space_symbol_ids, np.int32)
        first, *rest = map(self._ids, text.split(SPACE_SYMBOL))
        return np.concatenate([first, *(ids for part in rest for ids in (space_symbol, part))])

    def _ids(self, text: str) -> np.ndarray:
        """Returns SentencePiece's own ids of `text`."""
        return self._words.encode(text) if self._words else self._processor.encode(text, out_type="numpy")

    @functools.cached_property
    def _words(self) -> SentencePieceWords | None:
        return SentencePieceWords.of_model(self.model)

    @functools.cached_property
    def _cutter(self) -> Cutter:
        proto = model_pb2.ModelProto.FromString(self.model)
        pieces = [piece.piece for piece in proto.pieces]
        rules = proto.normalizer_spec
        bare = not (rules.add_dummy_prefix or rules.remove_extra_whitespaces) and proto.trainer_spec.byte_fallback
        return Cutter(
            encode=self._encode,
            anchor="" if bare else unused_character(pieces),
            pieces=lambda: [piece.replace(SPACE_SYMBOL, " ") for piece in pieces],
            normalize=lambda text: self._processor.normalize(text).replace(SPACE_SYMBOL, " "),
            between_words=has_words(lambda text: self._processor.encode(text), pieces),
            # An unused piece is split into what it was last merged from, anywhere in the text.
            exact=proto.trainer_spec.model_type in _MODELS and all(piece.type != _UNUSED for piece in proto.pieces),
        )

    def _piece_text(self, index: int) -> bytes:
        processor = self._processor
        piece = processor.id_to_piece(index)
        if processor.is_byte(index):
            return bytes.fromhex(piece.removeprefix("<0x").removesuffix(">"))
        if processor.is_control(index) or processor.is_unknown(index) or processor.is_unused(index):
            return b""
        return b"" if index in self._special.values() else piece.replace(SPACE_SYMBOL, " ").encode()

    def _find_space_symbol_ids(self) -> list[int]:
        """Returns the byte tokens for a literal U+2581 where the model is lossless otherwise, else nothing."""
        rules = model_pb2.ModelProto.FromString(self.model).normalizer_spec
        changes_text = rules.add_dummy_prefix or rules.remove_extra_whitespaces or rules.precompiled_charsmap
        ids = self._symbol_bytes
        return ids if all(map(self._processor.is_byte, ids)) and not changes_text else []

    @property
    def _symbol_bytes(self) -> list[int]:
        return [self._processor.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE_SYMBOL.encode()]

    def _find_special(self) -> dict[str, Any]:
        processor = self._processor
        if processor.eos_id() < 0:
            raise UserError(f"{self._name}: has no end-of-sentence piece, which ends a document")
        if not (processor.is_control(0) or processor.is_unknown(0) or processor.is_unused(0)):
            raise UserError(f"{self._name}: id 0 is {processor.id_to_piece(0)!r}, expected a special piece for padding")
        masks = [processor.piece_to_id(piece) for piece in _MASK_PIECES]
        mask = next((index for index in masks if index != processor.unk_id()), None)
        return {"pad": 0, "bos": 0, "eos": processor.eos_id(), "mask": mask, **self._find_sentinels()}

    def _find_sentinels(self) -> dict[str, list[int]]:
        """Returns T5's sentinels, where they are pieces of the model: SeqIO puts a space before their names."""
        pieces = {self._processor.id_to_piece(index): index for index in range(len(self._processor))}
        for prefix in ("", SPACE_SYMBOL):
            first = pieces.get(f"{prefix}<extra_id_0>")
            if first is not None:
                count = 1
                while pieces.get(f"{prefix}<extra_id_{count}>") == first - count:
                    count += 1
                return {"sentinels": [first, count]}
        return {}
