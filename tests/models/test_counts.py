"""Parameters against real networks and published tables; operations against formulas, brute force and the compiler."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models import tiny
from tests.models.tiny import DECLLM, ETTIN_DECODER, ETTIN_ENCODER, FAMILIES, REDLLM
from triarch.models import Execution, ModelConfig, abstract
from triarch.objectives.losses import loss_fn

# (d_model, d_ff, heads, DecLLM layers, RedLLM layers a side): arXiv 2510.26622, section 3; 32,768 tokens.
# Then parameters of both, and forward operations a sequence of 2048 (figure 2).
REDLLM_SIZES = {
    "150m": (1024, 4096, 8, 8, 3, 167_772_160, 146_800_640, 9.62e11, 4.77e11),
    "1b": (2048, 8192, 16, 16, 7, 1_140_850_688, 1_124_073_472, 5.50e12, 2.76e12),
    "2b": (2560, 10240, 20, 20, 9, 2_181_038_080, 2_207_252_480, 1.014e13, 5.15e12),
    "4b": (3072, 12288, 24, 24, 10, 3_724_541_952, 3_498_049_536, 1.690e13, 7.96e12),
    "8b": (4096, 16384, 32, 32, 14, 8_724_152_320, 8_589_934_592, 3.848e13, 1.886e13),
}
# (layers, hidden, GLU width, heads), then embedding, backbone and all parameters: arXiv 2507.11412, table 1.
ETTIN_SIZES = {
    "17m": (7, 256, 384, 4, 12_894_208, 16_797_440, 16_913_600),
    "32m": (10, 384, 576, 6, 19_341_312, 31_883_136, 32_081_344),
    "68m": (19, 512, 768, 8, 25_788_416, 68_144_640, 68_457_664),
    "150m": (22, 768, 1152, 12, 38_682_624, 149_014_272, 149_655_232),
    "400m": (28, 1024, 2624, 16, 51_576_832, 394_781_696, 395_881_664),
    "1b": (28, 1792, 3840, 28, 90_259_456, 1_028_050_688, 1_031_314_112),
}


def redllm_pair(size):
    d, d_ff, heads, dec, red, *_ = REDLLM_SIZES[size]
    shape = {"vocab_size": 32_768, "d_model": d, "d_ff": d_ff, "num_heads": heads, "head_dim": 128}
    decllm = dataclasses.replace(DECLLM, **shape, num_decoder_layers=dec)
    return decllm, dataclasses.replace(REDLLM, **shape, num_encoder_layers=red, num_decoder_layers=red)


def ettin_pair(size):
    layers, d, d_ff, heads, *_ = ETTIN_SIZES[size]
    shape = {"vocab_size": 50_368, "d_model": d, "d_ff": d_ff, "num_heads": heads, "head_dim": 64, "sliding_window": 64}
    encoder = dataclasses.replace(ETTIN_ENCODER, **shape, num_encoder_layers=layers)
    return encoder, dataclasses.replace(ETTIN_DECODER, **shape, num_decoder_layers=layers)


def actual_params(config):
    _, state = nnx.split(abstract(config, tiny.FLOAT32))
    return sum(leaf.size for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("size", REDLLM_SIZES)
def test_redllm_and_decllm_have_the_published_parameters_and_operations(size):
    *_, dec_params, red_params, dec_flops, red_flops = REDLLM_SIZES[size]
    decllm, redllm = redllm_pair(size)
    assert (decllm.num_params(), redllm.num_params()) == (dec_params, red_params)
    assert decllm.num_params_non_embedding() == dec_params - 32_768 * decllm.d_model
    np.testing.assert_allclose(decllm.flops(0, 2048, "paper"), dec_flops, rtol=2e-3)
    np.testing.assert_allclose(redllm.flops(1024, 1024, "paper"), red_flops, rtol=2e-3)


@pytest.mark.parametrize("size", REDLLM_SIZES)
def test_paper_operations_are_the_formula_exactly(size):
    d, d_ff, _, dec, red, *_ = REDLLM_SIZES[size]
    decllm, redllm = redllm_pair(size)
    vocab, t, k, layer = 32_768, 2048, 1024, 4 * d**2 + 3 * d * d_ff
    assert decllm.flops(0, t, "paper") == 2 * t * (dec * layer + 2 * vocab * d) + 4 * dec * t**2 * d
    assert redllm.flops(k, k, "paper") == (
        2 * k * red * layer + 2 * k * red * (layer + 4 * d**2) + 2 * k * 3 * vocab * d + 3 * 4 * red * k**2 * d
    )


@pytest.mark.parametrize("size", ETTIN_SIZES)
def test_ettin_has_the_published_parameters(size):
    *_, embedding, backbone, everything = ETTIN_SIZES[size]
    for config in ettin_pair(size):
        assert config.num_params() == everything
        assert config.num_params() - config.num_params_non_embedding() == embedding
        assert dataclasses.replace(config, prediction_head=False, logits_bias=False).num_params() == backbone


@pytest.mark.parametrize("config", [redllm_pair("8b")[1], redllm_pair("1b")[0], *ettin_pair("150m")])
def test_published_networks_hold_what_is_counted(config):
    assert config.num_params() == actual_params(config)


VARIANTS = [
    *FAMILIES.values(),
    dataclasses.replace(REDLLM, norm_scale="gain", num_heads=6, num_kv_heads=3, gated_mlp=False),
    dataclasses.replace(ETTIN_ENCODER, num_decoder_layers=4, embedding_norm=False, first_attention_norm=True),
    dataclasses.replace(DECLLM, prediction_head=True, embedding_norm=True, num_decoder_layers=1),
    dataclasses.replace(tiny.T5GEMMA, norm_position="output", qk_norm="all_heads"),
    dataclasses.replace(ETTIN_DECODER, qk_norm="per_head", norm_bias=True),
    dataclasses.replace(
        tiny.T5GEMMA,
        decoder_d_model=10,
        decoder_d_ff=14,
        decoder_num_heads=6,
        decoder_head_dim=4,
        tied_embeddings=False,
    ),
    dataclasses.replace(tiny.BART, decoder_num_heads=2, decoder_head_dim=6, prediction_head=True),
]


@pytest.mark.parametrize("config", VARIANTS)
def test_every_variant_holds_what_is_counted(config):
    assert config.num_params() == actual_params(config)


def visible_pairs(config, num_layers, length, causal):
    """Query-key pairs of a stack, counted one by one."""
    pairs = 0
    window = config.decoder_sliding_window if causal and config.decoder_sliding_window else config.sliding_window
    for layer in range(num_layers):
        local = config.sliding_window is not None and layer % config.global_every != config.first_global
        for query in range(length):
            for key in range(length):
                near = not local or abs(query - key) <= window
                pairs += near and (key <= query or not causal)
    return pairs


@pytest.mark.parametrize("config", VARIANTS)
@pytest.mark.parametrize(("source", "target"), [(5, 11), (1, 1), (13, 2)])
def test_train_operations_count_visible_pairs_only(config, source, target):
    width, decoder_width = (own.num_heads * own.head_dim for own in map(config.of_side, ("encoder", "decoder")))
    attended = width * visible_pairs(config, config.num_encoder_layers, source, causal=False)
    pairs = visible_pairs(config, config.num_decoder_layers, target, causal=True)
    if config.architecture == "encoder-decoder":
        pairs += config.num_decoder_layers * source * target
    attended += decoder_width * pairs
    matrices = 0
    for path, value in tiny.parameters(config).items():
        looked_up = path[-1] in ("positions", "types", "encoder_table")
        looked_up |= path[-1] == "table" and not config.tied_embeddings
        if path[-1] == "scale" or path[-1].endswith("bias") or looked_up:
            continue
        uses = source if path[0] == "encoder" or config.architecture == "encoder-only" else target
        if path[-2:] in (("cross_attention", "key"), ("cross_attention", "value")):
            uses = source
        matrices += uses * value.size
    assert config.flops(source, target, "train") == 3 * (2 * matrices + 4 * attended)


@pytest.mark.parametrize("family", ["redllm", "decllm", "ettin_encoder"])
def test_train_operations_are_those_the_compiler_counts(family):
    """Within 4 %, for a network wide enough that norms, softmax and activations weigh little.

    The program computes the whole attention square, so that the hidden half is added to what "train" counts.
    The compiler's count holds elementwise operations besides, hence the tolerance on one side only.
    """
    config = dataclasses.replace(
        FAMILIES[family], vocab_size=2048, d_model=256, d_ff=1024, num_heads=4, head_dim=64, num_kv_heads=None
    )
    config = dataclasses.replace(
        config, **{f: 2 for f in ("num_encoder_layers", "num_decoder_layers") if getattr(config, f)}
    )
    length, rows = 64, 2
    side = "encoder" if config.architecture == "encoder-only" else "decoder"
    ints = jax.ShapeDtypeStruct((rows, length), jnp.int32)
    batch = {f"{side}_input_tokens": ints, f"{side}_target_tokens": ints}
    batch[f"{side}_loss_weights"] = jax.ShapeDtypeStruct((rows, length), jnp.float32)
    if config.architecture == "encoder-decoder":
        batch["encoder_input_tokens"] = ints
    graph, state = nnx.split(abstract(config, Execution(compute_dtype="float32", scan_layers=False)))

    def loss(state, batch):
        return loss_fn(nnx.merge(graph, state), batch, z_loss=0.0, chunk=0)[0]

    counted = jax.jit(jax.value_and_grad(loss)).lower(state, batch).cost_analysis()["flops"]
    layers = (config.num_encoder_layers, config.num_decoder_layers)
    hidden_pairs = sum(
        n * length**2 - visible_pairs(config, n, length, causal)
        for n, causal in zip(layers, (False, True), strict=True)
    )
    expected = config.flops(length, length, "train") + 3 * 4 * hidden_pairs * 256
    assert 1 <= counted / (rows * expected) < 1.04


def test_conventions_differ_by_the_backward_pass_lookups_and_the_hidden_half():
    config, length = DECLLM, 32
    half = 4 * config.num_decoder_layers * (length**2 - length) / 2 * config.num_heads * config.head_dim
    lookups = 2 * length * config.vocab_size * config.d_model
    assert config.flops(0, length, "train") == 3 * (config.flops(0, length, "paper") - half - lookups)


def test_an_encoder_ignores_the_decoder_length():
    assert ETTIN_ENCODER.flops(16, 99, "train") == ETTIN_ENCODER.flops(16, 0, "train")
    assert DECLLM.flops(99, 16, "train") == DECLLM.flops(0, 16, "train")
    assert isinstance(DECLLM, ModelConfig)
