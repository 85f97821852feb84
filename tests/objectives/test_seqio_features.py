"""Features equal those of SeqIO's own feature converters. Imports TensorFlow, which the objectives never do."""

import numpy as np
import pytest

from triarch.objectives import CausalLM, PrefixLM, SpecialTokens

seqio = pytest.importorskip("seqio")
tf = pytest.importorskip("tensorflow")

# SeqIO starts every decoder with id 0.
SPECIAL = SpecialTokens(pad=0, bos=0, eos=1, mask=None)
TOKENS = np.array([5, 9, 1, 7, 7, 3, 8, 2], np.int32)


def converted(converter, features, lengths):
    dataset = tf.data.Dataset.from_tensors({name: tf.constant(value) for name, value in features.items()})
    return next(converter(dataset, lengths).as_numpy_iterator())


def assert_same(actual, wanted):
    for name, value in wanted.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


def test_causal_features_are_those_of_the_lm_converter():
    wanted = converted(seqio.LMFeatureConverter(pack=False), {"targets": TOKENS}, {"targets": 8})
    actual = CausalLM().transform("decoder-only", SPECIAL, 10)({"tokens": TOKENS}, None)
    assert wanted.keys() == actual.keys()
    assert_same(actual, wanted)


@pytest.mark.parametrize("fraction", [0.5, 0.25])
def test_two_sided_features_are_those_of_the_encoder_decoder_converter(fraction):
    objective = PrefixLM(prefix_fraction=fraction)
    lengths = objective.lengths("encoder-decoder", 8)
    split = {"inputs": TOKENS[: lengths["encoder"]], "targets": TOKENS[lengths["encoder"] :]}
    wanted = converted(
        seqio.EncDecFeatureConverter(pack=False),
        split,
        {"inputs": lengths["encoder"], "targets": lengths["decoder"]},
    )
    actual = objective.transform("encoder-decoder", SPECIAL, 10)({"tokens": TOKENS}, None)
    assert wanted.keys() == actual.keys() - {"encoder_segment_ids"}
    assert_same(actual, wanted)


def test_one_sided_features_are_those_of_the_prefix_converter():
    objective = PrefixLM(bidirectional_prefix=True)
    wanted = converted(
        seqio.PrefixLMFeatureConverter(pack=False),
        {"inputs": TOKENS[:4], "targets": TOKENS[4:]},
        {"inputs": 4, "targets": 4},
    )
    actual = objective.transform("decoder-only", SPECIAL, 10)({"tokens": TOKENS}, None)
    assert wanted.keys() == actual.keys()
    assert_same(actual, wanted)
