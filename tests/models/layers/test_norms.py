"""Norms against their formulas in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.tiny import DECLLM, ETTIN_ENCODER, REDLLM
from triarch.models.layers.norms import Norm, layer_norm, rms_norm


def wanted(function, x, eps):
    x = np.asarray(x, np.float64)
    x = x - x.mean(-1, keepdims=True) if function is layer_norm else x
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)


@pytest.mark.parametrize("function", [rms_norm, layer_norm])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (jnp.bfloat16, 1e-2)])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_equals_the_formula(function, dtype, tolerance, size):
    x = jnp.asarray(size * (np.random.default_rng(0).normal(size=(3, 4, 50)) + 0.5), dtype)
    result = function(x, 1e-6)
    assert result.dtype == dtype
    np.testing.assert_allclose(
        np.asarray(result, np.float64), wanted(function, x, 1e-6), rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("function", [rms_norm, layer_norm])
def test_zero_stays_zero_with_a_finite_gradient(function):
    value, gradient = jax.value_and_grad(lambda x: function(x, 1e-6).sum())(jnp.zeros(8))
    assert value == 0 and np.isfinite(gradient).all()


def test_the_gain_is_there_only_where_the_config_says():
    assert Norm(REDLLM).scale is None
    norm = Norm(ETTIN_ENCODER)
    x = np.random.default_rng(0).normal(size=(2, 12)).astype(np.float32)
    np.testing.assert_allclose(norm(x), wanted(layer_norm, x, 1e-5), atol=1e-6)
    norm.scale[...] = jnp.arange(12.0)
    np.testing.assert_allclose(norm(x), np.arange(12) * wanted(layer_norm, x, 1e-5), atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gemma", "layernorm"])
def test_bfloat16_is_rounded_where_the_family_rounds_it(kind):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.models.t5gemma.modeling_t5gemma import T5GemmaRMSNorm

    rng = np.random.default_rng(0)
    x, gain, bias = (rng.normal(size=shape).astype(jnp.bfloat16) for shape in ((64, 256), (256,), (256,)))
    as_torch = {
        name: torch.tensor(np.float32(value)).bfloat16() for name, value in {"weight": gain, "bias": bias}.items()
    }
    make, options = {
        "llama": (LlamaRMSNorm, {}),
        "gemma": (T5GemmaRMSNorm, {"norm_scale": "one_plus_gain"}),
        "layernorm": (torch.nn.LayerNorm, {"norm": "layernorm", "norm_bias": True}),
    }[kind]
    theirs = make(256, eps=1e-6).bfloat16()
    options = {"norm_scale": "gain", **options}
    ours = Norm(dataclasses.replace(DECLLM, d_model=256, norm_eps=1e-6, **options))
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.copy_(as_torch[name])
        wanted_values = theirs(torch.tensor(np.float32(x)).bfloat16()).float().numpy()
    ours.scale[...] = jnp.asarray(np.float32(gain))
    if ours.bias is not None:
        ours.bias[...] = jnp.asarray(np.float32(bias))
    result = np.float32(ours(jnp.asarray(x)))
    # A sum in another order may tip a value that lies halfway between two; another order of roundings tips a sixth.
    assert np.mean(result != wanted_values) < 1e-3
    np.testing.assert_allclose(result, wanted_values, rtol=2**-7, atol=2**-9)
