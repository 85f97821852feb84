"""Text comes back from its ids, token_texts are its bytes, and token_bytes counts them."""

import hashlib
import io

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings

from tests.tokenizers.texts import HARD_TEXTS, small_sentencepiece, texts, tokenizers
from triarch.errors import UserError
from triarch.tokenizers import ByteTokenizer, SentencePieceTokenizer

KINDS = ["bytes", "bpe", "unigram"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(text=texts)
def test_nothing_is_lost(kind, text):
    tokenizer = tokenizers()[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.token_bytes.own[ids].sum() == len(text.encode())
    assert b"".join(tokenizer.token_texts[index] for index in ids) == text.encode()
    assert not set(ids.tolist()) & set(tokenizer.info.special.values())


@pytest.mark.parametrize("kind", KINDS)
def test_hard_texts(kind):
    tokenizer = tokenizers()[kind]
    for text in HARD_TEXTS:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_bytes_are_those_of_byt5():
    assert ByteTokenizer().encode("aé").tolist() == [ord("a") + 3, 0xC3 + 3, 0xA9 + 3]
    assert ByteTokenizer().info.special == {"pad": 0, "bos": 0, "eos": 1, "mask": 259}
    assert ByteTokenizer().info.size == 260


def test_decode_leaves_special_ids_out():
    for tokenizer in tokenizers().values():
        special = tokenizer.info.special
        ids = [special["pad"], *tokenizer.encode("ab"), special["mask"], *tokenizer.encode(" c"), special["eos"]]
        assert tokenizer.decode(ids) == "ab c"


def test_cut_characters_are_marked():
    tokenizer = ByteTokenizer()
    assert tokenizer.decode(tokenizer.encode("é")[:1]) == "\ufffd"


def test_trained_vocabulary_has_the_ids_asked_for():
    tokenizer = small_sentencepiece()
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    assert [processor.id_to_piece(index) for index in range(5)] == ["<pad>", "</s>", "<unk>", "<mask>", "<0x00>"]
    assert tokenizer.info.special == {"pad": 0, "bos": 0, "eos": 1, "mask": 3}
    assert processor.bos_id() == -1 and tokenizer.info.size == len(processor) == 420
    assert tokenizer.info.fingerprint == hashlib.sha256(tokenizer.model).hexdigest()


def test_digits_are_split():
    for kind in ("bpe", "unigram"):
        assert len(tokenizers()[kind].encode("1234567890")) == 10


def _train(**options):
    model = io.BytesIO()
    sentences = [f"some text number {index} of a corpus" for index in range(100)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=model, vocab_size=40, minloglevel=2, **options
    )
    return model.getvalue()


def test_a_given_model_in_t5s_layout():
    model = _train(pad_id=0, eos_id=1, unk_id=2, bos_id=-1, user_defined_symbols=["[MASK]"])
    tokenizer = SentencePieceTokenizer(model, "given")
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    assert tokenizer.encode("some text").tolist() == processor.encode("some text")
    assert tokenizer.info.special == {"pad": 0, "bos": 0, "eos": 1, "mask": processor.piece_to_id("[MASK]")}
    # T5's models put a space before the text.
    assert tokenizer.token_bytes.own[tokenizer.encode("some text")].sum() == len("some text") + 1
    assert tokenizer.token_bytes.own[processor.piece_to_id("[MASK]")] == 0


def test_a_given_model_in_llamas_layout_pads_with_unk():
    model = _train(unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
    assert SentencePieceTokenizer(model, "given").info.special == {"pad": 0, "bos": 0, "eos": 2, "mask": None}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"junk", "not a SentencePiece model"),
        (b"", "not a SentencePiece model"),
        (_train(pad_id=0, eos_id=-1, unk_id=2, bos_id=1), "has no end-of-sentence piece"),
    ],
)
def test_unusable_models(tmp_path, model, message):
    path = tmp_path / "given.model"
    path.write_bytes(model)
    with pytest.raises(UserError, match=message) as error:
        SentencePieceTokenizer.load(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_missing_model(tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        SentencePieceTokenizer.load(tmp_path / "none.model")


def test_ids_fit_their_type():
    assert small_sentencepiece().encode("some text").dtype == np.int32
    assert ByteTokenizer().token_bytes.own.dtype == small_sentencepiece().token_bytes.own.dtype == np.uint16
