"""Chunked cross-entropy against the dense formula in numpy float64: values, gradients, and memory."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.tiny import fast_jit
from triarch.models.layers.embedding import Unembedding
from triarch.objectives.cross_entropy import _chunk_size, cross_entropy, token_losses

VOCAB, WIDTH = 23, 6


def example(batch, length, bias=True, scale=1.0, softcap=None, seed=0):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(batch, length, WIDTH)).astype(np.float32)
    kernel = rng.normal(size=(VOCAB, WIDTH)).astype(np.float32)
    offset = rng.normal(size=VOCAB).astype(np.float32) if bias else None
    targets = rng.integers(VOCAB, size=(batch, length)).astype(np.int32)
    weights = (rng.uniform(0, 2, (batch, length)) * (rng.random((batch, length)) < 0.7)).astype(np.float32)
    return hidden, Unembedding(kernel, offset, scale, softcap), targets, weights


def dense(hidden, unembedding, targets, weights, z_loss):
    """Losses of all tokens, the sums, and gradients for hidden, kernel and bias, by the textbook in float64."""
    hidden, kernel, weights = (np.asarray(x, np.float64) for x in (hidden, unembedding.kernel, weights))
    logits = unembedding.scale * hidden @ kernel.T
    if unembedding.bias is not None:
        logits = logits + np.asarray(unembedding.bias, np.float64)
    cap = unembedding.softcap
    logits = logits if cap is None else cap * np.tanh(logits / cap)
    log_z = np.log(np.exp(logits).sum(-1))
    losses = log_z - np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    probabilities = np.exp(logits - log_z[..., None])
    slope = probabilities - np.eye(VOCAB)[targets] + 2 * z_loss * log_z[..., None] * probabilities
    slope = slope * weights[..., None] * (1 if cap is None else 1 - (logits / cap) ** 2)
    sums = ((weights * losses).sum(), (weights * z_loss * log_z**2).sum(), weights.sum())
    correct = (weights * (logits.argmax(-1) == targets)).sum()
    kernel_gradient = unembedding.scale * slope.reshape(-1, VOCAB).T @ hidden.reshape(-1, WIDTH)
    return losses, (*sums, correct), (unembedding.scale * slope @ kernel, kernel_gradient, slope.sum((0, 1)))


def close(actual, wanted, tolerance=1e-6):
    np.testing.assert_allclose(actual, wanted, rtol=0, atol=tolerance * max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("chunk", "z_loss", "scale", "softcap"),
    [(0, 0.0, 1.0, None), (4, 1e-2, 0.3, None), (5, 0.1, 1.0, 3.0), (100, 1e-4, 2.0, None), (0, 1e-2, 0.5, 2.0)],
)
def test_values_and_gradients_equal_the_dense_formula(chunk, z_loss, scale, softcap, bias):
    inputs = example(3, 12, bias, scale, softcap)
    wanted_losses, wanted_sums, wanted_gradients = dense(*inputs, z_loss)
    hidden, unembedding, targets, weights = inputs

    def loss(hidden, unembedding):
        total, sums = cross_entropy(hidden, unembedding, targets, weights, z_loss, chunk)
        return 3 * total, sums

    (total, sums), gradients = fast_jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(hidden, unembedding)
    plain_total, plain_sums = fast_jit(loss)(hidden, unembedding)
    for got_total, got_sums in ((total, sums), (plain_total, plain_sums)):
        np.testing.assert_allclose(got_sums, wanted_sums, rtol=1e-6)
        np.testing.assert_allclose(got_total, 3 * (wanted_sums[0] + wanted_sums[1]), rtol=1e-6)
    close(gradients[0] / 3, wanted_gradients[0])
    close(gradients[1].kernel / 3, wanted_gradients[1])
    if bias:
        close(gradients[1].bias / 3, wanted_gradients[2])
    close(token_losses(hidden, unembedding, targets, chunk), wanted_losses)


@settings(max_examples=8, deadline=None)
@given(length=st.integers(1, 9), chunk=st.integers(0, 11), batch=st.integers(1, 3), seed=st.integers(0, 99))
def test_any_chunk_gives_the_same(length, chunk, batch, seed):
    hidden, unembedding, targets, _ = inputs = example(batch, length, seed=seed)
    losses, sums, gradients = dense(*inputs, 0.01)

    @fast_jit
    def everything(hidden):
        differentiate = jax.value_and_grad(lambda h: cross_entropy(h, *inputs[1:], 0.01, chunk), has_aux=True)
        return differentiate(hidden), token_losses(hidden, unembedding, targets, chunk)

    ((_, got_sums), got), got_losses = everything(hidden)
    np.testing.assert_allclose(got_sums, sums, rtol=1e-5, atol=1e-6)
    close(got, gradients[0])
    close(got_losses, losses)


def test_large_logits_neither_overflow_nor_vanish():
    hidden, unembedding, targets, weights = example(2, 8)
    kernel = 1e4 * unembedding.kernel
    large = Unembedding(kernel, unembedding.bias, 1.0)
    gradient, sums = jax.grad(lambda *x: cross_entropy(*x, 0.0, 4), has_aux=True)(hidden, large, targets, weights)
    logits = np.asarray(hidden, np.float64) @ kernel.astype(np.float64).T + unembedding.bias
    wanted = logits.max(-1) - np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    np.testing.assert_allclose(sums.loss_sum, (weights * wanted).sum(), rtol=1e-5)
    assert np.isfinite(gradient).all()


def test_targets_of_weight_zero_do_not_count():
    hidden, unembedding, targets, weights = example(2, 8)
    other = np.where(weights > 0, targets, (targets + 1) % VOCAB)
    grad = jax.value_and_grad(lambda *x: cross_entropy(*x, 0.01, 4)[0], (0, 1))
    for one, two in zip(
        jax.tree.leaves(grad(hidden, unembedding, targets, weights)),
        jax.tree.leaves(grad(hidden, unembedding, other, weights)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)


def test_bfloat16_states_keep_float32_sums():
    hidden, unembedding, targets, weights = example(4, 16)
    narrow = jnp.asarray(hidden, jnp.bfloat16)
    total, sums = cross_entropy(narrow, unembedding, targets, weights, 0.0, 4)
    assert {x.dtype for x in sums} == {jnp.dtype(jnp.float32)} == {total.dtype}
    wanted = dense(hidden, unembedding, targets, weights, 0.0)[1][0]
    np.testing.assert_allclose(sums.loss_sum, wanted, rtol=1e-2)
    gradient = jax.grad(lambda *x: cross_entropy(*x, targets, weights, 0.0, 4)[0], (0, 1))(narrow, unembedding)
    assert gradient[0].dtype == jnp.bfloat16 and gradient[1].kernel.dtype == jnp.float32


def test_full_logits_are_never_held():
    """No value in the compiled program is as large as the logits of all tokens; with one chunk there is one."""
    batch, length, vocab, width, chunk = 2, 250, 1000, 8, 4

    def largest(chunk):
        def loss(hidden, kernel):
            targets = jnp.zeros((batch, length), jnp.int32)
            weights = jnp.ones((batch, length))
            return cross_entropy(hidden, Unembedding(kernel, None, 1.0), targets, weights, 0.01, chunk)[0]

        compiled = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(
            jax.ShapeDtypeStruct((batch, length, width), jnp.float32), jax.ShapeDtypeStruct((vocab, width), jnp.float32)
        )
        compiled = compiled.compile()
        shapes = re.findall(r"\b[a-z]+[0-9]*\[([0-9,]+)\]", compiled.as_text())
        sizes = [np.prod([int(n) for n in shape.split(",")]) for shape in shapes]
        return max(sizes), compiled.memory_analysis().temp_size_in_bytes

    elements, temporary = largest(chunk)
    all_logits = batch * length * vocab
    assert elements <= max(batch * chunk * vocab, vocab * width)
    # Two float32 buffers of a chunk's logits, the kernel's gradient twice, and little else.
    assert temporary < 4 * (2 * batch * chunk * vocab + 2 * vocab * width) + 64 * 1024
    assert largest(0)[0] >= all_logits
    assert largest(0)[1] > all_logits * 4 > 4 * temporary


@pytest.mark.parametrize(
    ("length", "chunk", "size"), [(307, 128, 103), (1024, 256, 256), (7, 0, 7), (7, 9, 7), (7, 6, 4)]
)
def test_chunks_stay_large_whatever_the_length(length, chunk, size):
    """307 is 30 % of 1024 and prime: chunks that had to divide it would hold one position each."""
    assert _chunk_size(chunk, length) == size
