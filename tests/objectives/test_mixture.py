"""Choice by weight, one shape for all, and the mixtures of UL2 and T5Gemma 2."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triarch.data.batches import Batches
from triarch.data.streams import Epochs
from triarch.errors import UserError
from triarch.objectives import (
    MNTP,
    T5GEMMA2,
    UL2,
    CausalLM,
    MaskedLM,
    Mixture,
    PrefixLM,
    SpanCorruption,
    SpecialTokens,
    objective_from,
)
from triarch.training.record.config_classes import to_plain

VOCAB = 2000
MODES = {"R": 1000, "S": 1001, "X": 1002}
SPECIAL = SpecialTokens(pad=0, bos=1, eos=2, mask=3, sentinels=tuple(range(1999, 1002, -1)), modes=MODES)
WINDOW = 256


class Windows:
    """Random text at random access."""

    def __len__(self):
        return 1000

    def __getitem__(self, index):
        return {"tokens": np.random.default_rng(index).integers(10, 900, WINDOW, dtype=np.int32)}


def test_weights_are_met_within_1_percent_over_10000_examples():
    weights = {3.0: 1.0, 8.0: 0.0, 20.0: 4.0, 5.0: 2.5}
    mixture = Mixture(tuple(SpanCorruption(0.25, mean) for mean in weights), tuple(weights.values()))
    transform = mixture.transform("encoder-decoder", SPECIAL, VOCAB, WINDOW)
    batches = Batches(Epochs(Windows(), transform, seed=3), batch_size=100)
    # The spans in an example say under which objective it is.
    spans = {SpanCorruption(0.25, mean).counts(WINDOW).spans: mean for mean in weights}
    drawn = dict.fromkeys(weights, 0)
    for step in range(100):
        for inputs in batches.batch(step)["encoder_input_tokens"]:
            drawn[spans[int((inputs >= 1003).sum())]] += 1
    assert sum(drawn.values()) == 10_000
    for mean, weight in weights.items():
        assert abs(drawn[mean] / 10_000 - weight / 7.5) < 0.01


def test_ul2_is_its_seven_denoisers_equally_often():
    """Table 1 of arXiv 2205.05131, and mode tokens before the inputs."""
    table = [(p.noise_density, p.mean_noise_span_length, p.mode) for p in UL2.objectives if p.name == "span_corruption"]
    assert sorted(table) == [
        *((0.15, 3.0, "R"), (0.15, 8.0, "R"), (0.15, 64.0, "X")),
        *((0.5, 3.0, "X"), (0.5, 8.0, "X"), (0.5, 64.0, "X")),
    ]
    (prefix,) = (part for part in UL2.objectives if part.name == "prefix_lm")
    assert (prefix.prefix_fraction, prefix.split, prefix.mode) == (0.75, "fixed", "S")
    transform = UL2.transform("encoder-decoder", SPECIAL, VOCAB, WINDOW)
    firsts = np.array(
        [transform(Windows()[0], np.random.default_rng(seed))["encoder_input_tokens"][0] for seed in range(7000)]
    )
    for mode, denoisers in (("R", 2), ("S", 1), ("X", 4)):
        assert abs((firsts == MODES[mode]).mean() - denoisers / 7) < 0.01


def test_t5gemma2_is_a_prefix_language_model_half_of_the_time():
    """arXiv 2512.14856: (mean span, rate) (3, .15), (12, .5), (32, .15), (32, .5) and 3/4 of the window, 1:1:1:1:4."""
    *spans, prefix = T5GEMMA2.objectives
    assert [(p.mean_noise_span_length, p.noise_density) for p in spans] == [(3, 0.15), (12, 0.5), (32, 0.15), (32, 0.5)]
    assert T5GEMMA2.weights == (1, 1, 1, 1, 4)
    assert not any(part.mode for part in T5GEMMA2.objectives)
    transform = Mixture((prefix,), (1,)).transform("encoder-decoder", SPECIAL, VOCAB, WINDOW)
    features = transform(Windows()[0], np.random.default_rng(0))
    # 192 of 256 tokens to predict, and the end-of-document token.
    assert features["decoder_loss_weights"].sum() == 193 and features["encoder_segment_ids"].sum() == 65


ARCHITECTURES = {
    "encoder-decoder": (UL2, T5GEMMA2, Mixture((PrefixLM(), PrefixLM(split="uniform")), (1, 1))),
    "decoder-only": (
        *(UL2, T5GEMMA2),
        Mixture((CausalLM(), PrefixLM(0.25, bidirectional_prefix=True), SpanCorruption(), MNTP()), (1, 1, 1, 1)),
        Mixture((Mixture((CausalLM(), PrefixLM()), (1, 2)), SpanCorruption(bidirectional_prefix=True)), (1, 1)),
    ),
    "encoder-only": (Mixture((MaskedLM(), MNTP()), (1, 1)),),
}
CASES = [(architecture, mixture) for architecture, mixtures in ARCHITECTURES.items() for mixture in mixtures]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(CASES), st.integers(60, 300), st.integers(0, 2**32))
def test_all_features_have_one_shape_and_are_pure(case, window, seed):
    architecture, mixture = case
    lengths = mixture.lengths(architecture, window)
    transform = mixture.transform(architecture, SPECIAL, VOCAB, window)
    tokens = np.random.default_rng(seed).integers(10, 900, window, dtype=np.int32)
    shapes = set()
    for each in range(10):
        features = transform({"tokens": tokens}, np.random.default_rng([seed, each]))
        again = transform({"tokens": tokens}, np.random.default_rng([seed, each]))
        for name, value in features.items():
            np.testing.assert_array_equal(value, again[name])
            assert len(value) == lengths[name.partition("_")[0]]
        shapes.add(tuple((name, value.dtype) for name, value in sorted(features.items())))
        (weights,) = (value for name, value in features.items() if name.endswith("weights"))
        assert 0 < (weights > 0).sum() <= mixture.num_scored(architecture, window)
        assert weights.dtype == np.float32 and set(np.unique(weights)) <= {0, 1}
    assert len(shapes) == 1


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["encoder-decoder", "decoder-only"]), st.integers(60, 300), st.integers(0, 2**32))
def test_a_mixtures_pairs_are_what_its_features_hold(architecture, window, seed):
    tokens = np.random.default_rng(seed).integers(10, 900, window, dtype=np.int32)
    inputs, targets = UL2.pair(SPECIAL, window)(tokens, np.random.default_rng(seed))
    transform = UL2.transform(architecture, SPECIAL, VOCAB, window)
    features = transform({"tokens": tokens}, np.random.default_rng(seed))
    scored = features["decoder_loss_weights"] > 0
    np.testing.assert_array_equal(features["decoder_target_tokens"][scored], targets)
    if architecture == "encoder-decoder":
        read = features["encoder_input_tokens"][features["encoder_segment_ids"] > 0]
    else:
        read = features["decoder_target_tokens"][: scored.argmax()]
    np.testing.assert_array_equal(read, inputs)


def test_padded_texts_have_one_set_of_features_too():
    mixture = Mixture((CausalLM(), PrefixLM(), SpanCorruption(bidirectional_prefix=True)), (1, 1, 1))
    transform = mixture.transform("decoder-only", SPECIAL, VOCAB, 30)
    there = np.arange(30) < 20
    example = {"tokens": np.where(there, 11, 0), "segment_ids": there.astype(np.int32)}
    rows = [transform(example, np.random.default_rng(seed)) for seed in range(20)]
    assert len({tuple((name, value.shape) for name, value in row.items()) for row in rows}) == 1
    assert {int(row["decoder_segment_ids"].sum()) for row in rows} == {20, 24}


def test_packed_documents_under_several_objectives():
    mixture = Mixture((CausalLM(), PrefixLM(bidirectional_prefix=True), MNTP(0.5)), (1, 1, 1))
    assert (mixture.layouts, UL2.layouts) == (("windows", "packed"), ("windows",))
    transform = mixture.transform("decoder-only", SPECIAL, VOCAB, 8)
    example = {"tokens": np.arange(11, 19), "segment_ids": np.array([1, 1, 1, 1, 2, 2, 2, 0])}
    rows = [transform(example, np.random.default_rng(seed)) for seed in range(20)]
    assert len({tuple((name, value.shape) for name, value in row.items()) for row in rows}) == 1
    assert {tuple(row["decoder_segment_ids"].tolist()) for row in rows} == {(1, 1, 1, 1, 2, 2, 2, 0)}
    # Causal, prefix of each document, both ways everywhere.
    assert {int(row["decoder_causal_attention"].sum()) for row in rows} == {0, 6, 7}


def test_what_an_objective_lacks_is_filled():
    mixture = Mixture((CausalLM(), PrefixLM(bidirectional_prefix=True, append_eos=True)), (1, 0.001))
    transform = mixture.transform("decoder-only", SPECIAL, VOCAB, 4)
    features = transform({"tokens": np.array([11, 12, 13, 14], np.int32)}, np.random.default_rng(0))
    wanted = {
        "decoder_causal_attention": [0, 0, 0, 0, 0, 0],
        "decoder_input_tokens": [1, 11, 12, 13, 0, 0],
        "decoder_loss_weights": [1, 1, 1, 1, 0, 0],
        "decoder_target_tokens": [11, 12, 13, 14, 0, 0],
    }
    assert {name: value.tolist() for name, value in features.items()} == wanted


@pytest.mark.parametrize(
    ("mixture", "architecture", "message"),
    [
        (Mixture((CausalLM(),), (1.0, 2.0)), "decoder-only", "Mixture: 2 weights for 1 objectives"),
        (
            Mixture((CausalLM(), PrefixLM()), (1.0, -2.0)),
            "decoder-only",
            r"weights = \(1\.0, -2\.0\): expected none neg",
        ),
        (Mixture((CausalLM(),), (0.0,)), "decoder-only", r"weights = \(0\.0,\): expected none negative, and not all 0"),
        (Mixture((CausalLM(),), (float("nan"),)), "decoder-only", "expected none negative"),
        (Mixture((), ()), "decoder-only", "expected none negative, and not all 0"),
        (Mixture((CausalLM(), PrefixLM()), (1.0, 1.0)), "encoder-decoder", "objective causal_lm trains decoder-only"),
        (UL2, "encoder-only", "objective span_corruption trains encoder-decoder or decoder-only models, not encoder"),
    ],
)
def test_mistakes_are_one_line(mixture, architecture, message):
    for ask in (mixture.lengths, lambda a, w: mixture.transform(a, SPECIAL, VOCAB, w)):
        with pytest.raises(UserError, match=message) as caught:
            ask(architecture, WINDOW)
        assert "\n" not in str(caught.value)


def test_an_objective_of_weight_0_is_left_out():
    mixture = Mixture((PrefixLM(), SpanCorruption()), (1.0, 0.0))
    assert mixture.lengths("decoder-only", 64) == {"decoder": 64}
    mixture.transform("decoder-only", dataclasses.replace(SPECIAL, sentinels=()), VOCAB, 64)


def test_mixtures_without_pairs_say_so():
    with pytest.raises(UserError, match="objective causal_lm has no inputs and targets"):
        Mixture((PrefixLM(), CausalLM()), (1.0, 1.0)).pair(SPECIAL, 64)


@pytest.mark.parametrize("objective", [UL2, T5GEMMA2, CausalLM(), MNTP(rate=0.2), *(m for _, m in CASES)])
def test_a_runs_record_gives_the_objective_back(objective):
    assert objective_from(to_plain(objective), "run") == objective


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"class": "SpanCorruptoin"}, r"run: no objective 'SpanCorruptoin' \(did you mean 'SpanCorruption'\?\)"),
        ({"class": "MNTP", "rte": 1}, "run: objective MNTP: .*'rte'"),
        ({"class": "Mixture", "objectives": [{"class": "X"}], "weights": [1]}, "run: no objective 'X'"),
    ],
)
def test_a_damaged_record_is_one_line(fields, message):
    with pytest.raises(UserError, match=message):
        objective_from(fields, "run")
