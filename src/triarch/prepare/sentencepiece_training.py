"""Trains a lossless SentencePiece vocabulary."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Iterable, Iterator

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as model_pb2

from triarch.errors import UserError, nearest
from triarch.tokenizers import MASK_PIECE, SentencePieceTokenizer

MODEL_TYPES = ("bpe", "unigram")
# A vocabulary learnt from more text than this is the same for all purposes, and takes longer.
MAX_TRAINING_BYTES = 64 * 2**20
_CHUNK_BYTES = 2048
# SentencePiece learns from words: it needs 60 to 120 bytes for each character of different ones. So of text without
# spaces, all of which is different, 4 million characters have to do. It has more characters than these to a space.
_MAX_DENSE_CHUNKS = 2048
_DENSE_CHARACTERS = 32
# Characters of a document that are taken apart at a time, for its lines may be a character each.
_BLOCK_CHARACTERS = 2**20
# The number of threads changes the sums of unigram's EM, so it must not depend on the machine.
_NUM_THREADS = 16
_SCORE_STEPS = 256
# SentencePiece skips a sentence that holds its own separator (tab) or its space symbol.
_RESERVED = re.compile("[\t\u2581\0]")


def train_sentencepiece(
    texts: Iterable[str], size: int, model_type: str = "bpe", max_bytes: int = MAX_TRAINING_BYTES
) -> SentencePieceTokenizer:
    """Returns a SentencePiece model of `size` ids trained on (a sample of) `texts`.

    No normalisation, no dummy prefix, whitespace kept, digits split, byte fallback; pad 0, eos 1, unk 2, `<mask>` 3.
    The mask is a control piece: text that reads "<mask>" is never taken for it. The same texts give the same model.

    Args:
      texts: documents.
      size: number of ids, special and byte pieces included.
      model_type: "bpe", or "unigram" (T5's choice: about 1 % fewer tokens, 10 to 20 times slower to train).
      max_bytes: texts longer than this together are sampled, evenly and always alike; text without spaces, which
        takes far more memory, from 4 million characters on.

    Raises:
      UserError: unknown model type, or the text is too little for `size`, or `size` too small for the text.
    """
    if model_type not in MODEL_TYPES:
        raise UserError(f"vocabulary_model={model_type!r}: unknown model{nearest(model_type, MODEL_TYPES)}")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(_with_space(_sample(_chunks(texts), max_bytes // _CHUNK_BYTES))),
            model_writer=model,
            vocab_size=size,
            model_type=model_type,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            split_digits=True,
            byte_fallback=True,
            character_coverage=0.9995,
            # The space, however rare: without a piece of its own it would not be told from a literal U+2581.
            required_chars="\u2581",
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            control_symbols=[MASK_PIECE],
            max_sentence_length=64 * _CHUNK_BYTES,
            num_threads=_NUM_THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(_explain(str(error), size)) from None
    trained = model.getvalue() if model_type != "unigram" else _with_exact_sums(model.getvalue())
    return SentencePieceTokenizer(trained, "the trained vocabulary")


def _with_exact_sums(model: bytes) -> bytes:
    """Returns a unigram model with scores rounded to multiples of 1/256.

    SentencePiece adds scores up as 32-bit floats. Sums of these are exact to -65,536, so that of equally good ways to
    cut a text (the same pieces in another order) all programs choose the same one. Probabilities change by 0.2 %.
    """
    proto = model_pb2.ModelProto.FromString(model)
    for piece in proto.pieces:
        piece.score = round(piece.score * _SCORE_STEPS) / _SCORE_STEPS
    return proto.SerializeToString(deterministic=True)


def _chunks(texts: Iterable[str]) -> Iterator[str]:
    """Yields runs of whole lines, about `_CHUNK_BYTES` characters each; a longer line is cut."""
    blocks = (
        text[start : start + _BLOCK_CHARACTERS] for text in texts for start in range(0, len(text), _BLOCK_CHARACTERS)
    )
    for block in blocks:
        for part in _RESERVED.split(block):
            chunk = ""
            for line in part.splitlines(keepends=True):
                for start in range(0, len(line), _CHUNK_BYTES):
                    chunk += line[start : start + _CHUNK_BYTES]
                    if len(chunk) >= _CHUNK_BYTES:
                        yield chunk
                        chunk = ""
            if chunk:
                yield chunk


def _sample(chunks: Iterable[str], count: int) -> list[str]:
    """Returns `count` chunks drawn evenly, or all if there are fewer; of those with hardly a space not too many."""
    spaced, dense = _Reservoir(count), _Reservoir(min(count, _MAX_DENSE_CHUNKS))
    for chunk in chunks:
        words = 1 + chunk.count(" ") + chunk.count("\n")
        (dense if len(chunk) > words * _DENSE_CHARACTERS else spaced).add(chunk)
    return spaced.drawn + dense.drawn


def _with_space(chunks: list[str]) -> list[str]:
    """Returns `chunks` and a space: SentencePiece ends the process where text lacks a required character."""
    return [*chunks, " "] if chunks else []


class _Reservoir:
    """Draws evenly from chunks one after another (reservoir sampling, Vitter's algorithm R).

    Attributes:
      drawn: those that are in the sample at present.
    """

    def __init__(self, count: int):
        self.drawn: list[str] = []
        self._count = count
        self._seen = 0
        self._draw = random.Random(0)

    def add(self, chunk: str) -> None:
        self._seen += 1
        if len(self.drawn) < self._count:
            self.drawn.append(chunk)
        elif (slot := self._draw.randrange(self._seen)) < self._count:
            self.drawn[slot] = chunk


def _explain(message: str, size: int) -> str:
    if found := re.search(r"size too high.*<= (\d+)", message):
        return f"vocabulary_size={size}: too large for this text: at most {found[1]}"
    if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return f"vocabulary_size={size}: too small for this text's characters and the 256 bytes: at least {found[1]}"
    return f"vocabulary_size={size}: SentencePiece cannot train: {message.splitlines()[0] if message else 'no reason'}"
