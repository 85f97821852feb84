"""What a config says about itself, and one-line complaints about what makes no network."""

import dataclasses
import math

import pytest

from tests.models.tiny import DECLLM, ETTIN_DECODER, ETTIN_ENCODER, FAMILIES, REDLLM
from triarch.errors import UserError
from triarch.models.attention.attention_parts import SelfAttention
from triarch.models.attention.rope import Rope, RopeScaling
from triarch.models.layers.dense import Dense
from triarch.models.layers.layer import LayerSpec


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_whole_families_are_valid(config):
    config.validate()


def test_the_architecture_follows_from_the_layers():
    assert [c.architecture for c in (REDLLM, DECLLM, ETTIN_ENCODER, ETTIN_DECODER)] == [
        "encoder-decoder",
        "decoder-only",
        "encoder-only",
        "decoder-only",
    ]


def test_ettin_layers_alternate():
    """Layer i is global if and only if i % 3 == 0; the first has no norm; bases differ (arXiv 2507.11412)."""
    far = LayerSpec(SelfAttention(None, Rope(160_000.0)), Dense())
    near = LayerSpec(SelfAttention(2, Rope(10_000.0)), Dense())
    first = dataclasses.replace(far, mixer_norm=False)
    assert ETTIN_ENCODER.layer_specs("encoder") == (first, near, near, far, near, near, far)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_model": 0}, "d_model = 0: expected"),
        ({"vocab_size": -1}, "vocab_size = -1: expected"),
        ({"num_encoder_layers": 0, "num_decoder_layers": 0}, "num_decoder_layers = 0 must be positive where num_enc"),
        ({"num_encoder_layers": -1}, "num_encoder_layers = -1: expected"),
        ({"num_kv_heads": 3}, "num_kv_heads = 3 must divide num_heads = 2"),
        ({"num_kv_heads": 0}, "num_kv_heads = 0 must divide num_heads = 2"),
        ({"num_kv_heads": -2}, "num_kv_heads = -2 must divide num_heads = 2"),
        ({"head_dim": 7}, "head_dim = 7 must be even"),
        ({"global_every": 0}, "global_every = 0: expected"),
        ({"sliding_window": -1}, "sliding_window = -1: expected"),
        ({"local_rope_base": 0.0}, "local_rope_base = 0.0: expected"),
        ({"local_rope_base": 9.0}, "local_rope_base = 9.0 has no effect without sliding_window"),
        ({"global_every": 2, "first_global": 2}, "first_global = 2 must be below global_every = 2"),
        ({"norm_bias": True}, "norm_bias = True goes with norm = 'layernorm' only"),
        ({"norm_scale": "gains"}, "norm_scale = 'gains' (did you mean 'gain'?)"),
        ({"norm_position": "post", "first_attention_norm": False}, "first_attention_norm = False goes with norm_posi"),
        ({"position_encoding": "learned"}, "learned_positions = None must be set for position_encoding = 'learned'"),
        (
            {"position_encoding": "learned", "learned_positions": 9},
            "decoder_positions = 'continuous' goes beyond a table of learned_positions: use 'restart'",
        ),
        ({"learned_positions": 9}, "learned_positions = 9 goes with position_encoding = 'learned' only"),
        ({"position_encoding": "relative_bias", "relative_buckets": 2}, "relative_buckets = 2 must be at least 4"),
        ({"position_encoding": "relative_bias", "relative_max_distance": 8}, "relative_max_distance = 8 must exceed"),
        ({"attention_softcap": 0.0}, "attention_softcap = 0.0: expected"),
        ({"prediction_head_bias": True}, "prediction_head_bias = True has no effect without prediction_head"),
        ({"pad_id": 61}, "pad_id = 61 must be below vocab_size = 61"),
        ({"activation": "gelutanh"}, "activation = 'gelutanh' (did you mean 'gelu_tanh'?)"),
        ({"norm": "layer_norm"}, "norm = 'layer_norm' (did you mean 'layernorm'?)"),
        ({"attention_output_norm": "perhead"}, "attention_output_norm = 'perhead' (did you mean 'per_head'?)"),
        ({"decoder_positions": "continue"}, "decoder_positions = 'continue' (did you mean 'continuous'?)"),
        ({"embedding_scale": "sqrt_d"}, "embedding_scale = 'sqrt_d' (did you mean 'sqrt_d_model'?)"),
        ({"logits_scale": "sqrt_d_model"}, "logits_scale = 'sqrt_d_model' (did you mean 'rsqrt_d_model'?)"),
        ({"num_kv_heads": 1.0}, "num_kv_heads = 1.0: expected"),
        ({"num_heads": True}, "num_heads = True: expected"),
        ({"head_dim": "8"}, "head_dim = '8': expected"),
        ({"pad_id": 1.5}, "pad_id = 1.5: expected"),
        ({"mlp_bias": 1}, "mlp_bias = 1: expected"),
        ({"rope_base": math.inf}, "rope_base = inf: expected"),
        ({"norm_eps": math.nan}, "norm_eps = nan: expected"),
        ({"attention_scale": math.nan}, "attention_scale = nan: expected"),
        ({"rope_scaling": RopeScaling(0.0, 1.0, 4.0, 8)}, "rope_scaling = RopeScaling(factor=0.0, low_freq_factor=1.0"),
        ({"rope_scaling": RopeScaling(math.nan, 1.0, 4.0, 8)}, "rope_scaling = RopeScaling(factor=nan"),
        ({"rope_scaling": RopeScaling("8", 1.0, 4.0, 8)}, "rope_scaling = RopeScaling(factor='8'"),
        ({"rope_scaling": RopeScaling(8.0, 4.0, 4.0, 8)}, "rope_scaling = RopeScaling(factor=8.0, low_freq_factor=4.0"),
        ({"qk_norm": "perhead"}, "qk_norm = 'perhead' (did you mean 'per_head'?)"),
        ({"qk_norm": "per_head"}, "qk_norm = 'per_head' goes with qkv_norm = False only"),
        (
            {"rope_scaling": RopeScaling(2.0, kind="yarm")},
            "rope_scaling: RopeScaling.kind = 'yarm' (did you mean 'yarn'?)",
        ),
        ({"rope_scaling": "yarn"}, "rope_scaling = 'yarn': expected @RopeScaling() or None"),
        ({"rope_scaling": RopeScaling(2.0, kind="dynamic")}, "rope_scaling = RopeScaling(factor=2.0, low_freq_factor="),
        ({"decoder_num_kv_heads": 0}, "decoder_num_kv_heads = 0: expected"),
        ({"decoder_head_dim": 3}, "head_dim = 3 must be even: rotation is of pairs (of the decoder)"),
        ({"decoder_d_model": 12}, "shared_embeddings = True goes with sides of one d_model"),
        (
            {"decoder_num_heads": 4, "num_kv_heads": 2, "decoder_num_kv_heads": 3},
            "num_kv_heads = 3 must divide num_heads = 4 (of",
        ),
        ({"decoder_d_ff": -1}, "decoder_d_ff = -1: expected"),
        ({"decoder_d_ff": 1.5}, "decoder_d_ff = 1.5: expected"),
        ({"decoder_d_ff": 12, "num_encoder_layers": 0}, "decoder_d_ff = 12 goes with an encoder and a decoder"),
        ({"rope_fraction": 0.0}, "rope_fraction = 0.0: expected"),
        ({"rope_fraction": 1.5}, "rope_fraction = 1.5: expected at most 1"),
        ({"rope_fraction": 0.4}, "rope_fraction = 0.4 must make an even part of head_dim = 8"),
        ({"rope_fraction": 0.5, "position_encoding": "none"}, "rope_fraction = 0.5 goes with position_encoding = 'rot"),
        ({"parallel_residual": True, "norm_position": "post"}, "parallel_residual = True does not go with norm_posit"),
        ({"kernel_init": "xyz"}, "kernel_init = 'xyz' (one of: fan_in, fixed)"),
    ],
)
def test_what_makes_no_network_is_named_in_one_line(change, message):
    with pytest.raises(UserError) as caught:
        dataclasses.replace(REDLLM, **change).validate()
    assert str(caught.value).startswith(f"ModelConfig.{message}")
    assert "\n" not in str(caught.value)
