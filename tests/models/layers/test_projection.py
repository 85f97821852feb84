"""The linear maps and their gradients against numpy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from triarch.models.layers.projection import project


@pytest.mark.parametrize(("inner", "outers"), [(3, (8,)), (8, (3,)), (4, (4,)), (5, (9, 2, 5))])
def test_values_and_gradients(inner, outers):
    """Of one kernel, and of several wider and narrower than the inputs that they share."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, inner))
    kernels, slopes = ([rng.normal(size=(*shape, outer)) for outer in outers] for shape in ((inner,), (2, 5)))
    with jax.enable_x64(True):
        values, pull = jax.vjp(jax.jit(project), jnp.asarray(x), *map(jnp.asarray, kernels))
        x_slope, *kernel_slopes = pull(tuple(map(jnp.asarray, slopes)))
    exactly = {"rtol": 1e-13, "atol": 1e-13}
    wanted = sum(np.einsum("blo,io->bli", slope, kernel) for slope, kernel in zip(slopes, kernels, strict=True))
    np.testing.assert_allclose(x_slope, wanted, **exactly)
    for value, kernel, slope, kernel_slope in zip(values, kernels, slopes, kernel_slopes, strict=True):
        np.testing.assert_allclose(value, np.einsum("bli,io->blo", x, kernel), **exactly)
        np.testing.assert_allclose(kernel_slope, np.einsum("bli,blo->io", x, slope), **exactly)


def test_kernel_takes_the_type_of_the_input_and_keeps_its_own_gradient():
    x, kernel = jnp.ones((1, 2, 4), jnp.bfloat16), jnp.ones((4, 3), jnp.float32)

    def total(x, kernel):
        (y,) = project(x, kernel)
        assert y.dtype == jnp.bfloat16
        return y.astype(jnp.float32).sum()

    gradients = jax.grad(total, argnums=(0, 1))(x, kernel)
    assert [g.dtype for g in gradients] == [jnp.bfloat16, jnp.float32]
