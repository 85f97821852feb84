"""Vocabularies are the same for the same text, and what cannot be trained says why."""

import random

import pytest

from tests.tokenizers.texts import Documents
from triarch.errors import UserError
from triarch.prepare import sentencepiece_training
from triarch.prepare.sentencepiece_training import _chunks, _sample, train_sentencepiece


def _texts():
    return [document.text for document in Documents().documents()]


@pytest.mark.parametrize(("model_type", "size"), [("bpe", 400), ("unigram", 350)])
def test_same_texts_same_model(model_type, size):
    models = {train_sentencepiece(iter(_texts()), size, model_type).model for _ in range(2)}
    assert len(models) == 1
    assert train_sentencepiece(_texts()[:30], size, model_type).model not in models


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
def test_the_largest_possible_size_is_named_and_works(model_type):
    with pytest.raises(UserError, match=r"vocabulary_size=100000: too large for this text: at most (\d+)$") as error:
        train_sentencepiece(_texts(), 100000, model_type)
    largest = int(str(error.value).split()[-1])
    assert train_sentencepiece(_texts(), largest, model_type).info.size == largest


def test_the_smallest_possible_size_is_named_and_works():
    with pytest.raises(UserError, match=r"vocabulary_size=100: too small .* at least (\d+)$") as error:
        train_sentencepiece(_texts(), 100)
    smallest = int(str(error.value).split()[-1])
    assert train_sentencepiece(_texts(), smallest).info.size == smallest


def test_unknown_model_type():
    with pytest.raises(UserError, match=r"unknown model \(did you mean 'unigram'"):
        train_sentencepiece(_texts(), 400, "unigramm")


def test_text_of_reserved_characters_only():
    with pytest.raises(UserError, match="vocabulary_size=400") as error:
        train_sentencepiece(["\t\t\u2581"], 400)
    assert "\n" not in str(error.value)


def test_chunks_hold_all_but_reserved_characters():
    texts = [*_texts(), "x" * 10_000 + "\n" + "y\n" * 5000]
    chunks = list(_chunks(texts))
    kept = "".join(texts).translate(str.maketrans("", "", "\t\u2581\0"))
    assert "".join(chunks) == kept
    assert max(map(len, chunks)) < 2 * 2048


def test_a_large_text_is_sampled_evenly():
    chunks = [str(index) for index in range(10_000)]
    sample = _sample(iter(chunks), 1000)
    assert len(set(sample)) == 1000 and sample == _sample(iter(chunks), 1000)
    # Uniform on [0, 10000): standard deviation of the mean is 2887 / sqrt(1000) = 91.
    assert abs(sum(map(int, sample)) / 1000 - 4999.5) < 4 * 91
    assert _sample(iter(chunks), 20_000) == chunks


def test_of_text_without_spaces_less_is_drawn():
    """SentencePiece takes a hundred bytes and more for each character of new words."""
    dense = [f"{index:0100}" for index in range(10_000)]
    spaced = [f"{index} word" for index in range(3000)]
    sample = _sample(iter(dense + spaced), 5000)
    assert sample[:3000] == spaced and len(set(sample)) == len(sample) == 3000 + 2048
    assert abs(sum(map(int, sample[3000:])) / 2048 - 4999.5) < 4 * 2887 / 2048**0.5
    assert len(_sample(iter(dense), 100)) == 100


def test_long_documents_are_taken_apart_by_blocks(monkeypatch):
    monkeypatch.setattr(sentencepiece_training, "_BLOCK_CHARACTERS", 100)
    assert "".join(_chunks(["x" * 250 + "\n" * 99])) == "x" * 250 + "\n" * 99
    assert max(map(len, _chunks(["a b\t" * 100]))) <= 100


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
@pytest.mark.parametrize("end", ["", " a b"], ids=["no space", "two spaces"])
def test_spaces_are_kept_however_rare(model_type, end):
    """As rare as that other characters become bytes, which a literal U+2581 does too."""
    letters = random.Random(0).choices("ACGT", k=20_000)
    vocabulary = train_sentencepiece(["".join(letters) + end], 280, model_type)
    assert vocabulary.decode(vocabulary.encode("A b\u2581 C")) == "A b\u2581 C"
