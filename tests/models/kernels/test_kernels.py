"""Every attention kernel against loops over tokens and heads in float64, values and gradients."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.tiny import fast_jit
from triarch.models.attention.masks import Mask
from triarch.models.attention.relative_bias import RelativeBias
from triarch.models.attention.scores import Scores
from triarch.models.kernels.kernel import KERNELS, dense_attention

PLAIN = Scores(1 / math.sqrt(6))
LENGTH = 150  # three blocks of queries, the last one short


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


def example(targets=5, sources=7, heads=4, kv_heads=2, seed=0):
    rng = np.random.default_rng(seed)
    query = rng.normal(size=(2, targets, heads, 6)).astype(np.float32)
    key, value = rng.normal(size=(2, 2, sources, kv_heads, 6)).astype(np.float32)
    return query, key, value


def segments(length, seed=0):
    """Two packed documents and padding on the right; in the second row padding on the left too."""
    ids = np.zeros((2, length), np.int32)
    ids[0, : length // 3], ids[0, length // 3 : length - 4] = 1, 2
    ids[1, 3 : length // 2], ids[1, length // 2 :] = 1, 2
    return jnp.asarray(ids)


MASKS = {
    "everything": lambda t, s: Mask(),
    "causal": lambda t, s: Mask(causal=True),
    "causal window": lambda t, s: Mask(causal=True, window=9),
    "window": lambda t, s: Mask(segments(t), segments(s), window=9),
    "packed": lambda t, s: Mask(segments(t), segments(s)),
    "packed causal": lambda t, s: Mask(segments(t), segments(s), causal=True),
    "prefix": lambda t, s: Mask(
        segments(t), segments(s), jnp.arange(s)[None] < jnp.array([[s // 2], [3]]), causal=True
    ),
}


def dense(mask, targets, sources):
    allowed = mask.dense(targets, sources)
    full = np.ones((2, 1, targets, sources), bool)
    return full if allowed is None else np.broadcast_to(np.asarray(allowed), full.shape)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (3, 1)])
@pytest.mark.parametrize("mask", ["everything", "packed", "causal window"])
def test_equals_loops(kernel, heads, kv_heads, mask):
    inputs = example(heads=heads, kv_heads=kv_heads)
    mask = MASKS[mask](5, 7)
    wanted = by_hand(*(x.astype(np.float64) for x in inputs), dense(mask, 5, 7))
    np.testing.assert_allclose(KERNELS[kernel](*inputs, mask, PLAIN), wanted, atol=2e-6)


@pytest.mark.parametrize("name", MASKS)
def test_blocked_equals_dense_in_float64(name):
    """Several blocks, values and gradients, to the rounding of float64."""
    with jax.enable_x64(True):
        query, key, value = (jnp.asarray(x, jnp.float64) for x in example(LENGTH, LENGTH))
        mask = MASKS[name](LENGTH, LENGTH)
        slope = jnp.asarray(np.random.default_rng(1).normal(size=query.shape))

        def results(kernel, *inputs):
            attended, pull = jax.vjp(lambda q, k, v: kernel(q, k, v, mask, PLAIN), *inputs)
            return attended, *pull(slope)

        blocked, whole = (fast_jit(results, static_argnums=0)(k, query, key, value) for k in KERNELS.values())
        for got, wanted in zip(blocked, whole, strict=True):
            np.testing.assert_allclose(got, wanted, atol=1e-13)


def test_blocked_equals_dense_with_a_cap_and_a_bias_by_distance():
    """Also the gradient of the table of biases, which every block adds to."""
    with jax.enable_x64(True):
        query, key, value = (jnp.asarray(x, jnp.float64) for x in example(LENGTH, LENGTH))
        mask = MASKS["packed causal"](LENGTH, LENGTH)
        rng = np.random.default_rng(1)
        slope, table = jnp.asarray(rng.normal(size=query.shape)), jnp.asarray(rng.normal(size=(10, 4)))

        def results(kernel, *inputs):
            def attended(q, k, v, table):
                return kernel(q, k, v, mask, Scores(0.7, 1.5, RelativeBias(table, False, 40)))

            value, pull = jax.vjp(attended, *inputs)
            return value, *pull(slope)

        blocked, whole = (fast_jit(results, static_argnums=0)(k, query, key, value, table) for k in KERNELS.values())
        assert np.abs(whole[-1]).min(axis=1).max() > 0
        for got, wanted in zip(blocked, whole, strict=True):
            np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_blocked_cross_attention():
    with jax.enable_x64(True):
        inputs = [jnp.asarray(x, jnp.float64) for x in example(targets=70, sources=130)]
        mask = Mask(segments(70), segments(130))
        blocked, whole = (fast_jit(kernel)(*inputs, mask, PLAIN) for kernel in KERNELS.values())
        np.testing.assert_allclose(blocked, whole, atol=1e-13)


@pytest.mark.parametrize("name", MASKS)
def test_blocks_leave_out_only_what_is_masked(name):
    """The keys in reach of a block, and its part of the mask, are those of the whole mask."""
    mask = MASKS[name](LENGTH, LENGTH)
    whole = dense(mask, LENGTH, LENGTH)
    for start in range(0, LENGTH, 40):
        rows = slice(start, min(start + 40, LENGTH))
        columns = mask.keys_in_reach(rows, LENGTH)
        part = mask.block(rows, columns)
        shape = (2, 1, rows.stop - rows.start, columns.stop - columns.start)
        part = np.ones(shape, bool) if part is None else np.broadcast_to(part, shape)
        np.testing.assert_array_equal(part, whole[:, :, rows, columns])
        outside = np.delete(whole[:, :, rows], np.arange(columns.start, columns.stop), axis=-1)
        assert not outside.any()


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_sees_nothing_is_zero(kernel):
    """So that nothing leaks into a document whose encoder side is empty, and gradients stay finite."""
    query, key, value = example()
    mask = Mask(jnp.asarray([[1, 1, 3, 2, 2], [1, 1, 1, 1, 1]]), jnp.asarray([[1, 1, 1, 2, 2, 2, 0], [0] * 7]))
    wanted = by_hand(*(x.astype(np.float64) for x in (query, key, value)), dense(mask, 5, 7))
    assert not wanted[0, 2].any() and not wanted[1].any()
    np.testing.assert_allclose(KERNELS[kernel](query, key, value, mask, PLAIN), wanted, atol=2e-6)
    gradients = jax.grad(lambda *x: KERNELS[kernel](*x, mask, PLAIN).sum(), argnums=(0, 1, 2))(query, key, value)
    assert all(np.isfinite(g).all() for g in gradients)
    assert not gradients[0][1].any() and not gradients[2][1].any()


@pytest.mark.parametrize("kernel", KERNELS)
def test_bfloat16_stays_close(kernel):
    inputs = example(LENGTH, LENGTH)
    mask = MASKS["packed causal"](LENGTH, LENGTH)
    output = fast_jit(KERNELS[kernel])(*(jnp.asarray(x, jnp.bfloat16) for x in inputs), mask, PLAIN)
    assert output.dtype == jnp.bfloat16
    np.testing.assert_allclose(output.astype(np.float32), dense_attention(*inputs, mask, PLAIN), atol=3e-2)
