"""Experts against a loop over tokens, their counts against networks, their losses against formulas."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models import tiny
from tests.models.test_cache import assert_equal, texts
from tests.models.test_counts import actual_params
from tests.models.test_stack import loss_and_gradient
from tests.models.tiny import DECLLM, REDLLM
from triarch.errors import UserError
from triarch.models import Execution, build
from triarch.models.attention.masks import Mask
from triarch.models.kernels.kernel import dense_attention
from triarch.models.layers.context import StackContext
from triarch.models.layers.experts import Experts
from triarch.models.layers.parts import Site
from triarch.models.layers.stack import repeating
from triarch.models.placing import unconstrained
from triarch.objectives.losses import loss_fn

FEW = Experts(num_experts=5, per_token=2, d_ff=12, shared_d_ff=6, router_z_loss=0.001)
EVERY_OTHER = dataclasses.replace(DECLLM, num_decoder_layers=4, feed_forward=FEW, feed_forward_every=2)
TWO_SIDED = dataclasses.replace(REDLLM, gated_mlp=False, feed_forward=dataclasses.replace(FEW, renormalised=False))
CONFIGS = {"every other layer": EVERY_OTHER, "two sides": TWO_SIDED}


def layer(config, dtype=jnp.float64):
    """Returns a layer of experts and its parameters, none near zero."""
    site = Site(config, "decoder", Execution(str(np.dtype(dtype))), unconstrained, nnx.Rngs(params=0))
    graph, state = nnx.split(config.feed_forward.build(site))
    keys = iter(jax.random.split(jax.random.key(1), 9))
    return graph, jax.tree.map(lambda leaf: jax.random.normal(next(keys), leaf.shape, dtype), state)


def context(segments=None):
    return StackContext(dense_attention, Mask(segments, segments, causal=True), {}, losses={})


def by_token(config, weights, x):
    """Returns each token's output, one expert after another, and what the router said."""
    spec = config.feed_forward

    def expert(x, gate, up, down):
        inner = x @ up
        return (jax.nn.silu(inner) if gate is None else jax.nn.silu(x @ gate) * inner) @ down

    outputs, logits, chosen = [], [], []
    for token in x.reshape(-1, x.shape[-1]):
        logits.append(token @ weights["router"])
        shares = jax.nn.softmax(logits[-1])
        best = sorted(range(spec.num_experts), key=lambda e: -float(shares[e]))[: spec.per_token]
        total = sum(shares[e] for e in best) if spec.renormalised else 1.0
        y = expert(token, weights.get("shared_gate"), weights["shared_up"], weights["shared_down"])
        for e in best:
            gate = weights["gate"][e] if "gate" in weights else None
            y = y + shares[e] / total * expert(token, gate, weights["up"][e], weights["down"][e])
        outputs.append(y)
        chosen.append(best)
    return jnp.stack(outputs).reshape(x.shape), np.array(logits), np.array(chosen)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_each_token_gets_the_weighted_sum_of_its_experts(config):
    with jax.enable_x64(True):
        graph, state = layer(config)
        x = jax.random.normal(jax.random.key(2), (2, 6, config.d_model), jnp.float64)
        weights = {path[0]: np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(state)}
        wanted, logits, chosen = by_token(config, weights, x)
        segments = jnp.array([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 0, 0]])
        run = context(segments)
        np.testing.assert_allclose(nnx.merge(graph, state)(x, run), wanted, rtol=0, atol=1e-11 * np.abs(wanted).max())
        real = np.asarray(segments).reshape(-1) > 0
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        often = [(chosen[real] == e).sum() / real.sum() for e in range(5)]
        balance = 5 * np.dot(often, shares[real].mean(axis=0))
        np.testing.assert_allclose(run.losses["balance_loss"], 0.01 * balance, rtol=1e-12)
        z = np.log(np.exp(logits[real]).sum(axis=1))
        np.testing.assert_allclose(run.losses["router_z_loss"], 0.001 * np.mean(z**2), rtol=1e-12)


def test_gradients_are_those_of_the_loop():
    with jax.enable_x64(True):
        graph, state = layer(EVERY_OTHER)
        x = jax.random.normal(jax.random.key(2), (1, 5, EVERY_OTHER.d_model), jnp.float64)
        slope = jax.random.normal(jax.random.key(3), x.shape, jnp.float64)
        flat = {path[0]: leaf[...] for path, leaf in nnx.to_flat_state(state)}
        _, _, chosen = by_token(EVERY_OTHER, flat, x)

        def plain(weights, x):
            """The same of choices that stay as they are."""
            y = []
            for token, best in zip(x[0], chosen, strict=True):
                shares = jax.nn.softmax(token @ weights["router"])[best]
                own = [(jax.nn.silu(token @ weights["gate"][e]) * (token @ weights["up"][e])) @ weights["down"][e]
                       for e in best]  # fmt: skip
                shared = jax.nn.silu(token @ weights["shared_gate"]) * (token @ weights["shared_up"])
                y.append(shared @ weights["shared_down"] + (shares / shares.sum()) @ jnp.stack(own))
            return jnp.stack(y)[None]

        wanted = jax.grad(lambda weights, x: jnp.sum(plain(weights, x) * slope), (0, 1))(flat, x)
        found = jax.grad(lambda state, x: jnp.sum(nnx.merge(graph, state)(x, context()) * slope), (0, 1))(state, x)
        found = {path[0]: leaf[...] for path, leaf in nnx.to_flat_state(found[0])}, found[1]
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-11 * np.abs(other).max())


@pytest.mark.slow
def test_scanning_and_rematerialising_change_no_gradient():
    """Nor the losses that layers add, of which there is one for each layer with experts."""
    with jax.enable_x64(True):
        wanted_loss, wanted = loss_and_gradient(EVERY_OTHER, tiny.FLOAT64)
        for scan_layers, remat in [(False, "none"), (True, "full"), (True, "save_projections")]:
            loss, gradient = loss_and_gradient(EVERY_OTHER, Execution("float64", scan_layers, remat))
            assert abs(loss - wanted_loss) < 1e-13 * wanted_loss
            for path, value in wanted.items():
                np.testing.assert_allclose(gradient[path], value, rtol=0, atol=1e-11 * np.abs(value).max())


def test_a_token_at_a_time_is_the_whole_text():
    with jax.enable_x64(True):
        assert_equal(EVERY_OTHER, texts(EVERY_OTHER, (4, 7, 1)), execution=tiny.FLOAT64, bound=1e-11)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_losses_are_named_and_added(config):
    """As means over layers, and over sides as a sum, times the weight of the batch's targets."""
    a, b, c = tiny.documents(config)
    batch = tiny.lay_out(config, [[a, b], [c]]).batch
    graph, state = tiny.split(config)

    def run(state, batch):
        return loss_fn(nnx.merge(graph, state), batch, z_loss=0.0, chunk=0)

    total, sums = tiny.fast_jit(run)(state, batch)
    assert set(sums.penalties) == {"z_loss", "balance_loss", "router_z_loss"}
    parts = [sums.measures["loss"], *sums.penalties.values()]
    np.testing.assert_allclose(total, sum(float(part.total) for part in parts), rtol=1e-6)
    balance = sums.penalties["balance_loss"]
    sides = 2 if config.num_encoder_layers else 1
    # Evenly spread routing gives 0.01 times the experts of a token; no more than 0.01 times all of them.
    assert sides * 0.01 * 0.5 < float(balance.total / balance.weight) < sides * 0.01 * 5


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_parameters_and_operations_are_counted(config):
    config.validate()
    assert config.num_params() == actual_params(config)
    experts = config.num_encoder_layers + config.num_decoder_layers
    experts = experts if config is TWO_SIDED else experts // 2
    matrices = 3 if config.gated_mlp else 2
    idle = experts * 3 * matrices * config.d_model * 12
    assert config.num_params_active() == config.num_params() - idle
    dense = dataclasses.replace(config, feed_forward=None, feed_forward_every=1)
    passed = config.d_model * 5 + matrices * config.d_model * (2 * 12 + 6) - matrices * config.d_model * config.d_ff
    assert config.flops(7, 7, "paper") - dense.flops(7, 7, "paper") == experts * 2 * 7 * passed


def test_every_other_layer_has_experts():
    assert repeating(EVERY_OTHER.layer_specs("decoder")) == (0, 2)
    names = {"/".join(map(str, path)) for path in tiny.parameters(EVERY_OTHER)}
    assert "decoder/scanned/1/mlp/router" in names and "decoder/scanned/0/mlp/router" not in names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"per_token": 6}, "Experts.per_token = 6 must be at most num_experts = 5"),
        ({"num_experts": 0}, "Experts.num_experts = 0: expected a whole number from 1 on"),
        ({"d_ff": 1.5}, "Experts.d_ff = 1.5: expected a whole number from 1 on"),
        ({"balance_loss": -1.0}, "Experts.balance_loss = -1.0: expected a number from 0 on"),
    ],
)
def test_what_makes_no_experts_is_refused(change, message):
    config = dataclasses.replace(EVERY_OTHER, feed_forward=dataclasses.replace(FEW, **change))
    with pytest.raises(UserError, match=message):
        config.validate()


def test_experts_are_not_cut_into_parts():
    with pytest.raises(UserError, match=r"Execution.feed_forward_parts = 2: expected 1 with Experts"):
        build(TWO_SIDED, Execution("float32", feed_forward_parts=2), nnx.Rngs(params=0))
