"""Recurrent mixers against float64 loops over tokens, and in every place of the three architectures."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models import tiny
from tests.models.test_cache import assert_equal, texts
from tests.models.test_counts import actual_params
from tests.models.tiny import DECLLM, REDLLM
from triarch.errors import UserError
from triarch.models import Execution, abstract
from triarch.models.attention.masks import Mask
from triarch.models.attention.positions import rotary_angles
from triarch.models.layers.context import StackContext
from triarch.models.recurrent import decayed
from triarch.models.recurrent.mamba2 import Mamba2
from triarch.models.recurrent.retention import Retention
from triarch.models.recurrent.rwkv import RwkvChannelMix, RwkvTimeMix

MAMBA2 = Mamba2(state_dim=5, num_heads=4, head_dim=6, num_groups=2, chunk_size=3)
BODY = {"position_encoding": "none", "norm_scale": "gain"}
CONFIGS = {
    "mamba2": dataclasses.replace(DECLLM, mixer=MAMBA2, d_ff=0, **BODY),
    "mamba2 and attention": dataclasses.replace(DECLLM, mixer=MAMBA2, attention_layers=(1,)),
    "mamba2, both ways": dataclasses.replace(DECLLM, mixer=MAMBA2, num_encoder_layers=2, num_decoder_layers=0),
    "mamba2 in RedLLM": dataclasses.replace(REDLLM, mixer=MAMBA2, num_decoder_layers=2),
    "rwkv": dataclasses.replace(DECLLM, mixer=RwkvTimeMix(), feed_forward=RwkvChannelMix(), **BODY),
    "rwkv in RedLLM": dataclasses.replace(REDLLM, mixer=RwkvTimeMix(), num_decoder_layers=2),
    "retention": dataclasses.replace(DECLLM, mixer=Retention(chunk_size=4), **BODY),
    "retention in RedLLM": dataclasses.replace(
        REDLLM, mixer=Retention(value_dim=6, chunk_size=3), num_decoder_layers=2
    ),
}
DECODERS = [name for name, config in CONFIGS.items() if config.num_decoder_layers]
LENGTH = 11


def cases(names):
    """Parametrises a test by configs, all but one of each mixer left to `make slow-test`."""
    quick = ("mamba2", "rwkv", "retention", "mamba2, both ways")
    return pytest.mark.parametrize(
        "name", [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]
    )


@cases(DECODERS)
def test_prompt_and_tokens_are_the_whole_text(name):
    with jax.enable_x64(True):
        counts = ((1, 1), (4, 1), (1, 1))
        assert_equal(CONFIGS[name], texts(CONFIGS[name], (4, 7, 1)), counts, execution=tiny.FLOAT64, bound=1e-11)


@pytest.mark.slow
@cases(CONFIGS)
def test_packed_is_separate(name):
    """Outputs and gradients of three documents in a row, behind padding, are those of a row for each, in float64."""
    config = CONFIGS[name]
    side = "encoder" if config.architecture == "encoder-only" else "decoder"

    def loss(state, batch):
        logits = nnx.merge(graph, state)(batch)
        losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), batch[f"{side}_target_tokens"][..., None], -1)
        return jnp.sum(losses[..., 0] * batch[f"{side}_loss_weights"]), logits

    made = tiny.documents(config)
    packed, separate = tiny.lay_out(config, [made], length=21, left=[0]), tiny.lay_out(config, [[one] for one in made])
    with jax.enable_x64(True):
        graph, state = tiny.split(config, tiny.FLOAT64)
        run = tiny.fast_jit(jax.value_and_grad(loss, has_aux=True))
        (_, logits), slopes = run(state, packed.batch)
        (_, alone), wanted = run(state, separate.batch)
    for index in range(len(made)):
        one = separate.of(alone, index)
        np.testing.assert_allclose(packed.of(logits, index), one, rtol=0, atol=1e-10 * np.abs(one).max())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * np.abs(b).max()), slopes, wanted)


@cases([name for name in DECODERS if CONFIGS[name].architecture == "decoder-only"])
def test_no_token_sees_a_later_one(name):
    config = CONFIGS[name]
    tokens = np.random.default_rng(0).integers(1, config.vocab_size, (1, LENGTH), dtype=np.int32)
    before = tiny.logits(config, {"decoder_input_tokens": tokens})
    for place in (1, 4, 9):
        changed = tokens.copy()
        changed[0, place] = changed[0, place] % 50 + 1
        after = tiny.logits(config, {"decoder_input_tokens": changed})
        np.testing.assert_array_equal(before[0, :place], after[0, :place])
        assert (np.abs(before - after)[0, place:].max(-1) > 1e-6).all()


def test_an_encoders_token_sees_both_sides_and_their_order():
    config = CONFIGS["mamba2, both ways"]
    tokens = np.random.default_rng(0).integers(1, config.vocab_size, (1, LENGTH), dtype=np.int32)
    before = tiny.logits(config, {"encoder_input_tokens": tokens})
    changed = tokens.copy()
    changed[0, 5] = changed[0, 5] % 50 + 1
    after = tiny.logits(config, {"encoder_input_tokens": changed})
    assert (np.abs(before - after).max(-1) > 1e-6).all()
    turned = tiny.logits(config, {"encoder_input_tokens": tokens[:, ::-1]})[:, ::-1]
    assert np.abs(turned - before).max() > 1e-2


@cases(CONFIGS)
def test_parameters_are_counted(name):
    CONFIGS[name].validate()
    assert CONFIGS[name].num_params() == actual_params(CONFIGS[name])


def by_token(values, keys, queries, log_decay, state, continues):
    """The recurrence of `decayed`, token by token."""
    outputs = []
    repeats = values.shape[2] // keys.shape[2]
    for t in range(values.shape[1]):
        decay = np.exp(log_decay[:, t]) * continues[:, t, None]
        k, q = (np.repeat(x[:, t], repeats, axis=1) for x in (keys, queries))
        state = decay[..., None, None] * state + values[:, t][..., None] * k[:, :, None]
        outputs.append(np.einsum("bhpn,bhn->bhp", state, q))
    return np.stack(outputs, axis=1), state


@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_chunks_are_the_recurrence(chunk):
    """Chunked, recurrent (one token a chunk) and parallel (one chunk), from a state on, over documents' beginnings."""
    rng = np.random.default_rng(0)
    values, state = rng.normal(size=(2, LENGTH, 4, 3)), rng.normal(size=(2, 4, 3, 5))
    keys, queries = rng.normal(size=(2, 2, LENGTH, 2, 5))
    log_decay = -rng.exponential(1.0, (2, LENGTH, 4))
    continues = rng.random((2, LENGTH)) < 0.7
    continues[:, 0] = [True, False]
    expected = by_token(values, keys, queries, log_decay, state, continues)
    with jax.enable_x64(True):
        found = decayed.decayed(values, keys, queries, jnp.asarray(log_decay), state, jnp.asarray(continues), chunk)
        first = decayed.step(*(jnp.asarray(x[:, 4:5]) for x in (values, keys, queries, log_decay)), jnp.asarray(state))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * np.abs(other).max())
    alone = by_token(*(x[:, 4:5] for x in (values, keys, queries, log_decay)), state, np.ones((2, 1), bool))
    for one, other in zip(first, alone, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * np.abs(other).max())


def mamba2_by_token(p, config, x):
    """Equations of arXiv 2405.21060 for one text, token by token; `p` are the parameters by name."""
    heads, groups = p["skip"].size, config.mixer.num_groups
    state, outputs = 0.0, []
    projected = {name: x @ p[name] for name in ("gate", "value", "key", "query", "step")}
    for t in range(len(x)):
        inputs = {}
        for name in ("value", "key", "query"):
            taps = [p[f"{name}_conv"][-1 - back] * projected[name][t - back] for back in range(min(t + 1, 4))]
            inputs[name] = jax.nn.silu(sum(taps) + p[f"{name}_conv_bias"])
        step = jnp.log1p(jnp.exp(projected["step"][t] + p["step_bias"]))
        b, c = (jnp.repeat(inputs[name].reshape(groups, -1), heads // groups, axis=0) for name in ("key", "query"))
        v = inputs["value"].reshape(heads, -1)
        decay = jnp.exp(-jnp.exp(p["log_decay"]) * step)
        state = decay[:, None, None] * state + (step[:, None] * v)[:, :, None] * b[:, None, :]
        y = (state * c[:, None, :]).sum(-1) + p["skip"][:, None] * v
        gated = (y.reshape(-1) * jax.nn.silu(projected["gate"][t])).reshape(groups, -1)
        normed = gated / jnp.sqrt((gated**2).mean(-1, keepdims=True) + 1e-6)
        outputs.append((normed.reshape(-1) * p["norm"]) @ p["output"])
    return jnp.stack(outputs)


def rwkv_by_token(p, config, x):
    """Equations 11 to 14 of arXiv 2305.13048: weighted averages, each written out as the sums that it is."""
    before = jnp.pad(x[:-1], ((1, 0), (0, 0)))

    def projected(name):
        return (p[f"mix_{name}"] * x + (1 - p[f"mix_{name}"]) * before) @ p[name]

    key, value, gate = projected("key"), projected("value"), jax.nn.sigmoid(projected("receptance"))
    outputs = []
    for t in range(len(x)):
        away = jnp.arange(t - 1, -1, -1)[:, None]
        weights = jnp.concatenate([jnp.exp(key[:t] - away * jnp.exp(p["decay"])), jnp.exp(p["bonus"] + key[t])[None]])
        outputs.append((weights * value[: t + 1]).sum(0) / weights.sum(0))
    return (gate * jnp.stack(outputs)) @ p["output"]


def retention_by_token(p, config, x):
    """Equations 1 to 8 of arXiv 2307.08621 in the recurrent form, the rotation as complex numbers."""
    heads, half = config.num_heads, config.head_dim // 2
    turns = jnp.exp(1j * jnp.arange(len(x))[:, None] * 10_000.0 ** -(jnp.arange(half) / half))
    query, key, value = ((x @ p[name]).reshape(len(x), heads, -1) for name in ("query", "key", "value"))
    query, key = ((y[..., :half] + 1j * y[..., half:]) * turns[:, None] for y in (query, key))
    decay = (1 - 2.0 ** (-5 - jnp.arange(heads)))[:, None, None]
    state, outputs = 0.0, []
    for t in range(len(x)):
        state = decay * state + key[t][:, :, None] * value[t][:, None, :] / config.head_dim**0.5
        read = (query[t][:, :, None].conj() * state).sum(1).real
        normed = read / jnp.sqrt((read**2).mean(-1, keepdims=True) + 1e-6)
        outputs.append((jax.nn.silu(x[t] @ p["gate"]) * normed.reshape(-1)) @ p["output"])
    return jnp.stack(outputs)


LOOPS = {"mamba2": mamba2_by_token, "rwkv": rwkv_by_token, "retention": retention_by_token}


@cases(LOOPS)
def test_outputs_and_gradients_are_those_of_a_loop_over_tokens(name):
    config = CONFIGS[name]
    with jax.enable_x64(True):
        graph, state = nnx.split(nnx.merge(*tiny.split(config, tiny.FLOAT64)).decoder.scanned[0].mixer)
        one = {path[0]: value[...][0] for path, value in nnx.to_flat_state(state)}
        x = jnp.asarray(np.random.default_rng(3).normal(size=(LENGTH, config.d_model)))
        weights = np.random.default_rng(4).normal(size=x.shape)
        rope = config.mixer.rope
        angles = {} if rope is None else {rope: rotary_angles(jnp.arange(LENGTH)[None], config.head_dim, rope)}
        context = StackContext(attend=None, mask=Mask(causal=True), angles=angles)

        def ours(p, x):
            own = nnx.from_flat_state([(path, value.replace(p[path[0]])) for path, value in nnx.to_flat_state(state)])
            return nnx.merge(graph, own)(x[None], context)[0]

        def run(mix):
            def weighed(p, x):
                y = mix(p, x)
                return jnp.sum(y * weights), y

            return tiny.fast_jit(jax.value_and_grad(weighed, (0, 1), has_aux=True))(one, x)

        found, wanted = run(ours), run(lambda p, x: LOOPS[name](p, config, x))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * np.abs(b).max()), found, wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_groups": 3}, "Mamba2.num_groups = 3 must divide the 4 heads"),
        ({"chunk_size": 0}, "Mamba2.chunk_size = 0: expected a whole number from 1 on"),
        ({"chunk_size": 2.5}, "Mamba2.chunk_size = 2.5: expected a whole number from 1 on"),
        ({"least_step": 0.2, "greatest_step": 0.1}, "Mamba2.greatest_step = 0.1 must be above least_step = 0.2"),
        ({"head_dim": 0}, "Mamba2.head_dim = 0: expected a whole number"),
    ],
)
def test_what_makes_no_mixer_is_refused(change, message):
    config = dataclasses.replace(CONFIGS["mamba2"], mixer=dataclasses.replace(MAMBA2, **change))
    with pytest.raises(UserError, match=message):
        config.validate()


def test_a_decoder_that_only_looks_back_is_not_read_both_ways():
    tokens = np.ones((1, 4), np.int32)
    message = "inputs are to be read in both directions: Mamba2 layers of a decoder read from left to right only"
    with pytest.raises(UserError, match=message):
        tiny.logits(CONFIGS["mamba2"], {"decoder_input_tokens": tokens, "decoder_causal_attention": tokens})


def test_retention_rotates_pairs():
    with pytest.raises(UserError, match=r"ModelConfig.head_dim = 7 must be even: Retention rotates pairs"):
        dataclasses.replace(CONFIGS["retention"], head_dim=7).validate()


def test_rwkv_begins_layer_by_layer():
    """As in the published code: decays and shares are functions of the layer's depth."""
    config = dataclasses.replace(CONFIGS["rwkv"], num_decoder_layers=3)
    model = nnx.merge(*tiny.fresh(config))
    mixer = model.decoder.scanned[0].time_mix
    channel = np.arange(16) / 15
    for layer, depth in enumerate((0.0, 0.5, 1.0)):
        wanted = -5 + 8 * channel ** (0.7 + 1.3 * depth)
        np.testing.assert_allclose(mixer.decay[...][layer], wanted, rtol=1e-5)
        wanted = (np.arange(16) / 16) ** (1 - layer / 3)
        np.testing.assert_allclose(mixer.mix_value[...][layer], wanted + 0.3 * depth, rtol=1e-5)


@pytest.mark.parametrize(
    "mixer", [Mamba2(state_dim=64, num_heads=8, head_dim=64, chunk_size=64), Retention(chunk_size=64), RwkvTimeMix()]
)
def test_operations_are_those_the_compiler_counts(mixer):
    """Of whole squares of chunks; the compiler also counts what is no product of matrices."""
    sizes = {"d_model": 256, "num_heads": 4, "head_dim": 64, "d_ff": 512, "num_decoder_layers": 2}
    config = dataclasses.replace(DECLLM, **sizes, mixer=mixer)
    length = 256
    graph, state = nnx.split(abstract(config, Execution("float32", scan_layers=False)))
    tokens = {"decoder_input_tokens": jax.ShapeDtypeStruct((1, length), jnp.int32)}
    run = jax.jit(lambda state, batch: nnx.merge(graph, state)(batch))
    counted = run.lower(state, tokens).cost_analysis()["flops"]
    lookups = 2 * length * config.d_model * config.vocab_size
    assert 1 <= counted / (config.flops(0, length, "paper") - lookups) < 1.05
