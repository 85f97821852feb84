"""Dropout leaves out the asked share, the same numbers of an example however the network is computed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.training.tiny import WINDOW, model, run_config
from triarch.errors import UserError
from triarch.models import Dropout, Execution, build
from triarch.models.attention.masks import Mask
from triarch.models.attention.scores import Scores
from triarch.models.kernels.kernel import attention_weights, blocked_attention
from triarch.models.layers.context import StackContext
from triarch.models.layers.dropout import DropoutKeys, dropped, example_keys
from triarch.models.layers.experts import Experts
from triarch.models.recurrent.mamba2 import Mamba2
from triarch.training.config import validate

ROWS = 3
KEYS = example_keys(jax.random.key(1), jnp.int32(5), jnp.arange(ROWS))
ALL = Dropout(0.2, 0.2, 0.2, 0.2, attention_weights=0.2, inner=0.2)


def batch_of(architecture):
    tokens = np.random.default_rng(0).integers(4, 32, size=(2, ROWS, WINDOW)).astype(np.int32)
    sides = {"encoder-only": ["encoder"], "decoder-only": ["decoder"], "encoder-decoder": ["encoder", "decoder"]}
    return {f"{side}_input_tokens": tokens[number] for number, side in enumerate(sides[architecture])}


def states(architecture, rates, keys=KEYS, execution=None, batch=None, differentiate=False):
    """The last states; or the gradients of their squares, by parameter."""
    network = build(model(architecture), execution or Execution(), nnx.Rngs(params=0))
    network.dropout = rates
    graph, params = nnx.split(network)
    batch = batch_of(architecture) if batch is None else batch

    def run(params):
        return nnx.merge(graph, params).states(batch, keys)

    if differentiate:
        return jax.jit(jax.grad(lambda params: jnp.sum(run(params) ** 2)))(params)
    return np.asarray(jax.jit(run)(params))


def test_the_kept_grow_so_that_the_mean_stays():
    x = jnp.ones((ROWS, 200, 100))
    out = np.asarray(DropoutKeys(Dropout(attention=0.3), KEYS).apply(x, "self_attention"))
    share = (out == 0).mean(axis=(1, 2))
    sigma = np.sqrt(0.3 * 0.7 / 20_000)
    np.testing.assert_allclose(share, 0.3, atol=5 * sigma)
    np.testing.assert_allclose(out[out != 0], 1 / 0.7, rtol=1e-6)
    np.testing.assert_allclose(out.mean(axis=(1, 2)), 1.0, atol=5 * sigma / 0.7)


def test_places_layers_rows_and_steps_draw_apart():
    rates, x = Dropout(0.5, 0.5, 0.5, 0.5, attention_weights=0.5, inner=0.5), jnp.ones((ROWS, 64))
    keys = DropoutKeys(rates, KEYS)
    later = DropoutKeys(rates, example_keys(jax.random.key(1), jnp.int32(6), jnp.arange(ROWS)))
    places = ("embedding", "self_attention", "cross_attention", "feed_forward", "final", "inner")
    places += ("self_attention_weights", "cross_attention_weights")
    drawn = [np.asarray(keys.apply(x, place)) for place in places]
    drawn += [np.asarray(part.apply(x, "final")) for part in (keys.within(0), keys.within(1), later)]
    patterns = {tuple(row) for one in drawn for row in one}
    assert len(patterns) == ROWS * len(drawn)


def test_without_keys_or_rate_nothing_is_computed():
    x = jnp.ones((ROWS, 4))
    assert dropped(x, None, "final") is x
    assert dropped(x, DropoutKeys(Dropout(embedding=0.1), KEYS), "final") is x
    network = build(model("encoder-decoder"), Execution(), nnx.Rngs(params=0))
    batch = batch_of("encoder-decoder")
    assert str(jax.make_jaxpr(lambda: network.states(batch, KEYS))()) == str(
        jax.make_jaxpr(lambda: network.states(batch))()
    )


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["encoder-only", "decoder-only", "encoder-decoder"])
def test_every_place_counts_and_scan_and_recomputation_do_not(architecture):
    plain = states(architecture, ALL, keys=None)
    for field in dataclasses.fields(Dropout):
        if field.name == "adapter":  # There is none here; see tests/training/tuning/test_adapters.py.
            continue
        assert not np.allclose(states(architecture, Dropout(**{field.name: 0.2})), plain), field.name
    expected = states(architecture, ALL)
    for execution in (Execution(scan_layers=False), Execution(remat="full")):
        np.testing.assert_allclose(states(architecture, ALL, execution=execution), expected, rtol=1e-5, atol=1e-5)


def test_a_recomputed_layer_leaves_out_the_same_in_the_backward_pass():
    saved, recomputed = (
        states("decoder-only", ALL, execution=Execution(remat=remat), differentiate=True) for remat in ("none", "full")
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), saved, recomputed)


@pytest.mark.parametrize("architecture", ["decoder-only", "encoder-decoder"])
def test_a_row_does_not_depend_on_the_rows_beside_it(architecture):
    batch = {name: values[1:] for name, values in batch_of(architecture).items()}
    alone = states(architecture, ALL, keys=KEYS[1:], batch=batch)
    np.testing.assert_allclose(alone, states(architecture, ALL)[1:], rtol=1e-5, atol=1e-5)


def test_weights_of_attention_are_left_out_as_the_formula_says():
    """Each query's sum over values, of the weights that are kept, divided by the share of those that are."""
    rng = np.random.default_rng(0)
    query, key, value = (jnp.asarray(rng.normal(size=(ROWS, 6, 2, 4)), jnp.float32) for _ in range(3))
    keys, mask, scores = DropoutKeys(Dropout(attention_weights=0.4), KEYS), Mask(causal=True), Scores(0.5)
    context = StackContext(blocked_attention, mask, {}, dropout=keys)
    found = context.attending("self_attention_weights")(query, key, value, mask, scores)
    weights = attention_weights(query, key, mask, scores)
    kept = np.asarray(keys.apply(jnp.ones_like(weights), "self_attention_weights")) * np.asarray(weights)
    np.testing.assert_allclose(found, np.einsum("bnts,bsnh->btnh", kept, value), atol=1e-5)
    assert 0.2 < (kept == 0)[np.asarray(weights) > 0].mean() < 0.6
    rest = dataclasses.replace(context, dropout=DropoutKeys(Dropout(inner=0.4), KEYS))
    assert rest.attending("self_attention_weights") is blocked_attention


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"dropout": Dropout(inner=0.1), "execution": Execution(feed_forward_parts=2)},
            "feed_forward_parts = 1, not 2",
        ),
        ({"dropout": Dropout(inner=0.1), "model": {"feed_forward": Experts(2, 1)}}, "without a feed-forward layer"),
        ({"dropout": Dropout(attention_weights=0.1), "model": {"mixer": Mamba2()}}, "has no effect without attention"),
    ],
)
def test_what_cannot_be_left_out_is_refused(changes, message):
    base = run_config("none", "decoder-only")
    network = dataclasses.replace(base.model, **changes.pop("model", {}))
    with pytest.raises(UserError, match=message):
        validate(dataclasses.replace(base, model=network, **changes))


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan"), "0.1", True, None])
def test_a_rate_must_be_a_share(rate):
    with pytest.raises(UserError, match=r"Dropout\.feed_forward = .*: expected a number from 0 to below 1"):
        Dropout(feed_forward=rate).validate()
