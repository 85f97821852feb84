"""The triarch tokenizer with the ids of any SeqIO vocabulary."""

from __future__ import annotations

import hashlib
import numbers
from collections.abc import Iterator
from typing import Any

import seqio
import tensorflow as tf

from triarch.data.manifest import MOST_IDS, Vocabulary
from triarch.errors import UserError
from triarch.tasks.vocabularies import HuggingFaceVocabulary
from triarch.tokenizers import ByteTokenizer, ExtraIds, IdTokenizer, SentencePieceTokenizer, Tokenizer, with_extra_ids
from triarch.tokenizers.ids import KIND

# A class of the user's own that is derived from one of SeqIO's may do anything; where it does the same with these it
# is taken for the same.
_PROBES = ("The quick brown fox.", "  two  spaces\tand\nlines ", "Grüße, 你好, \U0001f600!", "x = [1, 2.5e-3]", "")


def tokenizer_of(vocabulary: seqio.Vocabulary, extra: ExtraIds, owner: str) -> Tokenizer:
    """Returns the tokenizer with the ids of `vocabulary`, and those of `extra` behind them.

    Bytes and SentencePiece models are known to triarch, so text can be read and written with them; T5's sentinels are
    their extra ids. Of any other class only the ids are kept, see `triarch.tokenizers.ids`: its size, its special ids,
    and as fingerprint the sha256 of what each of its ids is decoded to. One without an end of its own gets one
    behind its own ids.

    Args:
      vocabulary: of any class.
      extra: ids that it has not.
      owner: the task, for messages.

    Raises:
      UserError: the vocabulary cannot be described, or cannot get such ids.
    """
    known = _known(vocabulary, extra, owner)
    return with_extra_ids(IdTokenizer(_ids_only(vocabulary, owner)), extra) if known is None else known


def _known(vocabulary: seqio.Vocabulary, extra: ExtraIds, owner: str) -> Tokenizer | None:
    """Returns the tokenizer of a vocabulary of which triarch has an equal, else None."""
    if isinstance(vocabulary, HuggingFaceVocabulary):
        return with_extra_ids(vocabulary.hugging_face, extra)
    if isinstance(vocabulary, seqio.ByteVocabulary):
        made: Tokenizer | None = _of_bytes(vocabulary, extra)
    elif isinstance(vocabulary, seqio.SentencePieceVocabulary):
        made = _of_sentencepiece(vocabulary, extra, owner)
    else:
        return None
    return made if made is not None and _same(vocabulary, made) else None


def _of_bytes(vocabulary: seqio.ByteVocabulary, extra: ExtraIds) -> Tokenizer:
    if not vocabulary.extra_ids:
        return with_extra_ids(ByteTokenizer(), extra)
    # The byte tokenizer's mask is SeqIO's first extra id; the others are sentinels.
    return with_extra_ids(with_extra_ids(ByteTokenizer(), ExtraIds(sentinels=vocabulary.extra_ids - 1)), extra)


def _of_sentencepiece(vocabulary: seqio.SentencePieceVocabulary, extra: ExtraIds, owner: str) -> Tokenizer | None:
    file = vocabulary.sentencepiece_model_file
    try:
        with tf.io.gfile.GFile(file, "rb") as opened:
            model = opened.read()
        changed = vocabulary.sp_model
        without_end = vocabulary.eos_id < 0
    except (tf.errors.OpError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{owner}: its vocabulary {file} cannot be read: {reason}") from None
    if without_end:
        return None
    plain = SentencePieceTokenizer(model, file)
    sentinels = ExtraIds(sentinels=vocabulary.extra_ids)
    if changed == _with_pieces(model, vocabulary.extra_ids) and not extra.count:
        return with_extra_ids(plain, sentinels)
    # Other normalization, or sentinels in rising order, or ids to come behind the sentinels: SeqIO's own model, whose
    # pieces the sentinels are.
    return with_extra_ids(SentencePieceTokenizer(changed, file), extra)


def _with_pieces(model: bytes, extra_ids: int) -> bytes:
    """Returns a model with T5's sentinels as SeqIO adds them."""
    from sentencepiece import sentencepiece_model_pb2 as model_pb2

    proto = model_pb2.ModelProto.FromString(model)
    for number in reversed(range(extra_ids)):
        kind = model_pb2.ModelProto.SentencePiece.USER_DEFINED
        proto.pieces.add(piece=f"\u2581<extra_id_{number}>", score=0.0, type=kind)
    return proto.SerializeToString()


def _same(vocabulary: seqio.Vocabulary, tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer does with some texts what a vocabulary does with them."""
    if type(vocabulary).__module__.split(".")[0] in ("seqio", "triarch"):
        return True
    try:
        return all(list(vocabulary.encode(text)) == tokenizer.encode(text).tolist() for text in _PROBES)
    except Exception:  # Whatever code of the user's may raise; it is not the same then.
        return False


def _size(vocabulary: seqio.Vocabulary, owner: str) -> int:
    size: Any = _asked(vocabulary, "vocab_size", owner)
    if not isinstance(size, numbers.Integral) or not 0 < int(size) < MOST_IDS:
        raise UserError(f"{owner}: its {_name(vocabulary)} has vocab_size {size!r}, expected 1 to {MOST_IDS - 1:,}")
    return int(size)


def _ids_only(vocabulary: seqio.Vocabulary, owner: str) -> Vocabulary:
    size = _size(vocabulary, owner)
    pad: Any
    end: Any
    pad, end = _asked(vocabulary, "pad_id", owner), _asked(vocabulary, "eos_id", owner)
    end = None if end is None or end == -1 else end
    index: Any
    for name, index in (("pad_id", pad), ("eos_id", end)):
        is_id = isinstance(index, numbers.Integral) and 0 <= int(index) < size
        if not is_id and not (name == "eos_id" and index is None):
            raise UserError(f"{owner}: its {_name(vocabulary)} has {name} {index!r}, expected one of its {size:,} ids")
    digest = hashlib.sha256(f"{_name(vocabulary)} {size} {pad} {end}\n".encode())
    for text in _texts(vocabulary, size, owner):
        digest.update(f"{text!r}\n".encode("utf-8", "backslashreplace"))
    special = {"pad": int(pad), "bos": int(pad), "eos": size if end is None else int(end), "mask": None}
    return Vocabulary(KIND, size + (end is None), digest.hexdigest(), special)


def _texts(vocabulary: seqio.Vocabulary, size: int, owner: str) -> Iterator[object]:
    """Yields what each id is decoded to: text, or of ids that pass through themselves."""
    for index in range(size):
        try:
            yield vocabulary.decode([index])
        except (IndexError, KeyError, ValueError):
            yield None  # A special id, or one that nothing has.
        except Exception as error:  # Whatever code of the user's may raise.
            raise UserError(
                f"{owner}: its {_name(vocabulary)} cannot be recorded in a store: decode([{index}]) raised "
                f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            ) from error


def _asked(vocabulary: seqio.Vocabulary, name: str, owner: str) -> object:
    try:
        return getattr(vocabulary, name)
    except Exception as error:  # Whatever code of the user's may raise.
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{owner}: its {_name(vocabulary)} cannot be recorded in a store: {name} raised {type(error).__name__}: "
            f"{reason}"
        ) from error


def _name(vocabulary: seqio.Vocabulary) -> str:
    return f"vocabulary {type(vocabulary).__qualname__}"
