"""Vectors of texts against float64 numpy."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from triarch.errors import UserError
from triarch.models.pooling import POOLINGS, check_pooling, normalized, pooled


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("left", [False, True])
def test_padding_does_not_count_on_either_side(pooling, left):
    rng = np.random.default_rng(0)
    states, real = rng.normal(size=(3, 5, 4)), np.zeros((3, 5), np.int32)
    wanted = []
    for row, length in enumerate((5, 3, 1)):
        place = slice(5 - length, 5) if left else slice(0, length)
        real[row, place] = 1
        own = states[row, place]
        wanted.append({"mean": own.mean(0), "cls": own[0], "last": own[-1]}[pooling])
    found = pooled(states.astype(np.float32), real, pooling)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_normalized_vectors_have_length_one_and_a_finite_gradient_at_zero():
    vectors = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    np.testing.assert_allclose(normalized(vectors), [[0.6, 0.8], [0, 0]], atol=1e-7)
    assert np.isfinite(jax.grad(lambda x: normalized(x).sum())(vectors)).all()


def test_an_unknown_pooling_is_one_line():
    with pytest.raises(UserError, match="--pooling=means: no pooling"):
        check_pooling("means", "--pooling=means")
