"""Norms against their formulas in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.tiny import ETTIN_ENCODER, REDLLM
from triarch.models.norms import Norm, layer_norm, rms_norm


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
