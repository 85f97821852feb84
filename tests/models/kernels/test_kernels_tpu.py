"""Splash attention, interpreted on the CPU, against dense attention in float64: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from triarch.models.attention.masks import Mask
from triarch.models.attention.scores import Scores
from triarch.models.kernels.kernel import dense_attention
from triarch.models.kernels.tpu import splash_attention

HEADS, WIDTH = 2, 16


def segments(length, ends):
    """Two documents and padding after the second one."""
    ids = np.zeros((1, length), np.int32)
    ids[0, : ends[0]], ids[0, ends[0] : ends[1]] = 1, 2
    return jnp.asarray(ids)


OWN = segments(256, (100, 249))
MASKS = {
    "everything": (256, 256, Mask()),
    "causal, of an odd length": (200, 200, Mask(causal=True)),
    "packed": (256, 256, Mask(OWN, OWN)),
    "packed causal": (256, 256, Mask(OWN, OWN, causal=True)),
    "packed window": (256, 256, Mask(OWN, OWN, window=20)),
    "packed causal window": (256, 256, Mask(OWN, OWN, causal=True, window=20)),
    "packed prefix": (256, 256, Mask(OWN, OWN, jnp.arange(256)[None] % 149 < 40, causal=True)),
    "packed cross": (200, 300, Mask(segments(200, (50, 190)), segments(300, (120, 290)))),
    "cross, an empty document": (128, 128, Mask(segments(128, (50, 120)), segments(128, (120, 120)))),
}

# Interpreting takes seconds: the others are left to the slow tests.
QUICK = {"packed causal", "packed cross"}


def inputs(targets, sources, kv_heads=HEADS):
    rng = np.random.default_rng(0)
    shapes = (1, targets, HEADS, WIDTH), *((1, sources, kv_heads, WIDTH),) * 2, (1, targets, HEADS, WIDTH)
    return [rng.normal(size=shape) for shape in shapes]


def results(kernel, query, key, value, slope, mask, scores, dtype):
    arrays = [jnp.asarray(x, dtype) for x in (query, key, value, slope)]

    def run(query, key, value, slope):
        attended, pull = jax.vjp(lambda *x: kernel(*x, mask, scores), query, key, value)
        return attended, *pull(slope)

    return [np.asarray(x) for x in jax.jit(run)(*arrays)]


def interpreted(*arguments):
    return splash_attention(*arguments, interpret=True)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in MASKS])
def test_equals_dense_attention_in_float64(name):
    """So a packed row gives each document what it gets alone: the dense mask keeps documents apart."""
    targets, sources, mask = MASKS[name]
    arrays = inputs(targets, sources)
    with jax.enable_x64(True):
        wanted = results(dense_attention, *arrays, mask, Scores(0.3), jnp.float64)
    for got, exact in zip(results(interpreted, *arrays, mask, Scores(0.3), jnp.float32), wanted, strict=True):
        np.testing.assert_allclose(got, exact, atol=2e-5)


def test_shared_keys_and_a_soft_cap():
    arrays = inputs(128, 128, kv_heads=1)
    mask, scores = Mask(causal=True), Scores(0.3, softcap=1.5)
    with jax.enable_x64(True):
        wanted = results(dense_attention, *arrays, mask, scores, jnp.float64)
    for got, exact in zip(results(interpreted, *arrays, mask, scores, jnp.float32), wanted, strict=True):
        np.testing.assert_allclose(got, exact, atol=2e-5)


@pytest.mark.slow
def test_documents_of_a_packed_row_equal_separate_ones():
    """Values and gradients; a document alone starts at place 0, which a causal mask does not mind."""
    query, key, value, slope = inputs(256, 256)
    slope[:, 249:] = 0
    packed = results(interpreted, query, key, value, slope, Mask(OWN, OWN, causal=True), Scores(0.3), jnp.float32)
    for start, end in ((0, 100), (100, 249)):
        alone = [x[:, start:end] for x in (query, key, value, slope)]
        separate = results(interpreted, *alone, Mask(causal=True), Scores(0.3), jnp.float32)
        for whole, part in zip(packed, separate, strict=True):
            np.testing.assert_allclose(whole[:, start:end], part, atol=1e-5)
