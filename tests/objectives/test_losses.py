"""The whole loss of each architecture: gradients, isolation of documents, initial value, fitting one batch."""

import dataclasses
import functools
import math

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree

from tests.models import tiny
from tests.models.tiny import DECLLM, ETTIN_DECODER, ETTIN_ENCODER, FAMILIES, OWN_FAMILIES, REDLLM
from triarch.objectives.losses import loss_fn, token_losses

Z_LOSS = 1e-2
LENGTH = 21


def make_loss(graph, chunk=0, z_loss=Z_LOSS, **options):
    return lambda state, batch: loss_fn(nnx.merge(graph, state), batch, z_loss=z_loss, chunk=chunk, **options)[0]


def leaves(state):
    return {path: np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(state)}


@functools.cache
def differentiate(family):
    """Returns (loss and gradient) as a function of (parameters, batch of two rows of LENGTH), in float64.

    Parameters come by path. Compiled once for all that follows: compiling is what takes time here.
    """
    with jax.enable_x64(True):
        graph, state = tiny.split(FAMILIES[family], tiny.FLOAT64)
    compiled = tiny.fast_jit(jax.value_and_grad(make_loss(graph, chunk=5)))

    def run(values, batch):
        with jax.enable_x64(True):
            state = nnx.from_flat_state([(p, leaf.replace(values[p])) for p, leaf in flat])
            loss, gradient = compiled(state, batch)
            return float(loss), leaves(gradient)

    flat = nnx.to_flat_state(state)
    return run


def start(family):
    """Returns float64 parameters by path."""
    return {path: value.astype(np.float64) for path, value in tiny.parameters(FAMILIES[family]).items()}


def two_rows(config, rows, **options):
    return dict(tiny.lay_out(config, rows, LENGTH, **options).batch)


def scored_side(config):
    return "encoder" if config.architecture == "encoder-only" else "decoder"


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_equal_finite_differences(family):
    """Central differences in float64 along one random direction of each parameter, extrapolated to step zero."""
    config, values = FAMILIES[family], start(family)
    a, b, c = tiny.documents(config)
    batch = two_rows(config, [[a, b], [c]])
    _, gradient = differentiate(family)(values, batch)
    rng = np.random.default_rng(0)
    for path, slope in gradient.items():
        direction = rng.normal(size=slope.shape)
        direction /= np.linalg.norm(direction)

        def along(step, path=path, direction=direction):
            return differentiate(family)(values | {path: values[path] + step * direction}, batch)[0]

        assert abs(_slope(along) - np.vdot(slope, direction)) < 1e-7 * np.linalg.norm(slope) + 1e-9, path


def _slope(f, step=1e-3):
    def central(h):
        return (f(h) - f(-h)) / (2 * h)

    return (4 * central(step / 2) - central(step)) / 3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_batch_has_the_losses_and_gradients_of_its_documents(family):
    config, values = FAMILIES[family], start(family)
    a, b, c = tiny.documents(config)
    loss, gradient = differentiate(family)(values, two_rows(config, [[a, b, c], [c, a]], left={1}))
    apart = [two_rows(config, rows) for rows in ([[a], [b]], [[c], [c]])]
    last = two_rows(config, [[a], [b]])
    last[f"{scored_side(config)}_loss_weights"][1] = 0
    parts = [differentiate(family)(values, batch) for batch in (*apart, last)]
    wanted_loss = sum(part for part, _ in parts)
    assert abs(loss - wanted_loss) < 1e-12 * wanted_loss
    # A bias on keys moves all logits of a query alike, so that its gradient is rounding and nothing else.
    rounding = 1e-15 * max(np.abs(value).max() for value in gradient.values())
    for path, value in gradient.items():
        wanted = sum(part[path] for _, part in parts)
        atol = 1e-11 * np.abs(wanted).max() + rounding
        np.testing.assert_allclose(value, wanted, rtol=0, atol=atol, err_msg=str(path))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_token_may_not_see_changes_neither_its_loss_nor_any_gradient(family):
    """One document is scored; later tokens, padding and other documents are replaced: not one bit changes."""
    config, values = FAMILIES[family], start(family)
    a, b, c = tiny.documents(config)
    batch = two_rows(config, [[b, a], [c]])
    side = scored_side(config)
    # A bidirectional document is seen whole; of a causal one the last token is not.
    seen = len(b.inputs) - (side == "decoder")
    batch[f"{side}_loss_weights"][0, seen:] = 0
    batch[f"{side}_loss_weights"][1] = 0
    unseen = {f"{side}_input_tokens": seen}
    if config.architecture == "encoder-decoder":
        unseen["encoder_input_tokens"] = len(b.source)
    changed = dict(batch)
    for name, first in unseen.items():
        tokens = batch[name].copy()
        tokens[0, first:] = (tokens[0, first:] + 5) % config.vocab_size
        tokens[1] = (tokens[1] + 7) % config.vocab_size
        changed[name] = tokens
    loss, gradient = differentiate(family)(values, batch)
    other_loss, other_gradient = differentiate(family)(values, changed)
    assert loss == other_loss
    for path, value in gradient.items():
        np.testing.assert_array_equal(value, other_gradient[path], err_msg=str(path))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_token_may_see_changes_its_loss(family):
    """The counterpart, without which the test above would pass on a network that sees nothing."""
    config, values = FAMILIES[family], start(family)
    _, b, _ = tiny.documents(config)
    batch = two_rows(config, [[b], [b]])
    side = scored_side(config)
    for position in (0, len(b.inputs) - 1):
        batch[f"{side}_loss_weights"] = np.zeros((2, LENGTH), np.float32)
        batch[f"{side}_loss_weights"][0, position] = 1
        before, _ = differentiate(family)(values, batch)
        for name in [n for n in batch if n.endswith("input_tokens")]:
            own_past = name == "decoder_input_tokens"
            for seen in range(position + 1 if own_past else int((batch[name][0] > 0).sum())):
                tokens = batch[name].copy()
                tokens[0, seen] = tokens[0, seen] % (config.vocab_size - 1) + 1
                assert abs(differentiate(family)(values, batch | {name: tokens})[0] - before) > 1e-6, (name, seen)


@pytest.mark.parametrize("family", ["decllm", "ettin_encoder"])
def test_sums_and_token_losses_are_those_of_the_logits(family):
    config = widened(FAMILIES[family], d_model=16, head_dim=4, layers=1, vocab_size=67)
    a, b, c = tiny.documents(config)
    batch = tiny.lay_out(config, [[a], [b], [c]], LENGTH).batch
    targets, weights = (batch[f"{scored_side(config)}_{name}"] for name in ("target_tokens", "loss_weights"))
    graph, state = tiny.split(config)
    losses = tiny.fast_jit(lambda s, b: token_losses(nnx.merge(graph, s), b, chunk=5))(state, batch)
    total, sums = tiny.fast_jit(lambda s, b: loss_fn(nnx.merge(graph, s), b, z_loss=Z_LOSS, chunk=5))(state, batch)
    logits = tiny.logits(config, batch).astype(np.float64)
    log_z = np.log(np.sum(np.exp(logits), -1))
    wanted = log_z - np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    np.testing.assert_allclose(losses, wanted, atol=1e-5)
    found = sums.named
    np.testing.assert_allclose(found["loss"].total, np.sum(weights * wanted), rtol=1e-6)
    np.testing.assert_allclose(found["z_loss"].total, np.sum(weights * Z_LOSS * log_z**2), rtol=1e-6)
    right = np.sum(weights * (logits.argmax(-1) == targets))
    np.testing.assert_allclose(found["accuracy"].total, right, rtol=1e-6)
    for name in ("loss", "z_loss", "accuracy"):
        np.testing.assert_allclose(found[name].weight, weights.sum(), rtol=1e-6)
    np.testing.assert_allclose(total, found["loss"].total + found["z_loss"].total, rtol=1e-6)


def test_leaving_out_unscored_logits_keeps_loss_and_gradients():
    config = dataclasses.replace(ETTIN_ENCODER, num_encoder_layers=1)
    a, b, _ = tiny.documents(config)
    batch = dict(tiny.lay_out(config, [[a], [b]], 8).batch)
    batch["encoder_loss_weights"] = batch["encoder_loss_weights"] * (np.arange(8) % 3 == 1)
    graph, state = tiny.split(config)
    loss, gradient = tiny.fast_jit(jax.value_and_grad(make_loss(graph)))(state, batch)
    few_loss, few_gradient = tiny.fast_jit(jax.value_and_grad(make_loss(graph, num_scored=3)))(state, batch)
    np.testing.assert_allclose(few_loss, loss, rtol=1e-6)
    for path, value in leaves(gradient).items():
        np.testing.assert_allclose(leaves(few_gradient)[path], value, rtol=0, atol=1e-5 * np.abs(value).max())


def random_batch(config, rows, length, seed=0):
    rng = np.random.default_rng(seed)
    side = "encoder" if config.architecture == "encoder-only" else "decoder"
    names = [f"{side}_input_tokens", f"{side}_target_tokens"]
    if config.architecture == "encoder-decoder":
        names.append("encoder_input_tokens")
    batch = {name: rng.integers(1, config.vocab_size, (rows, length), dtype=np.int32) for name in names}
    return batch | {f"{side}_loss_weights": np.ones((rows, length), np.float32)}


def widened(config, d_model, head_dim, layers, vocab_size=1024):
    return dataclasses.replace(
        config,
        vocab_size=vocab_size,
        d_model=d_model,
        d_ff=2 * d_model,
        num_heads=d_model // head_dim,
        head_dim=head_dim,
        num_encoder_layers=layers if config.num_encoder_layers else 0,
        num_decoder_layers=layers if config.num_decoder_layers else 0,
    )


SHAPES = [(family, *shape) for family in OWN_FAMILIES for shape in ((32, 8, 4), (512, 64, 1))]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "d_model", "head_dim", "layers"), [*SHAPES, ("redllm", 128, 32, 2)])
def test_initial_loss_is_that_of_a_uniform_guess(family, d_model, head_dim, layers):
    """Within 1 % of ln(vocabulary), both on random targets and where targets repeat the inputs.

    The second is the hard one: with a tied embedding a network sees its own inputs among the classes.
    """
    config = widened(FAMILIES[family], d_model, head_dim, layers)
    batch = random_batch(config, rows=2, length=64)
    side = "encoder" if config.architecture == "encoder-only" else "decoder"
    graph, state = tiny.fresh(config, seed=1)
    losses = tiny.fast_jit(lambda s, b: token_losses(nnx.merge(graph, s), b, chunk=0))
    for targets in (f"{side}_target_tokens", f"{side}_input_tokens"):
        loss = float(losses(state, batch | {f"{side}_target_tokens": batch[targets]}).mean())
        assert abs(loss / math.log(config.vocab_size) - 1) < 0.01, targets


@pytest.mark.slow
@pytest.mark.parametrize("family", OWN_FAMILIES)
def test_every_architecture_learns_one_batch_by_heart(family):
    config = widened(FAMILIES[family], d_model=32, head_dim=8, layers=2, vocab_size=64)
    batch = random_batch(config, rows=2, length=12)
    graph, state = tiny.fresh(config)
    values, unravel = ravel_pytree(state)
    optimizer = optax.adam(1e-2)

    @tiny.fast_jit
    def step(values, memory):
        loss, gradient = jax.value_and_grad(lambda v: make_loss(graph, z_loss=0.0)(unravel(v), batch))(values)
        updates, memory = optimizer.update(gradient, memory)
        return values + updates, memory, loss / 24

    memory = optimizer.init(values)
    history = []
    for _ in range(60):
        values, memory, loss = step(values, memory)
        history.append(float(loss))
    assert history[0] > 4 and history[-1] < 0.05


def test_ettin_pair_differs_in_its_mask_only():
    """Encoder and decoder of one Ettin size hold the same parameters under the same names but for the stack's."""
    rename = {"encoder": "decoder", "encoder_input": "decoder_input"}
    encoder = {tuple(rename.get(p, p) for p in path): v.shape for path, v in tiny.parameters(ETTIN_ENCODER).items()}
    assert encoder == {path: value.shape for path, value in tiny.parameters(ETTIN_DECODER).items()}
    assert DECLLM.architecture == ETTIN_DECODER.architecture != REDLLM.architecture
