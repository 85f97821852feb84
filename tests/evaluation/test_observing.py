"""Observed weights equal those of the plain float64 transcription, and of transformers."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from tests.interchange import exports
from tests.models import tiny
from tests.models.reference import Reference
from triarch.evaluation.observing import AttentionSite, observed, sites

SOURCE, LENGTH = 5, 7
CONFIGS = {
    "redllm": tiny.REDLLM,
    "decllm": tiny.DECLLM,
    "ettin_encoder": tiny.ETTIN_ENCODER,
    "ettin_decoder": tiny.ETTIN_DECODER,
    "llama3": tiny.LLAMA3,
    "t5": tiny.T5,
    "t5gemma": tiny.T5GEMMA,
}


def squares(reference: Reference, config) -> dict[AttentionSite, np.ndarray]:
    """Returns [heads, query, key] of every attention, from what each token saw."""
    found = {}
    seen = iter(reference.seen)
    for side, length in (("encoder", SOURCE if config.num_decoder_layers else LENGTH), ("decoder", LENGTH)):
        for layer in range(config.num_layers(side)):
            window = reference.base_and_window(side, layer)[1]
            for kind, keys in (("attention", length), ("cross_attention", SOURCE)):
                if kind == "cross_attention" and (side == "encoder" or not config.num_encoder_layers):
                    continue
                square = np.zeros((config.num_heads, length, keys))
                for i in range(length):
                    name, weights = next(seen)
                    assert name == kind
                    square[:, i, _visible(i, keys, side, kind, window)] = weights
                found[AttentionSite(side if kind == "attention" else "cross", layer)] = square
    assert next(seen, None) is None
    return found


def _visible(query: int, keys: int, side: str, kind: str, window: int | None) -> list[int]:
    if kind == "cross_attention":
        return list(range(keys))
    near = [key for key in range(keys) if window is None or abs(query - key) <= window]
    return [key for key in near if side == "encoder" or key <= query]


SLOW = ("ettin_decoder", "t5gemma")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in CONFIGS])
def test_equals_the_plain_transcription(name):
    config = CONFIGS[name]
    rng = np.random.default_rng(3)
    source, tokens = (rng.integers(1, config.vocab_size, length, dtype=np.int32) for length in (SOURCE, LENGTH))
    two_sided = config.architecture == "encoder-decoder"
    reference = Reference(config, tiny.parameters(config))
    reference.logits(source if two_sided else None, tokens)
    side = "encoder" if config.architecture == "encoder-only" else "decoder"
    batch = {f"{side}_input_tokens": tokens[None]} | ({"encoder_input_tokens": source[None]} if two_sided else {})
    model = exports.loaded(config)
    found = model.compiled(lambda model, batch: {s: seen.weights for s, seen in observed(model, batch).items()})(batch)
    wanted = squares(reference, config)
    assert set(found) == set(wanted) == set(sites(config))
    for site, square in wanted.items():
        np.testing.assert_allclose(found[site][0], square, atol=2e-5, err_msg=str(site))


def test_the_model_is_as_it_was():
    model = exports.loaded(tiny.DECLLM)
    before = model.model.execution, model.model.decoder.execution
    batch = exports.batch(tiny.DECLLM)
    shapes = jax.eval_shape(lambda: {site: seen.weights for site, seen in observed(model.model, batch).items()})
    rows, length = batch["decoder_input_tokens"].shape
    assert shapes[AttentionSite("decoder", 2)].shape == (rows, 2, length, length)
    assert (model.model.execution, model.model.decoder.execution) == before
    np.testing.assert_array_equal(model.logits(batch), exports.loaded(tiny.DECLLM).logits(batch))
