"""Dense attention against loops over tokens and heads in float64."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from triarch.models.kernels import dense_attention


def by_hand(query, key, value, allowed):
    batch, targets, heads, width = query.shape
    groups = heads // key.shape[2]
    output = np.zeros(query.shape)
    for b in range(batch):
        for head in range(heads):
            for t in range(targets):
                seen = [s for s in range(key.shape[1]) if allowed[b, 0, t, s]]
                heat = [math.exp(query[b, t, head] @ key[b, s, head // groups] / math.sqrt(width)) for s in seen]
                for h, s in zip(heat, seen, strict=True):
                    output[b, t, head] += h / sum(heat) * value[b, s, head // groups]
    return output


def example(heads=4, kv_heads=2, seed=0):
    rng = np.random.default_rng(seed)
    query = rng.normal(size=(2, 5, heads, 6)).astype(np.float32)
    key, value = rng.normal(size=(2, 2, 7, kv_heads, 6)).astype(np.float32)
    allowed = rng.random((2, 1, 5, 7)) < 0.5
    allowed[..., 3] = True
    return query, key, value, allowed


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (3, 1)])
def test_equals_loops(heads, kv_heads):
    query, key, value, allowed = example(heads, kv_heads)
    wanted = by_hand(*(x.astype(np.float64) for x in (query, key, value)), allowed)
    np.testing.assert_allclose(dense_attention(query, key, value, jnp.asarray(allowed)), wanted, atol=2e-6)


def test_no_mask_means_everything_is_seen():
    query, key, value, allowed = example()
    wanted = dense_attention(query, key, value, jnp.ones_like(allowed))
    np.testing.assert_array_equal(dense_attention(query, key, value, None), wanted)


def test_what_sees_nothing_is_zero():
    """So that nothing leaks into a document whose encoder side is empty, and gradients stay finite."""
    query, key, value, allowed = example()
    allowed[0, 0, 2] = False
    allowed[1] = False
    wanted = by_hand(*(x.astype(np.float64) for x in (query, key, value)), allowed)
    np.testing.assert_allclose(dense_attention(query, key, value, jnp.asarray(allowed)), wanted, atol=2e-6)


def test_bfloat16_stays_close():
    query, key, value, allowed = example()
    narrow = [jnp.asarray(x, jnp.bfloat16) for x in (query, key, value)]
    output = dense_attention(*narrow, jnp.asarray(allowed))
    assert output.dtype == jnp.bfloat16
    np.testing.assert_allclose(output.astype(np.float32), by_hand(query, key, value, allowed), atol=3e-2)
