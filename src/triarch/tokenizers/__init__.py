"""Text to token ids and back, without TensorFlow: bytes, SentencePiece and Hugging Face's `tokenizer.json`.

The ids are those of SeqIO's vocabularies (`triarch.tasks.vocabularies` builds the SeqIO object of a tokenizer).
"""

from triarch.tokenizers.base import Tokenizer
from triarch.tokenizers.bytes import ByteTokenizer
from triarch.tokenizers.extra_ids import ExtraIds, TokenizerWithExtraIds, with_extra_ids
from triarch.tokenizers.huggingface import TOKENIZER_FILE, HuggingFaceTokenizer
from triarch.tokenizers.ids import IdTokenizer
from triarch.tokenizers.loading import given_tokenizer, load_tokenizer, read_tokenizer
from triarch.tokenizers.sentencepiece import MASK_PIECE, MODEL_FILE, SPACE_SYMBOL, SentencePieceTokenizer

__all__ = [
    "MASK_PIECE",
    "MODEL_FILE",
    "SPACE_SYMBOL",
    "TOKENIZER_FILE",
    "ByteTokenizer",
    "ExtraIds",
    "HuggingFaceTokenizer",
    "IdTokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "TokenizerWithExtraIds",
    "given_tokenizer",
    "load_tokenizer",
    "read_tokenizer",
    "with_extra_ids",
]
