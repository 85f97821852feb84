"""Masked features: counts exactly, shares by binomial tests with a fixed seed, and purity."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import binomtest, chisquare

from tests.tokenizers.huggingface import write_folder
from triarch.errors import UserError
from triarch.objectives import MaskedLM, Mixture, SpecialTokens
from triarch.objectives.base import require_layout
from triarch.prepare.corpora.files import Files
from triarch.prepare.layouts import FirstFit
from triarch.prepare.pipeline import VocabularyChoice, prepare

SPECIAL = SpecialTokens(pad=0, bos=1, eos=2, mask=3)
VOCAB = 50
WINDOW = 40


def draws(objective, window=64, count=400, token=None):
    """Features of many windows; each draw has a generator of its own."""
    transform = objective.transform("encoder-only", SPECIAL, VOCAB, window)
    tokens = np.random.default_rng(99).integers(4, VOCAB, (count, window), dtype=np.int32)
    if token is not None:
        tokens[...] = token
    rows = [transform({"tokens": row}, np.random.default_rng(seed)) for seed, row in enumerate(tokens)]
    return tokens, {name: np.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize(("rate", "window", "chosen"), [(0.3, 1024, 307), (0.15, 64, 10), (0.3, 5, 2)])
def test_exactly_the_rate_is_chosen_and_only_that_is_scored(rate, window, chosen):
    tokens, features = draws(MaskedLM(rate=rate), window, count=20)
    weights = features["encoder_loss_weights"]
    assert weights.dtype == np.float32 and set(np.unique(weights)) == {0.0, 1.0}
    assert (weights.sum(1) == chosen).all()
    assert MaskedLM(rate=rate).num_scored("encoder-only", window) == chosen
    np.testing.assert_array_equal(features["encoder_target_tokens"], tokens)
    np.testing.assert_array_equal(features["encoder_input_tokens"][weights == 0], tokens[weights == 0])
    assert (features["encoder_segment_ids"] == 1).all()
    assert features["encoder_input_tokens"].dtype == np.int32


def test_of_the_chosen_80_percent_are_masked_10_random_and_10_kept():
    _, features = draws(MaskedLM(), token=7)
    inputs = features["encoder_input_tokens"][features["encoder_loss_weights"] == 1]
    number = inputs.size
    # A random token is the mask or the token itself once in VOCAB each.
    masked, kept = int((inputs == 3).sum()), int((inputs == 7).sum())
    shares = {"masked": (masked, 0.8 + 0.1 / VOCAB), "kept": (kept, 0.1 + 0.1 / VOCAB)}
    for name, (count, share) in shares.items():
        assert binomtest(count, number, share).pvalue > 1e-3, name
    noise = np.bincount(inputs, minlength=VOCAB)
    others = np.delete(noise, [3, 7])
    assert binomtest(int(others.sum()), number, 0.1 * 48 / VOCAB).pvalue > 1e-3
    assert chisquare(others).pvalue > 1e-3
    assert len(others) == 48 and others.min() > 0


def test_every_position_is_chosen_equally_often():
    _, features = draws(MaskedLM(rate=0.25), count=2000)
    assert chisquare(features["encoder_loss_weights"].sum(0)).pvalue > 1e-3


def test_shares_are_options():
    tokens, features = draws(MaskedLM(mask_share=0.0, random_share=0.0), count=5)
    np.testing.assert_array_equal(features["encoder_input_tokens"], tokens)
    _, features = draws(MaskedLM(mask_share=1.0, random_share=0.0), count=5)
    assert (features["encoder_input_tokens"][features["encoder_loss_weights"] == 1] == 3).all()


def test_features_are_a_pure_function_of_the_generator():
    transform = MaskedLM().transform("encoder-only", SPECIAL, VOCAB, WINDOW)
    window = {"tokens": np.arange(4, 44, dtype=np.int32)}
    before = window["tokens"].copy()
    one, two, other = (transform(window, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(window["tokens"], before)
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name])
    assert (one["encoder_loss_weights"] != other["encoder_loss_weights"]).any()


def test_special_tokens_are_never_chosen():
    """As BERT's create_pretraining_data.py and Hugging Face's collator: neither padding nor start, end or mask."""
    rng = np.random.default_rng(0)
    transform = MaskedLM(rate=0.5).transform("encoder-only", SPECIAL, VOCAB, WINDOW)
    for seed in range(200):
        count = int(rng.integers(1, WINDOW + 1))
        tokens = np.where(np.arange(WINDOW) < count, rng.integers(1, 8, WINDOW), 0).astype(np.int32)
        example = {"tokens": tokens, "segment_ids": (np.arange(WINDOW) < count).astype(np.int32)}
        features = transform(example, np.random.default_rng(seed))
        chosen = features["encoder_loss_weights"] > 0
        assert not np.isin(tokens[chosen], [0, 1, 2, 3]).any()
        assert chosen.sum() == max(round(0.5 * (tokens > 3).sum()), min(1, (tokens > 3).sum()))
        assert (features["encoder_segment_ids"] == (np.arange(WINDOW) < count)).all()
        np.testing.assert_array_equal(features["encoder_input_tokens"][~chosen], tokens[~chosen])


def test_what_makes_no_sense_is_refused_in_one_line():
    with pytest.raises(UserError, match="masked_lm trains encoder-only models, not decoder-only ones"):
        MaskedLM().transform("decoder-only", SPECIAL, VOCAB, WINDOW)
    with pytest.raises(UserError, match="MaskedLM needs a mask token, and the store's vocabulary has none"):
        MaskedLM().transform("encoder-only", dataclasses.replace(SPECIAL, mask=None), VOCAB, WINDOW)
    with pytest.raises(UserError, match=r"MaskedLM\.rate = 0\.01 chooses 0 of 10 tokens"):
        MaskedLM(rate=0.01).num_scored("encoder-only", 10)
    with pytest.raises(UserError, match=r"MaskedLM\.rate = 1\.0 chooses 10 of 10 tokens"):
        MaskedLM(rate=1.0).num_scored("encoder-only", 10)


FRAMED = MaskedLM(rate=0.5, add_special_tokens=True)
# All of letters that the vocabulary has: an unknown token is a special one for transformers, and text here.
TEXTS = [
    "letters and words",
    "a b c d",
    "rest in the sun and on the land near the tide",
    "a",
    "x u f c d e",
    "nouns and letters",
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A BERT tokenizer's folder, and transformers' own account of it."""
    transformers = pytest.importorskip("transformers")
    special = dict(cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", mask_token="[MASK]", unk_token="[UNK]")
    folder = write_folder(tmp_path_factory.mktemp("bert"), "bert", tokenizer_config=special)
    file = str(folder / "tokenizer.json")
    return folder, transformers.PreTrainedTokenizerFast(tokenizer_file=file, **special)


@pytest.fixture
def lines(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("\n".join(TEXTS) + "\n")
    return Files.matching([str(file)], unit="line")


@pytest.mark.parametrize("layout", ["packed", "windows"])
def test_rows_between_cls_and_sep_are_what_transformers_makes_of_the_texts(bert, lines, layout, tmp_path):
    folder, tokenizer = bert
    choice = VocabularyChoice(str(folder))
    gap = 1 if layout == "packed" else 0
    store = prepare(
        lines, "x", tmp_path / "store", choice, 30, validation_fraction=0, workers=1, layout=layout, gap=gap
    )
    special = SpecialTokens.from_manifest(store.manifest.vocabulary.special)
    vocab_size = store.manifest.vocabulary.size
    assert FRAMED.lengths("encoder-only", 30) == {"encoder": 32}
    transform = FRAMED.transform("encoder-only", special, vocab_size, 30)
    split = store.split("train")
    rows = [transform(split[index], np.random.default_rng(index)) for index in range(len(split))]
    assert len(rows) > 1
    found = []
    for row in rows:
        tokens, segments = row["encoder_target_tokens"], row["encoder_segment_ids"]
        assert len(tokens) == 32 and (tokens[segments == 0] == tokenizer.pad_token_id).all()
        special_places = tokenizer.get_special_tokens_mask(tokens.tolist(), already_has_special_tokens=True)
        kept = np.array(special_places, bool)
        assert not row["encoder_loss_weights"][kept].any()
        np.testing.assert_array_equal(row["encoder_input_tokens"][kept], tokens[kept])
        assert row["encoder_loss_weights"].sum() == round(0.5 * (~kept).sum())
        if layout == "packed":
            for number in range(1, segments.max() + 1):
                found.append(tokens[segments == number].tolist())
                positions = row["encoder_positions"][segments == number].tolist()
                assert positions == list(range(len(found[-1])))
        else:
            found.append(tokens[segments > 0].tolist())
    if layout == "packed":
        assert sorted(found) == sorted(tokenizer(TEXTS)["input_ids"])
    else:  # A window is one text, which may cut documents: [CLS] and [SEP] stand around it.
        ids = [index for one in TEXTS for index in tokenizer(one)["input_ids"][1:]]
        windows = [ids[start : start + 30] for start in range(0, len(ids) - 29, 30)]
        sep = tokenizer.sep_token_id
        assert found == [[tokenizer.cls_token_id, *one] + [sep] * (one[-1] != sep) for one in windows]


def test_long_documents_in_pieces_stand_between_start_and_end_too():
    layout = FirstFit([10], SPECIAL.pad, gap=1)
    transform = FRAMED.transform("encoder-only", SPECIAL, VOCAB, 10)
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 26, 60)
    documents = [np.append(rng.integers(4, VOCAB, length), SPECIAL.eos) for length in lengths]
    made = [layout.add(one, np.array([len(one)])) for one in documents] + [layout.finish()]
    pieces = []
    for examples in made:
        for tokens, segments in zip(examples.tokens, examples.segment_ids, strict=True):
            row = transform({"tokens": tokens, "segment_ids": segments}, np.random.default_rng(0))
            for number in range(1, segments.max() + 1):
                piece = row["encoder_target_tokens"][row["encoder_segment_ids"] == number].tolist()
                assert piece[0] == SPECIAL.bos and piece[-1] == SPECIAL.eos
                pieces.append(piece[1:-1])
    expected = [one[start : start + 10].tolist() for one in documents for start in range(0, len(one), 10)]
    assert sorted(pieces) == sorted(one[:-1] if one[-1] == SPECIAL.eos else one for one in expected)


def test_rows_without_room_for_start_tokens_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"stores/a: its rows have no room for .*: prepare it with --gap=1"):
        require_layout(FRAMED, "packed", "stores/a")
    with pytest.raises(UserError, match="no room"):
        require_layout(Mixture((MaskedLM(), FRAMED), (1, 1)), "packed", "stores/a", None, 0)
    require_layout(FRAMED, "packed", "stores/a", None, 1)
    require_layout(FRAMED, "windows", "stores/a")
    full = {"tokens": np.full(WINDOW, 9, np.int32), "segment_ids": np.arange(1, WINDOW + 1, dtype=np.int32)}
    with pytest.raises(UserError, match="a row of 40 documents has no room"):
        FRAMED.transform("encoder-only", SPECIAL, VOCAB, WINDOW)(full, np.random.default_rng(0))
    with pytest.raises(UserError, match=r"add_special_tokens needs a start token such as \[CLS\]"):
        FRAMED.transform("encoder-only", dataclasses.replace(SPECIAL, bos=0), VOCAB, WINDOW)
