"""Which kernel runs where, and what stands in for it."""

import logging
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from triarch.errors import UserError
from triarch.models import Execution
from triarch.models.attention.masks import Mask
from triarch.models.attention.relative_bias import RelativeBias
from triarch.models.attention.scores import Scores
from triarch.models.kernels import by_platform
from triarch.models.kernels.by_platform import KERNELS, attending
from triarch.models.kernels.kernel import blocked_attention, dense_attention
from triarch.models.placing import unconstrained


@pytest.mark.parametrize(("platform", "kernel"), [("tpu", "splash"), ("gpu", "cudnn"), ("cpu", "blocked")])
def test_each_platform_has_its_kernel_and_takes_another(platform, kernel):
    assert Execution().on(platform).attention == kernel
    assert Execution(attention="dense").on(platform).attention == "dense"


def test_a_kernel_of_another_platform_is_refused():
    with pytest.raises(UserError, match="'splash' is a kernel for tpu, not for cpu"):
        Execution(attention="splash").on("cpu")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["splash", "cudnn"])
def test_a_bias_by_distance_falls_back_with_one_notice(name, caplog):
    by_platform._notice.cache_clear()  # Another test of this process may have had the notice.
    rng = np.random.default_rng(0)
    query, key, value = (jnp.asarray(rng.normal(size=(1, 130, 2, 8)), jnp.float32) for _ in range(3))
    scores = Scores(0.3, None, RelativeBias(jnp.asarray(rng.normal(size=(8, 2)), jnp.float32), False, 40))
    kernel = attending(name, unconstrained)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            attended = kernel(query, key, value, Mask(causal=True), scores)
    np.testing.assert_array_equal(attended, blocked_attention(query, key, value, Mask(causal=True), scores))
    assert [record.message for record in caplog.records] == [
        f"attention kernel {name} cannot do relative position biases: blocked attention does"
    ]


@pytest.mark.parametrize("mask", [Mask(causal=True, window=3), Mask(window=3), Mask(causal=True), Mask()])
def test_cudnn_is_asked_for_windows_it_has_only(mask, monkeypatch):
    """The kernel runs on GPUs only; what it is asked for is computed by XLA here, under the kernel's own condition."""
    plain = jax.nn.dot_product_attention

    def asked(*values, local_window_size, implementation, **others):
        assert implementation == "cudnn"
        assert local_window_size is None or local_window_size[1] == 0
        return plain(*values, local_window_size=local_window_size, implementation="xla", **others)

    monkeypatch.setattr(jax.nn, "dot_product_attention", asked)
    rng = np.random.default_rng(0)
    query, key, value = (jnp.asarray(rng.normal(size=(2, 9, 2, 8)), jnp.bfloat16) for _ in range(3))
    attended = attending("cudnn", unconstrained)(query, key, value, mask, Scores(0.3))
    expected = dense_attention(*(x.astype(jnp.float32) for x in (query, key, value)), mask, Scores(0.3))
    np.testing.assert_allclose(attended.astype(jnp.float32), expected, atol=0.03)


def test_a_config_may_name_every_kernel():
    """The names stand in the annotation, so that a config is checked without importing kernels."""
    assert set(typing.get_args(typing.get_type_hints(Execution)["attention"])) == {"auto", *KERNELS}
