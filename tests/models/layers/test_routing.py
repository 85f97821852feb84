"""Routing with a limit against a loop over tokens, and without one against no limit that bites."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models.layers.test_experts import context, layer
from tests.models.tiny import DECLLM
from triarch.errors import UserError
from triarch.models.layers.experts import Experts
from triarch.models.layers.parts import Reading

FEW = Experts(num_experts=4, per_token=2, d_ff=12, balance_loss=0.0)


def run(spec, x):
    config = dataclasses.replace(DECLLM, feed_forward=spec)
    graph, state = layer(config)
    weights = {path[0]: np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(state)}
    return np.asarray(nnx.merge(graph, state)(x, context())), weights


def by_token(spec, weights, x, room):
    """Experts take first choices before second ones, and of each the first tokens of a row."""
    logits = x @ weights["router"]
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    y = np.zeros(x.shape)
    num_dropped = 0
    for row in range(len(x)):
        taken = dict.fromkeys(range(spec.num_experts), 0)
        for choice in range(spec.per_token):
            for place in range(x.shape[1]):
                best = np.argsort(-shares[row, place])[: spec.per_token]
                expert = best[choice]
                taken[expert] += 1
                if taken[expert] > room:
                    num_dropped += 1
                    continue
                token = x[row, place]
                gate = token @ weights["gate"][expert]
                inner = gate / (1 + np.exp(-gate)) * (token @ weights["up"][expert])
                share = shares[row, place, expert] / shares[row, place, best].sum()
                y[row, place] += share * (inner @ weights["down"][expert])
    return y, num_dropped


@pytest.mark.parametrize("limit", [dict(capacity=3), dict(capacity_factor=1.0), dict(capacity_factor=4.0), {}])
def test_an_expert_takes_the_first_tokens_that_choose_it(limit):
    spec = dataclasses.replace(FEW, **limit)
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(2), (3, 7, DECLLM.d_model), jnp.float64)
        found, weights = run(spec, x)
    room = spec.room(7)
    assert room == {3: 3, None: {1.0: 4, 4.0: 7, None: None}[spec.capacity_factor]}[spec.capacity]
    expected, num_dropped = by_token(spec, weights, np.asarray(x), 7 if room is None else room)
    assert (num_dropped > 0) == (room is not None and room < 7)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.slow
def test_padding_takes_no_room():
    spec = dataclasses.replace(FEW, capacity=3)
    config = dataclasses.replace(DECLLM, feed_forward=spec)
    graph, state = layer(config, jnp.float32)
    x = jax.random.normal(jax.random.key(2), (1, 9, DECLLM.d_model))
    segments = jnp.array([[0, 0, 0, 0, 1, 1, 1, 1, 1]])
    found = nnx.merge(graph, state)(x, context(segments))
    alone = nnx.merge(graph, state)(x[:, 4:], context())
    np.testing.assert_allclose(found[:, 4:], alone, rtol=1e-5, atol=1e-5 * np.abs(alone).max())
    assert not found[:, :4].any()


def test_the_flops_of_experts_with_their_even_share_are_the_compilers():
    spec = Experts(8, 2, d_ff=2048, capacity_factor=1.0, balance_loss=0.0)
    config = dataclasses.replace(DECLLM, d_model=512, feed_forward=spec)
    graph, state = layer(config, jnp.float32)
    x = jax.ShapeDtypeStruct((2, 512, 512), jnp.float32)

    def total(state, x):
        return jnp.sum(nnx.merge(graph, state)(x, context()) ** 2)

    counted = 2 * spec.flops(config, Reading(512, 0, causal=True, convention="train"))
    for function, times in ((total, 1), (jax.grad(total, argnums=(0, 1)), 3)):
        found = jax.jit(function).lower(state, x).cost_analysis()["flops"]
        assert times * counted < found < 1.02 * times * counted


def test_two_limits_and_too_many_experts_are_one_line():
    for changes, message in (
        (dict(capacity=2, capacity_factor=1.0), "Experts.capacity_factor = 1.0 does not go with capacity = 2"),
        (dict(per_token=5), "Experts.per_token = 5 must be at most num_experts = 4"),
        (dict(capacity=0), r"Experts.capacity = 0"),
    ):
        with pytest.raises(UserError, match=message):
            dataclasses.replace(DECLLM, feed_forward=dataclasses.replace(FEW, **changes)).validate()
