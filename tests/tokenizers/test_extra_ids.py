"""Extra ids lie where T5 and SeqIO have them, and nothing else of the vocabulary changes."""

import pickle

import numpy as np
import pytest

from tests.tokenizers import huggingface
from tests.tokenizers.texts import HARD_TEXTS, small_sentencepiece, tokenizers
from triarch.errors import UserError
from triarch.tokenizers import (
    ByteTokenizer,
    ExtraIds,
    HuggingFaceTokenizer,
    given_tokenizer,
    read_tokenizer,
    with_extra_ids,
)

EXTRA = [
    ExtraIds(sentinels=100),
    ExtraIds(modes=True),
    ExtraIds(modes=True, sentinels=5),
    ExtraIds(mask=True, modes=True, sentinels=2),
]


def _bases(folder):
    gpt2 = HuggingFaceTokenizer.load(huggingface.write_folder(folder / "gpt2", "gpt2"))
    return {**tokenizers(), "huggingface": gpt2}


def test_where_they_lie():
    info = with_extra_ids(ByteTokenizer(), ExtraIds(modes=True, sentinels=100)).info
    assert info.size == 260 + 3 + 100
    assert info.special == {
        **ByteTokenizer().info.special,
        "modes": {"R": 260, "S": 261, "X": 262},
        "sentinels": [362, 100],
    }


def test_the_mask_comes_first(tmp_path):
    base = _bases(tmp_path)["huggingface"]
    special = with_extra_ids(base, EXTRA[-1]).info.special
    assert special["mask"] == base.size and special["modes"]["R"] == base.size + 1
    assert special["sentinels"] == [base.size + 5, 2]


@pytest.mark.parametrize("extra", EXTRA)
@pytest.mark.parametrize("kind", ["bytes", "bpe", "unigram", "huggingface"])
def test_text_is_as_before_and_a_store_brings_it_back(tmp_path, kind, extra):
    base = _bases(tmp_path)[kind]
    if extra.mask and base.info.special["mask"] is not None:
        with pytest.raises(UserError, match="has a mask already"):
            with_extra_ids(base, extra)
        return
    tokenizer = with_extra_ids(base, extra)
    folder = tmp_path / "vocabulary"
    folder.mkdir()
    tokenizer.save(folder)
    for copy in (tokenizer, read_tokenizer(tokenizer.info, folder, "store"), pickle.loads(pickle.dumps(tokenizer))):
        assert copy.info == tokenizer.info
        assert copy.info.size == base.info.size + extra.count == len(copy.token_bytes.own)
        assert list(copy.token_texts) == [*base.token_texts, *[b""] * extra.count]
        assert not copy.token_bytes.own[base.info.size :].any()
        np.testing.assert_array_equal(copy.token_bytes.own[: base.info.size], base.token_bytes.own)
        for text in HARD_TEXTS:
            ids = copy.encode(text)
            np.testing.assert_array_equal(ids, base.encode(text))
            assert copy.decode([*ids, copy.info.size - 1]) == base.decode(ids)


def test_other_ids_are_another_vocabulary():
    infos = [with_extra_ids(ByteTokenizer(), extra).info for extra in [ExtraIds(), *EXTRA[:3], ExtraIds(sentinels=3)]]
    assert len({info.fingerprint for info in infos}) == 5


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (ExtraIds(), ExtraIds(mask=True), "has a mask already, id 259: leave out --add_mask"),
        (ExtraIds(), ExtraIds(sentinels=-1), "add_sentinels=-1: expected 0 to 10,000"),
        (ExtraIds(modes=True), ExtraIds(sentinels=1), "has ids added already"),
    ],
)
def test_what_cannot_be_added(first, second, message):
    with pytest.raises(UserError, match=message):
        with_extra_ids(with_extra_ids(ByteTokenizer(), first), second)


def test_t5_has_its_sentinels(tmp_path):
    base = HuggingFaceTokenizer.load(huggingface.write_folder(tmp_path, "t5"))
    with pytest.raises(UserError, match="has 10 sentinels already: leave out --add_sentinels"):
        with_extra_ids(base, ExtraIds(sentinels=100))
    assert with_extra_ids(base, ExtraIds(modes=True)).info.special["sentinels"] == base.info.special["sentinels"]


def test_sentinels_of_a_t5_folder_stand_behind_its_pieces(tmp_path):
    """As transformers' T5Tokenizer has it: sentinel 0 is the highest id."""
    base = small_sentencepiece()
    (tmp_path / "spiece.model").write_bytes(base.model)
    (tmp_path / "tokenizer_config.json").write_text('{"extra_ids": 7}')
    tokenizer = given_tokenizer(tmp_path)
    assert tokenizer.info.special["sentinels"] == [base.info.size + 6, 7]
    assert tokenizer.decode([*base.encode("a"), base.info.size + 50]) == base.decode([*base.encode("a"), 10**6]) == "a"
    (tmp_path / "saved").mkdir()
    tokenizer.save(tmp_path / "saved")
    assert read_tokenizer(tokenizer.info, tmp_path / "saved", "export").info == tokenizer.info
