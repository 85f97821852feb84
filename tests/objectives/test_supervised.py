"""Given inputs and targets: features as SeqIO's converters make them."""

import numpy as np
import pytest

from triarch.errors import UserError
from triarch.objectives import CausalLM, Mixture, SpecialTokens, Supervised

seqio = pytest.importorskip("seqio")
tf = pytest.importorskip("tensorflow")

SPECIAL = SpecialTokens(pad=0, bos=0, eos=1, mask=None)
EXAMPLES = [([7, 8, 5, 1], [3, 9, 1]), ([4, 1], [6, 6, 6, 1]), ([9, 8, 7, 6, 5, 1], [2, 1])]
OBJECTIVE = Supervised(inputs_length=6, targets_length=4)


def features(objective, architecture, pair):
    example = {name: np.array(tokens, np.int32) for name, tokens in zip(("inputs", "targets"), pair, strict=True)}
    return objective.transform(architecture, SPECIAL, 10, 10)(example, None)


def converted(converter, pair):
    dataset = tf.data.Dataset.from_tensors({"inputs": tf.constant(pair[0]), "targets": tf.constant(pair[1])})
    return next(converter(dataset, {"inputs": 6, "targets": 4}).as_numpy_iterator())


@pytest.mark.parametrize("pair", EXAMPLES)
def test_features_are_those_of_seqios_converters(pair):
    two = features(OBJECTIVE, "encoder-decoder", pair)
    wanted = converted(seqio.EncDecFeatureConverter(pack=False), pair)
    assert wanted.keys() == two.keys() - {"encoder_segment_ids"}
    one = features(Supervised(6, 4, bidirectional_prefix=True), "decoder-only", pair)
    wanted_one = converted(seqio.PrefixLMFeatureConverter(pack=False), pair)
    assert wanted_one.keys() == one.keys()
    for actual, expected in ((two, wanted), (one, wanted_one)):
        for name, value in expected.items():
            np.testing.assert_array_equal(actual[name], value, err_msg=name)
    assert "decoder_causal_attention" not in features(OBJECTIVE, "decoder-only", pair)


def test_lengths_are_those_of_the_paper():
    assert Supervised().lengths("encoder-decoder", 2560) == {"encoder": 2048, "decoder": 512}
    assert Supervised().lengths("decoder-only", 2560) == {"decoder": 2560}
    assert Supervised().num_scored("decoder-only", 2560) == 512


def test_a_mixture_of_ways_to_see_the_inputs():
    mixture = Mixture((OBJECTIVE, Supervised(6, 4, bidirectional_prefix=True)), (1.0, 1.0))
    assert mixture.layouts == ("pairs", "packed_pairs") and Mixture((OBJECTIVE, CausalLM()), (1, 1)).layouts == ()
    transform = mixture.transform("decoder-only", SPECIAL, 10, 10)
    example = {"inputs": np.array([4, 1]), "targets": np.array([6, 1])}
    seen = {int(transform(example, np.random.default_rng(s))["decoder_causal_attention"].sum()) for s in range(20)}
    assert seen == {0, 3}


def test_mistakes_are_one_line():
    with pytest.raises(UserError, match="supervised trains encoder-decoder or decoder-only models, not encoder-only"):
        OBJECTIVE.lengths("encoder-only", 10)
    with pytest.raises(
        UserError, match=r"inputs_length = 6 and targets_length = 4: expected the lengths .*, 12 tokens"
    ):
        OBJECTIVE.transform("decoder-only", SPECIAL, 10, 12)
    with pytest.raises(UserError, match=r"Supervised\.targets_length = 4: an example has 5 tokens"):
        features(OBJECTIVE, "decoder-only", ([4, 1], [2, 3, 4, 5, 1]))
    transform = OBJECTIVE.transform("decoder-only", SPECIAL, 10, 10)
    with pytest.raises(UserError, match="needs inputs and targets: prepare the store with --layout=pairs"):
        transform({"tokens": np.ones(10, np.int32)}, None)
