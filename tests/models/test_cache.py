"""Decoding with a cache against the forward pass over the whole text, in every family."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.models import tiny

WITH_DECODER = [name for name, config in tiny.FAMILIES.items() if config.num_decoder_layers]
OTHERS = {
    "restarted, no cross rope, grouped heads, local": dataclasses.replace(
        tiny.T5GEMMA, num_encoder_layers=1, decoder_sliding_window=None, global_every=3, first_global=0
    ),
    "window of none": dataclasses.replace(tiny.ETTIN_DECODER, num_decoder_layers=2, sliding_window=0, global_every=2),
    "relative bias of each layer": dataclasses.replace(tiny.T5, relative_bias_per_layer=True),
    "relative bias without an encoder": dataclasses.replace(tiny.T5, num_encoder_layers=0),
    "a decoder of its own shape": dataclasses.replace(
        tiny.T5GEMMA,
        decoder_d_model=10,
        decoder_d_ff=14,
        decoder_num_heads=2,
        decoder_num_kv_heads=1,
        decoder_head_dim=8,
    ),
    "side by side, rotated in part, learned norms of queries and keys": dataclasses.replace(
        tiny.REDLLM, num_decoder_layers=2, parallel_residual=True, rope_fraction=0.5, qkv_norm=False, qk_norm="per_head"
    ),
    "bidirectional prefix, extra norms": dataclasses.replace(tiny.DECLLM, attention_output_norm="all_heads"),
}
CONFIGS = {name: tiny.FAMILIES[name] for name in WITH_DECODER} | OTHERS
QUICK = ("redllm", "ettin_decoder", "gpt2", "t5", "t5gemma", "bidirectional prefix, extra norms")
LONGEST, MORE = 7, 6
# Equal to the full pass to 1e-5 of the largest logit.
BOUND = 1e-5


@functools.cache
def compiled(config, counts, execution=tiny.FLOAT32, unrolled=False):
    """Returns a function from a batch of prompts and the tokens after them to logits of all.

    `counts` says how the latter are read: so many tokens at a time, so many times.
    """
    graph, state = tiny.split(config, execution)

    def run(state, batch, more):
        model = nnx.merge(graph, state)
        if unrolled:
            model.unroll()
        hidden, cache = model.prefill(batch, LONGEST + MORE)
        parts, start = [hidden], 0
        for count, steps in counts:
            tokens = more[:, start : start + count * steps].reshape(len(more), steps, count).swapaxes(0, 1)
            cache, hidden = jax.lax.scan(lambda cache, tokens: model.extend(tokens, cache)[::-1], cache, tokens)
            parts.append(hidden.swapaxes(0, 1).reshape(len(more), steps * count, -1))
            start += count * steps
        return model.unembedding().logits(jnp.concatenate(parts, axis=1)), cache

    return functools.partial(tiny.fast_jit(run), state)


def texts(config, lengths, seed=0):
    """Returns documents of `lengths[i] + MORE` tokens, with sources of different lengths."""
    return [tiny.document(config, 2 + 3 * i % 7, n + MORE, seed + i) for i, n in enumerate(lengths)]


def prompts_of(config, documents, prefix=False):
    """Returns the batch of all but the last tokens, prompts ending together, and the last tokens."""
    cut = [tiny.Document(None, d.inputs[:-MORE], d.targets[:-MORE], d.weights[:-MORE]) for d in documents]
    decoder = dataclasses.replace(config, num_encoder_layers=0)
    batch = tiny.lay_out(decoder, [[d] for d in cut], LONGEST, left=set(range(len(cut)))).batch
    if config.num_encoder_layers:
        whole = tiny.lay_out(config, [[d] for d in documents], LONGEST + MORE).batch
        batch |= {name: whole[name] for name in whole if name.startswith("encoder")}
    batch = {name: value for name, value in batch.items() if "target" not in name and "weights" not in name}
    if prefix:
        batch["decoder_causal_attention"] = batch["decoder_segment_ids"]
    return batch, np.stack([d.inputs[-MORE:] for d in documents])


def whole(config, documents, prefix=False, execution=tiny.FLOAT32):
    """Returns logits of the forward pass over whole documents, padded on the right."""
    layout = tiny.lay_out(config, [[d] for d in documents], LONGEST + MORE)
    if prefix:
        seen = [[n < len(d.inputs) - MORE for n in range(LONGEST + MORE)] for d in documents]
        layout.batch["decoder_causal_attention"] = np.array(seen, np.int32)
    logits = tiny.logits(config, layout.batch, execution)
    return [layout.of(logits, index) for index in range(len(documents))]


def assert_equal(
    config, documents, counts=((1, MORE),), prefix=False, execution=tiny.FLOAT32, unrolled=False, bound=BOUND
):
    batch, more = prompts_of(config, documents, prefix)
    logits, cache = compiled(config, counts, execution, unrolled)(batch, more)
    for row, wanted in enumerate(whole(config, documents, prefix, execution)):
        found = np.asarray(logits)[row, -len(wanted) :]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=bound * np.abs(wanted).max())
    return cache


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS]
)
def test_a_token_at_a_time(name):
    config = CONFIGS[name]
    cache = assert_equal(config, texts(config, (4, LONGEST, 1)), prefix="prefix" in name)
    assert int(cache.length) == LONGEST + MORE


@pytest.mark.parametrize("name", ["ettin_decoder", pytest.param("redllm", marks=pytest.mark.slow)])
def test_several_tokens_at_a_time(name):
    """What overwrites a ring is seen by the first of the new tokens, and not by the last."""
    config = CONFIGS[name]
    assert_equal(config, texts(config, (2, LONGEST)), counts=((4, 1), (1, 2)))


@pytest.mark.parametrize("name", ["t5gemma", pytest.param("ettin_decoder", marks=pytest.mark.slow)])
def test_layers_apart_and_layers_looped_over(name):
    config = CONFIGS[name]
    assert_equal(config, texts(config, (3, 5)), counts=((1, 1), (5, 1)), unrolled=True)
    assert_equal(config, texts(config, (3, 5)), execution=dataclasses.replace(tiny.FLOAT32, scan_layers=False))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ettin_decoder", "redllm"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lengths=st.lists(st.integers(1, LONGEST), min_size=3, max_size=3),
    seed=st.integers(0, 1000),
    prefix=st.booleans(),
)
def test_any_prompts_side_by_side(name, lengths, seed, prefix):
    """In float64, where nothing is left to rounding."""
    config = CONFIGS[name]
    with jax.enable_x64(True):
        prefix = prefix and not config.num_encoder_layers
        assert_equal(config, texts(config, lengths, seed), prefix=prefix, execution=tiny.FLOAT64, bound=1e-11)


def test_a_local_layer_keeps_its_window_only():
    config = tiny.ETTIN_DECODER
    cache = assert_equal(config, texts(config, (3, 5)), unrolled=True)
    windows = [spec.mixer.window for spec in config.layer_specs("decoder")]
    slots = [block.mixer.key.shape[2] for block in cache.layers.first]
    assert slots == [LONGEST + MORE if window is None else window + 1 for window in windows]


@pytest.mark.slow
def test_rows_of_a_cache_can_be_chosen():
    """A prompt read once serves several continuations."""
    documents = texts(tiny.REDLLM, (4, 6))
    graph, state = tiny.split(tiny.REDLLM)
    batch, more = prompts_of(tiny.REDLLM, documents)

    def run(state, batch, more):
        model = nnx.merge(graph, state)
        _, cache = model.prefill(batch, LONGEST + MORE)
        hidden, _ = model.extend(more, cache.rows(jnp.array([1, 0, 1])))
        return model.unembedding().logits(hidden)

    found = np.asarray(tiny.fast_jit(run)(state, batch, more[[1, 0, 1]]))
    for row, index in enumerate((1, 0, 1)):
        wanted = whole(tiny.REDLLM, documents)[index][-MORE:]
        np.testing.assert_allclose(found[row], wanted, rtol=0, atol=BOUND * np.abs(wanted).max())
