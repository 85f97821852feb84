"""Causal features by hand."""

import numpy as np
import pytest

from triarch.errors import UserError
from triarch.objectives import CausalLM, SpecialTokens

SPECIAL = SpecialTokens(pad=0, bos=1, eos=2, mask=None)


def test_the_input_is_the_target_one_step_later():
    features = CausalLM().transform("decoder-only", SPECIAL, 100)({"tokens": np.array([7, 8, 2, 9], np.int32)}, None)
    wanted = {
        "decoder_input_tokens": np.array([1, 7, 8, 2], np.int32),
        "decoder_target_tokens": np.array([7, 8, 2, 9], np.int32),
        "decoder_loss_weights": np.ones(4, np.float32),
    }
    assert features.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(features[name], value)
        assert features[name].dtype == value.dtype


def test_all_of_a_window_is_read_and_scored():
    assert CausalLM().lengths("decoder-only", 2048) == {"decoder": 2048}
    assert CausalLM().num_scored("decoder-only", 2048) == 2048


@pytest.mark.parametrize("architecture", ["encoder-only", "encoder-decoder"])
def test_other_architectures_are_refused_in_one_line(architecture):
    message = f"objective causal_lm trains decoder-only models, not {architecture} ones"
    with pytest.raises(UserError, match=message):
        CausalLM().transform(architecture, SPECIAL, 100)
    with pytest.raises(UserError, match=message):
        CausalLM().lengths(architecture, 8)
