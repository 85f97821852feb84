"""SeqIO vocabularies of triarch's tokenizers."""

from __future__ import annotations

import functools
from pathlib import Path

import seqio
import tensorflow as tf

from triarch.tasks.tokenizers import SPACE_SYMBOL, ByteTokenizer, SentencePieceTokenizer, Tokenizer


class LosslessSentencePieceVocabulary(seqio.SentencePieceVocabulary):
    """A SentencePiece vocabulary that keeps a literal U+2581 apart from the space it stands for.

    Encodes as `SentencePieceTokenizer` does, in Python and in TensorFlow.
    """

    def _encode(self, s: str) -> list[int]:
        return _tokenizer(self.sp_model).encode(s).tolist()

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        space_symbol = _tokenizer(self.sp_model).space_symbol_ids
        if not space_symbol:
            return super()._encode_tf(s)
        # ["a", "b"] of "a▁b" -> [a..., <bytes>, b..., <bytes>], less the last <bytes>.
        parts = self.tf_tokenizer.tokenize(tf.strings.split(s, SPACE_SYMBOL))
        separators = tf.tile(tf.constant([space_symbol], tf.int32), [parts.nrows(), 1])
        return tf.concat([parts, tf.RaggedTensor.from_tensor(separators)], axis=1).flat_values[: -len(space_symbol)]


@functools.cache
def _tokenizer(model: bytes) -> SentencePieceTokenizer:
    return SentencePieceTokenizer(model, "the SeqIO vocabulary")


def seqio_vocabulary(tokenizer: Tokenizer, model_file: Path | None = None) -> seqio.Vocabulary:
    """Returns the SeqIO vocabulary with the ids of `tokenizer`.

    Args:
      tokenizer: bytes or SentencePiece.
      model_file: where the SentencePiece model lies, for SeqIO reads it itself.
    """
    if isinstance(tokenizer, ByteTokenizer):
        # The one extra id is the mask.
        return seqio.ByteVocabulary(extra_ids=1)
    assert model_file is not None
    return LosslessSentencePieceVocabulary(str(model_file))
