"""Products of groups against the sum over groups of masked products, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from triarch.models.layers import grouped_product as module
from triarch.models.layers.grouped_product import block_size, grouped_product


def by_masks(rows, kernels, sizes):
    ends = jnp.cumsum(sizes)
    places = jnp.arange(len(rows))[:, None]
    return sum(
        jnp.where((places >= end - size) & (places < end), rows @ kernel, 0)
        for kernel, size, end in zip(kernels, sizes, ends, strict=True)
    )


@pytest.mark.parametrize("sizes", [(3, 0, 9, 11), (0, 0, 0, 23), (0, 0, 0, 0), (1, 2, 1, 1), (23, 0, 0, 0)])
@pytest.mark.parametrize("least", [1, 4, 128])
def test_values_and_gradients_are_those_of_masked_products(sizes, least, monkeypatch):
    """Also where rows are left over, and where blocks hold one row, some or all."""
    monkeypatch.setattr(module, "_LEAST", least)
    rng = np.random.default_rng(0)
    rows, kernels, weights = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((23, 5), (4, 5, 6), (23, 6)))
    sizes = jnp.asarray(sizes)
    for function in (grouped_product, jax.jit(grouped_product)):
        found = jax.grad(lambda r, k, run=function: jnp.sum(run(r, k, sizes) * weights), (0, 1))(rows, kernels)
        expected = jax.grad(lambda r, k: jnp.sum(by_masks(r, k, sizes) * weights), (0, 1))(rows, kernels)
        np.testing.assert_allclose(function(rows, kernels, sizes), by_masks(rows, kernels, sizes), atol=1e-5)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(("rows", "groups"), [(32_768, 8), (131_072, 64), (2_048, 8), (40, 4)])
def test_blocks_add_little(rows, groups):
    """Of large batches a sixteenth to the gradients of kernels; of any no more than a block of each group."""
    size = block_size(rows, groups)
    assert 1 <= size <= min(rows, 512)
    computed = (rows // size + groups) * size
    assert computed <= rows + groups * 128 or computed <= rows * (1 + 1 / 16)
