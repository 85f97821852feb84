"""The linear map and its gradients against numpy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from triarch.models.projection import project


@pytest.mark.parametrize(("inner", "outer"), [(3, 8), (8, 3), (4, 4)])
def test_values_and_gradients(inner, outer):
    rng = np.random.default_rng(0)
    x, kernel, slope = (rng.normal(size=s) for s in ((2, 5, inner), (inner, outer), (2, 5, outer)))
    with jax.enable_x64(True):
        value, pull = jax.vjp(jax.jit(project), jnp.asarray(x), jnp.asarray(kernel))
        x_slope, kernel_slope = pull(jnp.asarray(slope))
    np.testing.assert_allclose(value, np.einsum("bli,io->blo", x, kernel), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(x_slope, np.einsum("blo,io->bli", slope, kernel), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(kernel_slope, np.einsum("bli,blo->io", x, slope), rtol=1e-13, atol=1e-13)


def test_kernel_takes_the_type_of_the_input_and_keeps_its_own_gradient():
    x, kernel = jnp.ones((1, 2, 4), jnp.bfloat16), jnp.ones((4, 3), jnp.float32)
    assert project(x, kernel).dtype == jnp.bfloat16
    gradients = jax.grad(lambda x, k: project(x, k).astype(jnp.float32).sum(), argnums=(0, 1))(x, kernel)
    assert [g.dtype for g in gradients] == [jnp.bfloat16, jnp.float32]
