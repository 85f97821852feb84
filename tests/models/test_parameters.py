"""Initial values: their spread, their bounds, and which spread goes where."""

import dataclasses
import math

import numpy as np
import pytest
from flax import nnx

from tests.models import tiny
from tests.models.tiny import ETTIN_DECODER, REDLLM
from triarch.models import parameters


def test_normal_has_the_asked_spread_and_is_cut():
    """Truncated at two standard deviations of the normal it is made from, which is wider by 1 / 0.8796."""
    value = np.asarray(parameters.normal(nnx.Rngs(params=0), (400, 500), 0.3, ("a", None))[...])
    assert value.dtype == np.float32
    np.testing.assert_allclose(value.std(), 0.3, rtol=0.01)
    np.testing.assert_allclose(np.abs(value).max(), 2 * 0.3 / 0.8796, rtol=0.01)
    assert abs(value.mean()) < 0.003


@pytest.mark.slow
@pytest.mark.parametrize("kernel_init", ["fan_in", "fixed"])
def test_each_kernel_has_its_spread(kernel_init):
    shape = {"d_model": 96, "d_ff": 256, "num_heads": 4, "head_dim": 32, "vocab_size": 512, "init_std": 0.05}
    base = REDLLM if kernel_init == "fan_in" else ETTIN_DECODER
    config = dataclasses.replace(base, **shape, kernel_init=kernel_init, num_decoder_layers=4)
    into = {"output": 128, "down": 256}
    for path, leaf in nnx.to_flat_state(tiny.fresh(config)[1]):
        name = path[-1]
        if name in ("scale", "logits_bias"):
            np.testing.assert_array_equal(leaf[...], 1.0 if name == "scale" else 0.0)
            continue
        if name == "table":
            wanted = 0.25 / math.sqrt(96)
        elif kernel_init == "fan_in":
            wanted = 1 / math.sqrt(into.get(name, 96))
        else:
            wanted = 0.05 / math.sqrt(2 * 4) if name in into else 0.05
        np.testing.assert_allclose(np.std(leaf[...]), wanted, rtol=0.03, err_msg=str(path))


@pytest.mark.slow
def test_layers_differ_and_seeds_repeat():
    def queries(seed):
        model = nnx.merge(*tiny.fresh(REDLLM, seed))
        return np.concatenate(
            [model.encoder.scanned[0].attention.query[...], model.decoder.scanned[0].attention.query[...]]
        )

    one = queries(0)
    np.testing.assert_array_equal(one, queries(0))
    assert np.abs(one - queries(1)).max() > 0.1
    assert all(np.abs(one[i] - one[j]).max() > 0.1 for i in range(5) for j in range(i))
