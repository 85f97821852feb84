"""Gemma 3's text side against transformers' `Gemma3ForCausalLM`."""

from __future__ import annotations

import numpy as np

from tests.interchange.huggingface import parity

LINEAR = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1000.0, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
}
BASE = dict(
    vocab_size=parity.VOCAB,
    hidden_size=24,
    intermediate_size=28,
    num_hidden_layers=7,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=6,
    sliding_window=3,
    query_pre_attn_scalar=9,
    max_position_embeddings=64,
)
CASES = {
    "as published": BASE,
    "linear scaling, second layer global, caps": BASE
    | dict(rope_parameters=LINEAR, num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"])
    | dict(final_logit_softcapping=5.0),
    "global layers only, biases, untied": BASE
    | dict(num_hidden_layers=1, layer_types=["full_attention"], attention_bias=True, tie_word_embeddings=False),
}


@parity.first_quick(CASES)
def test_parity(name, tmp_path):
    imported = parity.import_model(parity.make("Gemma3ForCausalLM", "Gemma3TextConfig", **CASES[name]), tmp_path)
    text = parity.side(1)
    theirs = {"input_ids": text.tokens, "attention_mask": text.real, "position_ids": text.positions}
    ours = {"decoder_input_tokens": text.tokens, "decoder_segment_ids": text.segments}
    parity.check(imported, theirs, ours, text.real)
    parity.check_round_trip(imported, "gemma3")


def test_packed(tmp_path):
    options = BASE | dict(num_hidden_layers=1)
    imported = parity.import_model(parity.make("Gemma3ForCausalLM", "Gemma3TextConfig", **options), tmp_path)
    tokens, segments, positions = parity.packed()
    ours = {"decoder_input_tokens": tokens, "decoder_segment_ids": segments}
    parity.check_logits(imported, {"input_ids": tokens, "position_ids": positions}, ours, np.ones_like(segments, bool))


def test_published_config(tmp_path):
    """The older spelling of config.json, which the published files have."""
    options = BASE | dict(rope_parameters=LINEAR)
    imported = parity.import_model(parity.make("Gemma3ForCausalLM", "Gemma3TextConfig", **options), tmp_path)
    fields = parity.config_of(tmp_path / "theirs")
    for key in ("rope_parameters", "layer_types"):
        del fields[key]
    older = {"rope_theta": 1000.0, "rope_local_base_freq": 100.0, "sliding_window_pattern": 6}
    older |= {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    assert parity.network_of(tmp_path / "theirs", fields | older) == imported.loaded.config
