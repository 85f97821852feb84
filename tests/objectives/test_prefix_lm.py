"""Prefix features by hand, and that both architectures are scored on the same tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triarch.errors import UserError
from triarch.objectives import PrefixLM, SpecialTokens

SPECIAL = SpecialTokens(pad=0, bos=1, eos=2, mask=None)
WINDOW = {"tokens": np.array([11, 12, 13, 14, 15, 16], np.int32)}


def features(objective, architecture, window=WINDOW):
    return objective.transform(architecture, SPECIAL, 100)(window, None)


def assert_features(actual, wanted):
    assert actual.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)
        assert actual[name].dtype == (np.float32 if name.endswith("weights") else np.int32), name


def test_an_encoder_decoder_reads_the_first_half_and_predicts_the_second():
    assert_features(
        features(PrefixLM(), "encoder-decoder"),
        {
            "encoder_input_tokens": [11, 12, 13],
            "encoder_segment_ids": [1, 1, 1],
            "decoder_input_tokens": [1, 14, 15],
            "decoder_target_tokens": [14, 15, 16],
            "decoder_loss_weights": [1, 1, 1],
        },
    )


def test_a_decoder_reads_all_and_is_scored_on_the_second_half():
    wanted = {
        "decoder_input_tokens": [1, 11, 12, 13, 14, 15],
        "decoder_target_tokens": [11, 12, 13, 14, 15, 16],
        "decoder_loss_weights": [0, 0, 0, 1, 1, 1],
    }
    assert_features(features(PrefixLM(), "decoder-only"), wanted)
    both_ways = PrefixLM(bidirectional_prefix=True)
    assert_features(features(both_ways, "decoder-only"), wanted | {"decoder_causal_attention": [1, 1, 1, 1, 0, 0]})


def test_redllm_reads_1024_and_predicts_1024():
    assert PrefixLM().lengths("encoder-decoder", 2048) == {"encoder": 1024, "decoder": 1024}
    assert PrefixLM().lengths("decoder-only", 2048) == {"decoder": 2048}
    assert PrefixLM().num_scored("decoder-only", 2048) == PrefixLM().num_scored("encoder-decoder", 2048) == 1024


@given(st.integers(2, 40), st.floats(0.05, 0.95))
def test_both_architectures_are_scored_on_the_same_tokens(window, fraction):
    objective = PrefixLM(prefix_fraction=fraction)
    if not 0 < round(fraction * window) < window:
        with pytest.raises(UserError, match=r"^PrefixLM\.prefix_fraction = .* leaves one side of \d+ tokens empty$"):
            objective.lengths("encoder-decoder", window)
        return
    tokens = np.arange(3, 3 + window, dtype=np.int32)
    two = features(objective, "encoder-decoder", {"tokens": tokens})
    one = features(objective, "decoder-only", {"tokens": tokens})
    np.testing.assert_array_equal(np.concatenate([two["encoder_input_tokens"], two["decoder_target_tokens"]]), tokens)
    scored = one["decoder_target_tokens"][one["decoder_loss_weights"] > 0]
    np.testing.assert_array_equal(scored, two["decoder_target_tokens"])
    assert len(scored) == objective.num_scored("decoder-only", window)
    lengths = objective.lengths("encoder-decoder", window)
    assert (len(two["encoder_input_tokens"]), len(two["decoder_input_tokens"])) == tuple(lengths.values())


def test_an_encoder_is_refused_in_one_line():
    with pytest.raises(UserError, match="prefix_lm trains encoder-decoder or decoder-only models, not encoder-only"):
        PrefixLM().transform("encoder-only", SPECIAL, 100)
