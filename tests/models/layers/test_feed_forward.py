"""The feed-forward layer, at once and in parts, against its formula."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models import tiny
from tests.models.test_stack import loss_and_gradient
from tests.models.tiny import BERT, ETTIN_ENCODER, FAMILIES, REDLLM, T5
from triarch.errors import UserError
from triarch.models import Execution
from triarch.models.layers.activations import ACTIVATIONS
from triarch.models.layers.dense import Dense
from triarch.models.layers.parts import Site
from triarch.models.placing import unconstrained

KINDS = {
    "swiglu": REDLLM,
    "biased_geglu": dataclasses.replace(ETTIN_ENCODER, mlp_bias=True),
    "biased_gelu": BERT,
    "relu": T5,
}


def layer(config, parts, dtype):
    """Returns a layer with parameters of `dtype`, none of them zero, and an input and a slope."""
    execution = Execution(str(dtype), feed_forward_parts=parts)
    side = "encoder" if config.num_encoder_layers else "decoder"
    made = Dense().build(Site(config, side, execution, unconstrained, nnx.Rngs(params=0)))
    keys = iter(jax.random.split(jax.random.key(1), 9))
    graph, state = nnx.split(made)
    state = jax.tree.map(lambda leaf: jax.random.normal(next(keys), leaf.shape, dtype), state)
    x, slope = (jax.random.normal(next(keys), (2, 5, config.d_model), dtype) for _ in range(2))
    return graph, state, x, slope


def formula(config, state, x):
    """act(x W_gate + b) * (x W_up + b) W_down + b, or without the gate."""
    act = ACTIVATIONS[config.activation]
    kernels, biases = ({name: state.get(f"{name}{end}") for name in ("gate", "up", "down")} for end in ("", "_bias"))

    def affine(x, name):
        y = jnp.einsum("bli,io->blo", x, kernels[name][...])
        return y if biases[name] is None else y + biases[name][...]

    inner = affine(x, "up")
    inner = act(inner) if kernels["gate"] is None else act(affine(x, "gate")) * inner
    return affine(inner, "down")


def value_and_gradients(function, state, x, slope):
    def both(state, x, slope):
        y, pull = jax.vjp(function, state, x)
        return y, pull(slope)

    return jax.tree.leaves(tiny.fast_jit(both)(state, x, slope))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-6)])
@pytest.mark.parametrize("parts", [1, 4])
def test_value_and_gradients_are_the_formulas(kind, dtype, tolerance, parts):
    config = KINDS[kind]
    with jax.enable_x64(True):
        graph, state, x, slope = layer(config, parts, jnp.dtype(dtype))
        exact = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (state, x, slope))
        found = value_and_gradients(lambda state, x: nnx.merge(graph, state)(x), state, x, slope)
        expected = value_and_gradients(functools.partial(formula, config), *exact)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == dtype
            np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_parts_change_no_gradient_of_a_network(family):
    """To 1e-12 in float64; a key's bias changes nothing, and its gradient is what rounding leaves."""
    with jax.enable_x64(True):
        wanted_loss, wanted = loss_and_gradient(FAMILIES[family], tiny.FLOAT64)
        execution = dataclasses.replace(tiny.FLOAT64, remat="full", feed_forward_parts=4)
        loss, gradient = loss_and_gradient(FAMILIES[family], execution)
    assert abs(loss - wanted_loss) < 1e-14 * wanted_loss
    for path, value in wanted.items():
        if "key_bias" not in path:
            np.testing.assert_allclose(gradient[path], value, rtol=0, atol=1e-12 * np.abs(value).max())


def test_parts_are_held_one_at_a_time():
    """Nothing as wide as all inner units is kept for the backward pass, or made there."""
    graph, state, x, slope = layer(REDLLM, 4, jnp.dtype("float32"))

    def gradients(state, x, slope):
        return jax.vjp(lambda state, x: nnx.merge(graph, state)(x), state, x)[1](slope)

    program = str(jax.make_jaxpr(gradients)(state, x, slope))
    assert f"[2,5,{REDLLM.d_ff // 4}]" in program and f"[2,5,{REDLLM.d_ff}]" not in program


@pytest.mark.parametrize("parts", [7, 48])
def test_parts_divide_the_inner_units(parts):
    with pytest.raises(UserError, match=rf"^Execution.feed_forward_parts = {parts}: .* divisor of d_ff = 24$"):
        layer(REDLLM, parts, jnp.dtype("float32"))
