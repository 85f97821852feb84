"""Ids word by word are those that SentencePiece gives the whole text, whatever the model and the text."""

import functools
import io
import itertools
import pickle
import random

import hypothesis.strategies as st
import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from sentencepiece import sentencepiece_model_pb2 as model_pb2

from tests.tokenizers.texts import HARD_TEXTS, Documents, small_sentencepiece, texts
from triarch.tokenizers import SPACE_SYMBOL, SentencePieceTokenizer
from triarch.tokenizers import words as caching
from triarch.tokenizers.sentencepiece_words import SentencePieceWords
from triarch.tokenizers.words import WordIds, word_pattern

# Models that are tokenized by words: what `triarch prepare` trains by default, and given ones.
BY_WORDS = {
    "prepare": None,
    "plain": {},
    "byte_fallback": {"byte_fallback": True},
    "identity": {"normalization_rule_name": "identity"},
    "spaces_kept": {"remove_extra_whitespaces": False, "allow_whitespace_only_pieces": True},
    "no_prefix": {"normalization_rule_name": "identity", "add_dummy_prefix": False, "remove_extra_whitespaces": False},
    "folded": {"normalization_rule_name": "nmt_nfkc_cf", "byte_fallback": True},
    "scripts_mixed": {"split_by_unicode_script": False, "split_by_number": False},
    "symbols": {"user_defined_symbols": ["<sep>", "\u2581\u2581", "\u2581at", "0", "q\n"], "byte_fallback": True},
    "control": {"control_symbols": ["<mask>", "z"]},
    "rules": {},
}
# Models that are not: a piece may hold several words, or what a word becomes is not its own affair.
WHOLE = {
    "phrases": {"split_by_whitespace": False},
    "suffix": {"treat_whitespace_as_suffix": True},
    "symbol_across": {"user_defined_symbols": ["a\u2581t"]},
}
# "x y" becomes one word, "_" two, "zz" none.
_RULES = "78 20 79\t78 79\n5F\t20 20\n7A 7A\t\n41\t61\n"
_FRAGMENTS = [
    "the",
    "at",
    "x y",
    "Zz",
    "zz",
    "_",
    "<sep>",
    "<mask>",
    "</s>",
    "q\n",
    "0",
    "12",
    "  ",
    "   ",
    " ",
    "\n",
    "\t",
]
_FRAGMENTS += [
    "\0",
    "\u00a0",
    "\u3000",
    "\u2028",
    "\u200b",
    "e\u0301",
    "\ufb01",
    "\U0001f600",
    "\u6f22",
    "\u1100\u1161",
]
_FRAGMENTS += [
    ".",
    "...",
    "it's",
    "a" * 200,
    "etaoin" * 20,
    "=" * 90,
    " " * 90,
    SPACE_SYMBOL,
    "\u00e9t\u00e9",
    "\u2047",
]
nasty = st.lists(st.sampled_from(_FRAGMENTS) | texts, max_size=25).map("".join)


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    """A file of normalization rules, for a trainer that takes no other."""
    path = tmp_path_factory.mktemp("rules") / "rules.tsv"
    path.write_text(_RULES)
    return path


@functools.cache
def _model(name, rules):
    options = {**BY_WORDS, **WHOLE}[name]
    if options is None:
        return small_sentencepiece("bpe", 420).model
    if name == "rules":
        options = {"normalization_rule_tsv": str(rules)}
    model = io.BytesIO()
    lines = [line for document in Documents().documents() for line in document.text.replace("\0", "").splitlines()]
    lines += [" ".join(_FRAGMENTS[:10]), "caf\u00e9 \u00e9t\u00e9 \u00e9t\u00e9, 12th a1 a1 a1"] * 20
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    options = {"model_type": "bpe", "vocab_size": 500, "hard_vocab_limit": False, **ids, **options}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, minloglevel=2, **options
    )
    return model.getvalue()


@functools.cache
def _loaded(name, rules):
    model = _model(name, rules)
    return SentencePieceTokenizer(model, name), sentencepiece.SentencePieceProcessor(model_proto=model)


@pytest.mark.parametrize("name", BY_WORDS)
@settings(max_examples=40, deadline=None)
@given(text=nasty)
def test_ids_are_those_of_the_whole_text(rules, name, text):
    tokenizer, processor = _loaded(name, rules)
    parts = text.split(SPACE_SYMBOL) if tokenizer.space_symbol_ids else [text]
    expected = processor.encode(parts[0])
    for part in parts[1:]:
        expected += [*tokenizer.space_symbol_ids, *processor.encode(part)]
    for _ in range(2):  # The second time all words are known.
        assert tokenizer.encode(text).tolist() == expected


def test_these_are_tokenized_by_words_and_those_are_not(rules):
    assert all(SentencePieceWords.of_model(_model(name, rules)) for name in BY_WORDS)
    assert not any(SentencePieceWords.of_model(_model(name, rules)) for name in WHOLE)
    assert SentencePieceWords.of_model(small_sentencepiece("unigram", 360).model) is None


def _unused(model):
    proto = model_pb2.ModelProto.FromString(model)
    for piece in proto.pieces[300:400]:
        piece.type = model_pb2.ModelProto.SentencePiece.UNUSED
    return proto.SerializeToString()


def _words_do(model):
    """Whether the ids of some texts are those of their words between spaces."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    processor.override_normalizer_spec(add_dummy_prefix=False, remove_extra_whitespaces=False)
    found = [document.text for document in Documents().documents() if SPACE_SYMBOL not in document.text]
    find = word_pattern(["it's"]).findall
    return all(
        processor.encode(text) == [index for word in find(text) for index in processor.encode(word)]
        for text in [*found, "a tt", "to a t"]
    )


@pytest.mark.parametrize("name", WHOLE)
def test_words_would_not_do_for_the_others(rules, name):
    """Each of the models that are left to SentencePiece has texts whose ids are not those of their words."""
    assert not _words_do(_model(name, rules)) and _words_do(_model("no_prefix", rules))


def test_unused_pieces_are_left_to_sentencepiece(rules):
    """It splits them into what they were last merged from in the text."""
    assert SentencePieceWords.of_model(_unused(_model("no_prefix", rules))) is None


def test_unigram_models_round_by_what_came_before():
    """Of two ways to cut a word into the same pieces, the 32-bit sums from the start of the text choose."""
    proto = model_pb2.ModelProto.FromString(small_sentencepiece("unigram", 360).model)
    scores = {SPACE_SYMBOL: -1.3, "a": -2.1, "aa": -3.7}
    kept = [piece for piece in proto.pieces if piece.type != model_pb2.ModelProto.SentencePiece.NORMAL]
    del proto.pieces[:]
    proto.pieces.extend(kept)
    for piece, score in scores.items():
        proto.pieces.add(piece=piece, score=score)
    model = proto.SerializeToString()
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    chosen = {tuple(processor.encode("a" + " a" * count + " aaa")[-2:]) for count in range(100)}
    assert len(chosen) == 2 and SentencePieceWords.of_model(model) is None


def test_escaped_spaces_are_needed(rules):
    proto = model_pb2.ModelProto.FromString(_model("plain", rules))
    proto.normalizer_spec.escape_whitespaces = False
    assert SentencePieceWords.of_model(proto.SerializeToString()) is None


@pytest.mark.parametrize("pieces", [["ab", " ab", ")\n", "   ", "_1"], ["\u00e9t", "."], ["it's", " a-b"], ["e\u0301"]])
@given(text=nasty)
def test_no_piece_crosses_a_border_between_words(pieces, text):
    pattern = word_pattern(pieces)
    words = pattern.findall(text)
    assert "".join(words) == text and "" not in words
    # Borders are where they are whatever stands around them.
    assert all(pattern.fullmatch(word) for word in words)
    assert all(
        pattern.findall(left[-1] + right[0]) == [left[-1], right[0]] for left, right in itertools.pairwise(words)
    )


@pytest.mark.parametrize("pieces", [["a", "a b"], ["a", "a "], ["ab", ". "]])
def test_no_borders_fit_pieces_of_several_words(pieces):
    assert word_pattern(pieces) is None


class _Lengths:
    """An encoder whose ids are how long the words are."""

    def __init__(self):
        self.asked = []

    def encode(self, text, out_type=int):
        self.asked.append(text)
        lengths = [len(word) for word in word_pattern([" a"]).findall(text)]
        return lengths if out_type is int else np.array(lengths, np.int32)


def _random_text(draw, letters):
    return " ".join("".join(draw.choices(letters, k=draw.randint(1, 5))) for _ in range(50))


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(caching, "_MAX_WORDS", 100)
    encoder = _Lengths()
    words = WordIds(encoder, word_pattern([" a"]))
    draw = random.Random(0)
    for _ in range(50):
        text = _random_text(draw, "abc")
        assert words.of_text(text).sum() == len(text)
        assert len(words) <= 100
    encoder.asked.clear()
    long = "x" * 100
    assert words.of_text(f"{long} {long}").tolist() == [100, 101] and encoder.asked == [long, f" {long}"]
    assert long not in words


def test_text_that_does_not_repeat_itself_is_not_taken_apart(monkeypatch):
    monkeypatch.setattr(caching, "_NEW_WORDS_AT_FIRST", 100)
    encoder = _Lengths()
    words = WordIds(encoder, word_pattern([" a"]))
    draw = random.Random(0)
    texts = [_random_text(draw, "abcdefghijklmnop") for _ in range(400)]
    expected = [list(map(len, word_pattern([" a"]).findall(text))) for text in texts]
    assert [words.of_text(text).tolist() for text in texts] == expected
    # Each text has 50 words; new ones are the credit's at first, one in 64 characters, and one text's too many.
    assert len(words) <= 100 + sum(map(len, texts)) / 64 + 50
    assert sum(text in encoder.asked for text in texts) > 300
    # Text that repeats itself is taken apart again once the credit allows it.
    for count in range(1500):
        assert words.of_text("a bb ccc").tolist() == [1, 3, 4]
        if count == 1000:
            encoder.asked.clear()
    assert encoder.asked == [] and " ccc" in words


def test_long_texts_are_taken_in_parts(monkeypatch):
    tokenizer = small_sentencepiece()
    text = " ".join(document.text for document in Documents().documents())
    whole = tokenizer.encode(text)
    monkeypatch.setattr(caching, "_PART_CHARACTERS", 100)
    np.testing.assert_array_equal(tokenizer.encode(text), whole)


def test_another_process_gets_the_same_tokenizer():
    tokenizer = small_sentencepiece()
    text = HARD_TEXTS[2]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(tokenizer)).encode(text), tokenizer.encode(text))
