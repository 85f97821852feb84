"""Parts of a text have the ids that the libraries give the whole, for every kind of vocabulary."""

import functools
import io
import json

import hypothesis.strategies as st
import numpy as np
import pytest
import sentencepiece
from hypothesis import assume, example, given, settings

from tests.tokenizers import huggingface
from tests.tokenizers.texts import Documents, small_sentencepiece, texts
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from triarch.tokenizers import ByteTokenizer, HuggingFaceTokenizer, SentencePieceTokenizer, cuts

_CHINESE = [chr(0x4E00 + 5 * number) for number in range(20)]
_OWN = {"byte_fallback": True, "add_dummy_prefix": False, "remove_extra_whitespaces": False, "split_digits": True}
_SENTENCEPIECE = {
    "bpe": {"model_type": "bpe", "normalization_rule_name": "identity", **_OWN},
    "unigram": {"model_type": "unigram", "normalization_rule_name": "identity", **_OWN},
    "bpe with rules": {"model_type": "bpe"},
    "unigram with rules": {"model_type": "unigram"},
    "folded": {"model_type": "bpe", "normalization_rule_name": "nmt_nfkc_cf", "user_defined_symbols": ["GTG", "ta"]},
    "phrases": {"model_type": "bpe", "split_by_whitespace": False, **_OWN},
    "suffix": {"model_type": "unigram", "treat_whitespace_as_suffix": True},
    "characters": {"model_type": "char"},
    "words": {"model_type": "word"},
}
# Characters of which the vocabularies have pieces of all lengths, and others; what normalizers and pre-tokenizers see.
_RUNS = st.builds(
    lambda letters, numbers: "".join(letters[number % len(letters)] for number in numbers),
    st.sampled_from(["ACGT", "etaoin", _CHINESE, " ", "\n ", "0123456789", '{"a":1,', "Ab+/9", "'sdt", "a", "\u6f22x"]),
    st.lists(st.integers(0, 59), min_size=1, max_size=150),
)
_FRAGMENTS = st.sampled_from(
    ["e\u0301", "\ufb01", "\u212b", "\uff21\uff22", "\u1100\u1161\u11a8", "\u2581", "\0", "\ue000"]
)
long_texts = st.lists(_RUNS | _FRAGMENTS | texts, min_size=1, max_size=10).map("".join)


def _training_text():
    draw = np.random.default_rng(0)
    for letters in ("ACGT", _CHINESE):
        for _ in range(40):
            yield "".join(draw.choice(list(letters), 60))
    yield from (line for document in Documents().documents() for line in document.text.replace("\0", "").splitlines())


@functools.cache
def _sentencepiece(name):
    if name == "triarch":
        return small_sentencepiece()
    model = io.BytesIO()
    options = {"vocab_size": 500, "hard_vocab_limit": False, "character_coverage": 0.99, "minloglevel": 2}
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=_training_text(), model_writer=model, **options, **ids, **_SENTENCEPIECE[name]
    )
    return SentencePieceTokenizer(model.getvalue(), name)


@functools.cache
def _huggingface(name):
    files = {"tokenizer.json": huggingface.LAYOUTS[name]().to_str().encode()}
    return HuggingFaceTokenizer(files, name)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(cuts, "PART_CHARACTERS", 60)
    monkeypatch.setattr(cuts, "_WORDS_WITHIN", 20)
    monkeypatch.setattr(cuts, "_REACH", 20)
    monkeypatch.setattr(cuts, "_STRETCHES", (0, 7, 14))


def _parted(tokenizer, text):
    """The ids of the parts of a text, and whether all cuts are certain."""
    parts = list(tokenizer.parts(text))
    assert "".join(part.text for part in parts) == text
    ids = np.concatenate([tokenizer.encode_part(part) for part in parts])
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(tokenizer.encode(text), ids)
    return ids.tolist(), all(part.certain for part in parts)


def _whole(tokenizer, text):
    """A tokenizer's ids of a text that it takes whole."""
    size, cuts.PART_CHARACTERS = cuts.PART_CHARACTERS, len(text)
    try:
        return tokenizer.encode(text).tolist()
    finally:
        cuts.PART_CHARACTERS = size


def _made(name):
    return _huggingface(name) if name in huggingface.LAYOUTS else _sentencepiece(name)


def _score(name, tokenizer):
    """Returns how a unigram model scores a piece, and the rounding of a sum so large; None for others."""
    if name == "t5":  # The library adds 64-bit numbers.
        scores = [score for _, score in json.loads(huggingface.LAYOUTS[name]().to_str())["model"]["vocab"]]
        return scores.__getitem__, np.spacing
    if name.startswith("unigram"):
        processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
        return processor.get_score, lambda total: np.spacing(np.float32(total))
    return None


@pytest.mark.parametrize("name", [*_SENTENCEPIECE, "triarch", *huggingface.LAYOUTS])
@settings(max_examples=20, deadline=None)
@given(text=long_texts)
@example("".join(np.random.default_rng(1).choice(list("ACGT"), 700)))
@example("".join(np.random.default_rng(1).choice(list("etaoin"), 700)))
@example("".join(np.random.default_rng(2).choice(_CHINESE, 700)))
def test_parts_have_the_ids_of_the_whole(name, text):
    tokenizer = _made(name)
    ids, certain = _parted(tokenizer, text)
    assume(certain)
    expected, scoring = _whole(tokenizer, text), _score(name, tokenizer)
    if ids == expected or scoring is None:
        assert ids == expected
        return
    # Both are best, as far as sums can tell.
    score, spacing = scoring
    totals = [sum(map(score, found)) for found in (ids, expected)]
    assert tokenizer.token_bytes.own[ids].sum() == tokenizer.token_bytes.own[expected].sum()
    assert abs(totals[0] - totals[1]) <= len(ids) * abs(spacing(totals[0]))


@given(text=long_texts)
def test_bytes_are_cut_anywhere(text):
    tokenizer = ByteTokenizer()
    assert _parted(tokenizer, text) == (_whole(tokenizer, text), True)


@pytest.mark.parametrize("tokenizer", [*_SENTENCEPIECE, *huggingface.LAYOUTS])
@pytest.mark.parametrize("letters", ["ACGT", "etaoin", "".join(_CHINESE), "0123456789,", '":,aeit{}'])
def test_random_letters_have_certain_cuts(tokenizer, letters):
    """Each part ends soon, and not a token differs from the whole."""
    made = _made(tokenizer)
    if tokenizer in ("words", "suffix"):
        pytest.skip("tokens depend on more than is between borders")
    text = "".join(np.random.default_rng(3).choice(list(letters), 900))
    parts = list(made.parts(text))
    assert len(parts) > 5 and all(part.certain for part in parts)
    assert len(_parted(made, text)[0]) == len(_whole(made, text))


def test_what_is_unknown_together_is_one_token():
    """A word too long for WordPiece, and characters without a piece."""
    for tokenizer, letter in ((_huggingface("bert"), "q"), (_sentencepiece("bpe with rules"), "\u5b57")):
        text = f"the{letter * 700} at"
        ids, certain = _parted(tokenizer, text)
        assert ids == _whole(tokenizer, text) and certain and len(ids) < 20
        assert sum(index == (1 if letter == "q" else 2) for index in ids) == 1


@pytest.mark.parametrize("tokenizer", ["bpe", "gpt2", "gemma"])
def test_runs_of_one_letter_are_cut_all_the_same(tokenizer):
    """Which letters of a run are together is told by their number: no cut is certain. The same ones each time."""
    made = _made(tokenizer)
    text = "the" + "ee" * 500 + "o"
    parts = list(made.parts(text))
    assert max(len(part.text) for part in parts) < 120
    assert parts == list(made.parts(text))
    assert b"".join(made.token_texts[index] for index in made.encode(text)) == text.encode()


@pytest.mark.parametrize("dropped", ["\0", "\u200b", "\u0301"])
def test_a_word_may_go_on_behind_characters_that_are_dropped(dropped):
    """Where a normalizer leaves nothing, what stands before and behind is one word: as in files with runs of NUL."""
    made = _huggingface("bert")
    text = f"hello the{dropped * 300}re and more {'a ' * 50}"
    ids, certain = _parted(made, text)
    assert not certain or ids == _whole(made, text)
    spaced, certain = _parted(made, text.replace(dropped * 300, dropped * 10))
    assert certain and spaced == _whole(made, text)


@pytest.mark.parametrize(
    ("token", "text", "all_certain"),
    [
        (AddedToken("new york"), "new york is" * 100, True),
        (AddedToken("york", rstrip=True), "in new york and " * 100, False),
        (AddedToken("york", lstrip=True), ("in new." + " " * 170 + "york and") * 20, False),
        (AddedToken("york", lstrip=True), "etaoinyorketaoin" * 40, True),
    ],
    ids=["two words", "takes the space after", "takes spaces before", "no spaces"],
)
def test_added_tokens_that_are_text(token, text, all_certain):
    """A cut between words would divide them, or leave a space that they take."""
    changed = Tokenizer.from_str(huggingface.LAYOUTS["gpt2"]().to_str())
    pieces = [pre_tokenizers.Split(" ", "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    changed.pre_tokenizer = pre_tokenizers.Sequence(pieces)
    changed.add_tokens([token])
    made = HuggingFaceTokenizer({"tokenizer.json": changed.to_str().encode()}, "changed")
    ids, certain = _parted(made, text)
    assert certain == all_certain
    assert not certain or ids == _whole(made, text)
