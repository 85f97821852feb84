"""Measures of attention matrices against numpy in float64, and on matrices whose measures are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from triarch.evaluation import matrices

SIZE = 24
IDENTITY = np.eye(SIZE, dtype=np.float32)
EVEN = np.full((SIZE, SIZE), 1 / SIZE, np.float32)
CAUSAL = np.tril(np.ones((SIZE, SIZE), np.float32)) / np.arange(1, SIZE + 1, dtype=np.float32)[:, None]


def drawn(queries: int = SIZE, keys: int = SIZE, sharpness: float = 3.0, seed: int = 0) -> np.ndarray:
    logits = sharpness * np.random.default_rng(seed).normal(size=(2, 3, queries, keys))
    weights = np.exp(logits)
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)


def rank_of(weights: np.ndarray) -> float:
    """Roy and Vetterli's effective rank, from the eigenvalues of the Gram matrix in float64."""
    wide = weights.astype(np.float64)
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(wide @ wide.T), 0))
    shares = values[values > 0] / values.sum()
    return math.exp(-(shares * np.log(shares)).sum())


@pytest.mark.parametrize(("queries", "keys"), [(SIZE, SIZE), (10, 17), (17, 10)])
def test_ranks_equal_numpy(queries, keys):
    weights = drawn(queries, keys)
    values = matrices.singular_values(weights)
    found, counted = matrices.effective_rank(values), matrices.numerical_rank(values, 0.05)
    for index in np.ndindex(2, 3):
        short = weights[index] if queries <= keys else weights[index].T
        assert found[index] == pytest.approx(rank_of(short), rel=1e-4)
        wide = np.linalg.svd(weights[index].astype(np.float64), compute_uv=False)
        # numpy's own rank takes a threshold that is absolute.
        assert counted[index] == np.linalg.matrix_rank(weights[index].astype(np.float64), tol=0.05 * wide[0])


@pytest.mark.parametrize(("weights", "effective", "numerical"), [(IDENTITY, SIZE, SIZE), (EVEN, 1, 1)])
def test_ranks_of_known_matrices(weights, effective, numerical):
    values = matrices.singular_values(weights)
    assert float(matrices.effective_rank(values)) == pytest.approx(effective, rel=2e-3)
    assert float(matrices.numerical_rank(values, 1e-3)) == numerical


def test_an_even_causal_matrix_keeps_a_rank_of_its_own():
    """A triangular matrix with no zero on its diagonal has full rank, however even: its determinant is 1 / n!."""
    values = np.asarray(matrices.singular_values(CAUSAL), np.float64)
    assert np.log(values).sum() == pytest.approx(-math.lgamma(SIZE + 1), rel=1e-4)
    found = float(matrices.effective_rank(values))
    assert found == pytest.approx(rank_of(CAUSAL), rel=1e-4) and 5 < found < SIZE


def test_blocks_of_rank_one_count_as_many():
    blocks = np.kron(np.eye(4), np.full((6, 6), 1 / 6)).astype(np.float32)
    values = matrices.singular_values(blocks)
    assert float(matrices.effective_rank(values)) == pytest.approx(4, rel=2e-3)
    assert float(matrices.numerical_rank(values, 1e-3)) == 4


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [1, 5])
def test_locality_by_loops(causal, window):
    weights = drawn(SIZE, SIZE)
    if causal:
        weights = weights * (CAUSAL > 0)
    found = np.asarray(matrices.locality(weights, window, causal))
    assert found.shape == (2, 3, SIZE)
    for query in range(SIZE):
        near = range(query - window + 1, query + 1) if causal else range(query - window // 2, query + window // 2 + 1)
        mass = sum(weights[..., query, key].astype(np.float64) for key in near if 0 <= key < SIZE)
        np.testing.assert_allclose(found[..., query], mass, rtol=1e-5)


def test_locality_of_known_matrices():
    np.testing.assert_allclose(matrices.locality(IDENTITY, 5, True), 1)
    # The first five queries see nothing further away; then five of the tokens seen.
    expected = np.minimum(1, 5 / np.arange(1, SIZE + 1))
    np.testing.assert_allclose(matrices.locality(CAUSAL, 5, True), expected, rtol=1e-5)
    np.testing.assert_allclose(matrices.locality(EVEN, 5, False)[2:-2], 5 / SIZE, rtol=1e-5)


def test_entropy_and_dependence_on_the_query():
    weights = drawn().astype(np.float64)
    wanted = -(weights * np.log(weights)).sum(-1)
    np.testing.assert_allclose(matrices.entropy(weights.astype(np.float32)), wanted, rtol=1e-5)
    joint = weights / SIZE
    information = (joint * np.log(joint / (joint.sum(-1, keepdims=True) * joint.sum(-2, keepdims=True)))).sum((-1, -2))
    np.testing.assert_allclose(matrices.query_dependence(weights.astype(np.float32)), information, rtol=1e-4)
    stripes = np.broadcast_to(weights[0, 0, 0], (SIZE, SIZE)).astype(np.float32)
    # Two sums of SIZE terms in float32, each term rounded by 2^-24 of sums that reach log SIZE.
    rounding = 2 * SIZE * 2**-24 * math.log(SIZE)
    assert float(matrices.query_dependence(stripes)) == pytest.approx(0, abs=rounding)
    assert float(matrices.query_dependence(IDENTITY)) == pytest.approx(math.log(SIZE), abs=rounding)
    np.testing.assert_allclose(matrices.entropy(IDENTITY), 0)


def test_even_weights_over_what_a_mask_allows():
    np.testing.assert_allclose(matrices.uniform(CAUSAL > 0), CAUSAL, rtol=1e-6)
    nothing = np.zeros((2, 3), bool)
    np.testing.assert_array_equal(matrices.uniform(nothing), 0)
