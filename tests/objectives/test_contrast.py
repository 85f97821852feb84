"""Contrast against float64 numpy; gradient caching against none; what is no negative; and its one-line mistakes."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from tests.models import tiny
from tests.training import tiny as runs
from triarch.errors import UserError
from triarch.models import Network
from triarch.objectives import Contrast, SpecialTokens
from triarch.training import config as training_config

SPECIAL = SpecialTokens(pad=0, bos=1, eos=2, mask=3)
MODELS = {
    "decoder-only": dataclasses.replace(tiny.DECLLM, num_decoder_layers=2),
    "encoder-only": dataclasses.replace(tiny.ETTIN_ENCODER, num_encoder_layers=2),
    "encoder-decoder": dataclasses.replace(tiny.REDLLM, num_encoder_layers=2, num_decoder_layers=1),
}
BASE = Contrast(query_length=4, passage_length=6, num_negatives=1, temperature=0.05)


def batch_of(objective, architecture, rows=8, seed=0, vocabulary=20):
    """Features of random groups whose texts have random lengths."""
    rng = np.random.default_rng(seed)
    bound = objective.bind(architecture, SPECIAL, vocabulary, objective.group_window)
    made = []
    for _ in range(rows):
        tokens, segments = (np.zeros(objective.group_window, np.int32) for _ in range(2))
        place = 0
        for number, most in enumerate([objective.query_length] + [objective.passage_length] * 2, 1):
            length = rng.integers(1, most + 1)
            tokens[place : place + length] = rng.integers(4, vocabulary, length)
            segments[place : place + length] = number
            place += length
        made.append(bound.features({"tokens": tokens, "segment_ids": segments}, rng))
    return bound, {name: np.stack([one[name] for one in made]) for name in made[0]}


def vectors(network, params, architecture, tokens, real, objective):
    """float64 vectors, one text at a time without padding."""
    side = "decoder" if architecture == "decoder-only" else "encoder"
    found = []
    for row, there in zip(tokens.reshape(-1, tokens.shape[-1]), real.reshape(-1, real.shape[-1]), strict=True):
        one = row[: there.sum()][None]
        states = network.merge(params).text_states({f"{side}_input_tokens": one, f"{side}_segment_ids": one * 0 + 1})
        states = np.asarray(states[0], np.float64)
        pools = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}
        vector = pools[objective.pooling]
        found.append(vector / np.linalg.norm(vector) if objective.similarity == "cosine" else vector)
    return np.stack(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    "architecture, changes",
    [
        ("encoder-only", {}),
        ("decoder-only", dict(pooling="last", symmetric=True)),
        ("encoder-decoder", dict(pooling="cls", similarity="dot", temperature=1.0)),
    ],
)
def test_the_loss_is_that_of_float64_and_caching_changes_no_gradient(architecture, changes):
    objective = dataclasses.replace(BASE, **changes)
    bound, batch = batch_of(objective, architecture)
    network = Network(MODELS[architecture], tiny.FLOAT32)
    params = network.init(0)

    def loss(params, chunk):
        changed = dataclasses.replace(bound, objective=dataclasses.replace(objective, chunk=chunk))
        return changed.loss(network.merge(params), batch)

    value_and_grad = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
    (total, sums), gradient = value_and_grad(params, 0)
    queries = vectors(network, params, architecture, batch["query_input_tokens"], batch["query_segment_ids"], objective)
    passages = vectors(
        network, params, architecture, batch["passage_input_tokens"], batch["passage_segment_ids"], objective
    )
    logits = queries @ passages.T / objective.temperature
    own = np.arange(8) * 2

    def entropy(logits, own):
        return np.logaddexp.reduce(logits, axis=1) - logits[np.arange(8), own]

    wanted = entropy(logits, own)
    if objective.symmetric:
        wanted = (wanted + entropy(logits[:, own].T, np.arange(8))) / 2
    assert float(total) == pytest.approx(wanted.sum(), rel=1e-4)
    assert float(sums.measures["accuracy"].total) == (logits.argmax(1) == own).sum()
    (cached, _), of_cached = value_and_grad(params, 4)
    assert float(cached) == pytest.approx(float(total), rel=1e-5)
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(gradient))
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(of_cached), strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-6 * max(largest, 1))


@pytest.mark.slow
def test_caching_needs_the_memory_of_a_chunk():
    bound, batch = batch_of(BASE, "encoder-only", rows=64)
    network = Network(MODELS["encoder-only"], tiny.FLOAT32)
    params = jax.eval_shape(lambda: network.init(0))

    def peak(chunk):
        changed = dataclasses.replace(bound, objective=dataclasses.replace(BASE, chunk=chunk))
        step = jax.grad(lambda params: changed.loss(network.merge(params), batch)[0])
        return jax.jit(step).lower(params).compile().memory_analysis().temp_size_in_bytes

    assert peak(8) < peak(0) / 2


@pytest.mark.slow
def test_equal_texts_are_no_negatives():
    objective = dataclasses.replace(BASE, num_negatives=0)
    bound = objective.bind("encoder-only", SPECIAL, 20, objective.group_window)
    rng = np.random.default_rng(0)

    def group(query, passage):
        tokens = np.array([*query, *passage] + [0] * (10 - len(query) - len(passage)), np.int32)
        segments = np.array([1] * len(query) + [2] * len(passage) + [0] * (10 - len(query) - len(passage)), np.int32)
        return bound.features({"tokens": tokens, "segment_ids": segments}, rng)

    def stacked(*groups):
        return {name: np.stack([one[name] for one in groups]) for name in groups[0]}

    network = Network(MODELS["encoder-only"], tiny.FLOAT32)
    model = network.merge(network.init(0))
    alone = bound.loss(model, stacked(group([4, 5], [6, 7]), group([8], [9, 10])))[0]
    # The first passage again for another query, and the second query again with another passage.
    more = stacked(group([4, 5], [6, 7]), group([8], [9, 10]), group([11], [6, 7]), group([8], [12]))
    from triarch.objectives.contrastive.loss import _false_negatives

    found = np.asarray(_false_negatives(more["query_hash"], more["passage_hash"]))
    wanted = np.zeros((4, 4), bool)
    wanted[0, 2] = wanted[2, 0] = wanted[1, 3] = wanted[3, 1] = True
    np.testing.assert_array_equal(found, wanted)
    assert np.isfinite(float(bound.loss(model, more)[0])) and np.isfinite(float(alone))


@pytest.mark.parametrize(
    "changes, batch_size, message",
    [
        (dict(temperature=0.0), 8, "Contrast.temperature = 0.0: expected a positive number"),
        (dict(pooling="max"), 8, "Contrast.pooling = 'max'"),
        (dict(similarity="cos"), 8, r"Contrast.similarity = 'cos' \(did you mean 'cosine'"),
        (dict(query_length=5), 8, "expected those that the store was prepared with, 16 tokens together"),
        (dict(chunk=3), 8, "Contrast.chunk = 3: does not divide RunConfig.batch_size = 8"),
        ({}, 1, "Contrast compares at least 2 queries"),
        (dict(num_negatives=9), 8, "smaller than Contrast.num_negatives = 9"),
    ],
)
def test_mistakes_are_one_line(changes, batch_size, message):
    objective = dataclasses.replace(BASE, **changes)
    config = runs.run_config("store", "encoder-only", objective=objective, batch_size=batch_size)
    with pytest.raises(UserError, match=message):
        training_config.validate(config)
        objective.lengths("encoder-only", BASE.group_window)
