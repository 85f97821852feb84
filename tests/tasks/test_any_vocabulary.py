"""SeqIO's vocabularies are the reference for the tokenizers that are taken from them."""

import pytest
import seqio

from tests.tasks.own_tasks import Letters
from tests.tokenizers.texts import small_sentencepiece
from triarch.errors import UserError
from triarch.tasks.any_vocabulary import tokenizer_of
from triarch.tasks.vocabularies import seqio_vocabulary
from triarch.tokenizers import ByteTokenizer, ExtraIds, SentencePieceTokenizer, read_tokenizer, with_extra_ids
from triarch.tokenizers.ids import IdTokenizer

TEXT = "a question about 3 things"


def made(vocabulary, **extra):
    return tokenizer_of(vocabulary, ExtraIds(**extra), "a_task")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.model"
    path.write_bytes(small_sentencepiece("bpe", 420).model)
    return path


@pytest.mark.parametrize("extra_ids", [0, 1, 100])
def test_bytes_and_sentencepiece_with_extra_ids(model, extra_ids):
    for vocabulary in (seqio.ByteVocabulary(extra_ids), seqio.SentencePieceVocabulary(str(model), extra_ids)):
        tokenizer = made(vocabulary)
        assert tokenizer.encode(TEXT).tolist() == list(vocabulary.encode(TEXT))
        assert tokenizer.decode(list(vocabulary.encode(TEXT))) == TEXT
        assert tokenizer.info.size == max(vocabulary.vocab_size, 260)
        special = tokenizer.info.special
        assert (special["pad"], special["eos"]) == (vocabulary.pad_id, vocabulary.eos_id)
        if extra_ids > 1:
            assert special["sentinels"][0] == vocabulary.vocab_size - 1  # T5's <extra_id_0>


def test_equal_vocabularies_have_equal_fingerprints(model):
    """So that a store of a task goes with a model whose tokenizer was a file."""
    given = with_extra_ids(SentencePieceTokenizer.load(model), ExtraIds(sentinels=100))
    assert made(seqio.SentencePieceVocabulary(str(model), 100)).info == given.info
    assert made(seqio_vocabulary(given, model)).info == given.info
    assert made(seqio_vocabulary(ByteTokenizer())).info == ByteTokenizer().info


def test_other_normalization_and_rising_sentinels_are_kept(model):
    from sentencepiece import sentencepiece_model_pb2 as model_pb2

    rules = model_pb2.NormalizerSpec(remove_extra_whitespaces=True, add_dummy_prefix=True)
    for changes in ({"normalizer_spec_overrides": rules}, {"reverse_extra_ids": False}):
        vocabulary = seqio.SentencePieceVocabulary(str(model), 10, **changes)
        tokenizer = made(vocabulary)
        text = "two  spaces"
        assert tokenizer.encode(text).tolist() == list(vocabulary.encode(text))
        assert tokenizer.info.size == vocabulary.vocab_size


class Reversed(seqio.ByteVocabulary):
    """A user's, derived from one that is known, with other ids."""

    def _encode(self, s):
        return super()._encode(s)[::-1]


def test_other_vocabularies_are_ids_that_can_be_read_again(tmp_path):
    unigrams = seqio.UnigramVocabulary(["a", "b"])
    expected = [
        (seqio.PassThroughVocabulary(50, eos_id=7), 50, 7),
        (unigrams, 5, 4),  # The end comes behind PAD, a, b, UNK.
        (seqio.PartialCodepointVocabulary([97, 98, 99], extra_ids=4), 10, 1),
        (Letters(), 28, 27),
        (Reversed(), 259, 1),
    ]
    fingerprints = set()
    for vocabulary, size, end in expected:
        tokenizer = made(vocabulary)
        assert isinstance(tokenizer, IdTokenizer)
        assert (tokenizer.info.size, tokenizer.info.special["eos"]) == (size, end)
        assert made(vocabulary).info == tokenizer.info == read_tokenizer(tokenizer.info, tmp_path, "store").info
        assert tokenizer.decode([0, 2, 3, end]) == "2 3 "
        with pytest.raises(UserError, match=r"the vocabulary is one of ids only: .* cannot tokenize text"):
            tokenizer.encode("a")
        fingerprints.add(tokenizer.info.fingerprint)
    fingerprints.add(made(seqio.UnigramVocabulary(["b", "a"])).info.fingerprint)
    assert len(fingerprints) == len(expected) + 1
    masked = made(unigrams, mask=True, sentinels=3)
    assert masked.info.special | {"pad": 0} == {"pad": 0, "bos": 0, "eos": 4, "mask": 5, "sentinels": [8, 3]}
    assert read_tokenizer(masked.info, tmp_path, "store").info == masked.info


class Broken(Letters):
    def _decode(self, ids):
        raise RuntimeError("no table")


class Sized(seqio.PassThroughVocabulary):
    """Of any size and end, possible or not."""


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        (Broken(), r"a_task: its vocabulary Broken cannot be recorded in a store: decode.*RuntimeError: no table"),
        (Sized(0), r"a_task: its vocabulary Sized has vocab_size 0, expected 1 to"),
        (Sized(9, 9), r"a_task: its vocabulary Sized has eos_id 9, expected one of its 9 ids"),
        (Sized("9"), r"a_task: its vocabulary Sized cannot be recorded in a store: vocab_size raised TypeError"),
        (seqio.SentencePieceVocabulary("/nowhere/a.model"), r"a_task: its vocabulary /nowhere/a.model cannot be read"),
    ],
)  # fmt: skip
def test_vocabularies_that_cannot_be_recorded(vocabulary, message):
    with pytest.raises(UserError, match=message) as error:
        made(vocabulary)
    assert "\n" not in str(error.value)
