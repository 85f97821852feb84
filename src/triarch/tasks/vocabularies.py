"""SeqIO vocabularies of triarch's tokenizers."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import seqio
import tensorflow as tf

from triarch.tokenizers import (
    SPACE_SYMBOL,
    ByteTokenizer,
    ExtraIds,
    HuggingFaceTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    TokenizerWithExtraIds,
    with_extra_ids,
)


class LosslessSentencePieceVocabulary(seqio.SentencePieceVocabulary):
    """A SentencePiece vocabulary that keeps a literal U+2581 apart from the space it stands for.

    Encodes as `SentencePieceTokenizer` does, in Python and in TensorFlow; extra ids never come from text.
    """

    def _encode(self, s: str) -> list[int]:
        return _tokenizer(self.sentencepiece_model_file).encode(s).tolist()

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        without_extra_ids = seqio.SentencePieceVocabulary(self.sentencepiece_model_file)
        space_symbol = _tokenizer(self.sentencepiece_model_file).space_symbol_ids
        if not space_symbol:
            return without_extra_ids.encode_tf(s)
        # ["a", "b"] of "a▁b" -> [a..., <bytes>, b..., <bytes>], less the last <bytes>.
        parts = without_extra_ids.tf_tokenizer.tokenize(tf.strings.split(s, SPACE_SYMBOL))
        separators = tf.tile(tf.constant([space_symbol], tf.int32), [parts.nrows(), 1])
        return tf.concat([parts, tf.RaggedTensor.from_tensor(separators)], axis=1).flat_values[: -len(space_symbol)]


@functools.cache
def _tokenizer(model_file: str) -> SentencePieceTokenizer:
    return SentencePieceTokenizer.load(Path(model_file))


class HuggingFaceVocabulary(seqio.Vocabulary):
    """A Hugging Face tokenizer. In TensorFlow graphs it is called as a Python function, so they cannot be saved."""

    def __init__(self, tokenizer: HuggingFaceTokenizer, extra_ids: int = 0):
        super().__init__(extra_ids)
        self._tokenizer = tokenizer

    @property
    def hugging_face(self) -> Tokenizer:
        """The tokenizer; extra ids, which come last, are sentinels."""
        return with_extra_ids(self._tokenizer, ExtraIds(sentinels=self.extra_ids))

    @property
    def pad_id(self) -> int:
        return self._tokenizer.info.special["pad"]

    @property
    def bos_id(self) -> int:
        return self._tokenizer.info.special["bos"]

    @property
    def eos_id(self) -> int:
        return self._tokenizer.info.special["eos"]

    @property
    def unk_id(self) -> int | None:
        return self._tokenizer.unk_id

    @property
    def _base_vocab_size(self) -> int:
        return self._tokenizer.size

    def _encode(self, s: str) -> list[int]:
        return self._tokenizer.encode(s).tolist()

    def _decode(self, ids: Iterable[int]) -> str:
        # Without an unknown token SeqIO leaves extra ids in.
        return self._tokenizer.decode([index for index in ids if index < self._base_vocab_size])

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        def encode(text: bytes | np.ndarray) -> np.ndarray:
            return self._tokenizer.encode(np.asarray(text, object).item().decode())

        ids = tf.numpy_function(encode, [s], tf.int32)
        ids.set_shape([None])
        return ids

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        def decode(rows: np.ndarray) -> np.ndarray:
            texts = [self._decode(row.tolist()).encode() for row in rows.reshape(-1, rows.shape[-1])]
            return np.array(texts, object).reshape(rows.shape[:-1])

        texts = tf.numpy_function(decode, [ids], tf.string)
        texts.set_shape(ids.shape[:-1])
        return texts

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HuggingFaceVocabulary):
            return False
        return (self._tokenizer.info, self.extra_ids) == (other._tokenizer.info, other.extra_ids)

    def __str__(self) -> str:
        return f"HuggingFaceVocabulary(sha256={self._tokenizer.info.fingerprint}, extra_ids={self.extra_ids})"


def seqio_vocabulary(tokenizer: Tokenizer, model_file: Path | None = None) -> seqio.Vocabulary:
    """Returns the SeqIO vocabulary with the ids of `tokenizer`; its sentinels and mode tokens are `extra_ids`.

    Args:
      tokenizer: of any kind.
      model_file: where the SentencePiece model lies, for SeqIO reads it itself.
    """
    base, extra_ids = tokenizer, 0
    if isinstance(tokenizer, TokenizerWithExtraIds):
        base, extra_ids = tokenizer.base, tokenizer.extra.count
    if isinstance(base, ByteTokenizer):
        # The byte tokenizer's mask is SeqIO's first extra id.
        return seqio.ByteVocabulary(extra_ids=1 + extra_ids)
    if isinstance(base, HuggingFaceTokenizer):
        return HuggingFaceVocabulary(base, extra_ids)
    assert model_file is not None
    return LosslessSentencePieceVocabulary(str(model_file), extra_ids)
