"""SentencePiece's ids word by word, for the models where that gives exactly what the whole text gives."""

from __future__ import annotations

from typing import Self, cast

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as model_pb2

from triarch.tokenizers.base import SPACE_SYMBOL
from triarch.tokenizers.words import WordEncoder, WordIds, word_pattern

_IDENTITY = model_pb2.NormalizerSpec(add_dummy_prefix=False, remove_extra_whitespaces=False, escape_whitespaces=True)


class SentencePieceWords:
    """A model of byte pair encoding, applied to words.

    SentencePiece normalizes a text first (rules may see several words, extra spaces go, one is put in front) and makes
    pieces of the result. The first is done with the whole text here too, the second with words, by the same model
    without its rules.
    """

    def __init__(self, proto: model_pb2.ModelProto, words: WordIds):
        """Use `of_model`."""
        self._words = words
        rules = proto.normalizer_spec
        self._normalize = None
        if rules.precompiled_charsmap or rules.add_dummy_prefix or rules.remove_extra_whitespaces:
            self._normalize = _processor(proto).normalize
        self._unknown = None
        if not proto.trainer_spec.byte_fallback:
            kinds = [piece.type for piece in proto.pieces]
            self._unknown = kinds.index(model_pb2.ModelProto.SentencePiece.UNKNOWN)

    @classmethod
    def of_model(cls, model: bytes) -> Self | None:
        """Returns the words of a serialized `model`; None where ids of words might not be those of the text."""
        proto = model_pb2.ModelProto.FromString(model)
        del proto.self_test_data.samples[:]
        kinds = model_pb2.ModelProto.SentencePiece
        if proto.trainer_spec.model_type != model_pb2.TrainerSpec.BPE or not proto.normalizer_spec.escape_whitespaces:
            return None
        # An unused piece is split into what it was last merged from, anywhere in the text.
        if any(piece.type == kinds.UNUSED for piece in proto.pieces):
            return None
        pieces = (piece.piece for piece in proto.pieces if piece.type in (kinds.NORMAL, kinds.USER_DEFINED))
        pattern = word_pattern(piece.replace(SPACE_SYMBOL, " ") for piece in pieces)
        if pattern is None:
            return None
        without_rules = model_pb2.ModelProto()
        without_rules.CopyFrom(proto)
        without_rules.normalizer_spec.CopyFrom(_IDENTITY)
        return cls(proto, WordIds(cast(WordEncoder, _processor(without_rules)), pattern))

    def encode(self, text: str) -> np.ndarray:
        """Returns int32[tokens], read-only."""
        if self._normalize is not None:
            text = self._normalize(text)
        ids = self._words.of_text(text.replace(SPACE_SYMBOL, " "))
        if self._unknown is None:
            return ids
        # Of several unknown characters in a row SentencePiece makes one token.
        repeated = (ids[1:] == self._unknown) & (ids[:-1] == self._unknown)
        return ids[np.append(True, ~repeated)] if repeated.any() else ids


def _processor(proto: model_pb2.ModelProto) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
