"""ModernBERT and Ettin encoders against transformers' `ModernBertForMaskedLM`."""

from __future__ import annotations

import numpy as np

from tests.interchange.huggingface import parity

ROPE = {
    "full_attention": {"rope_type": "default", "rope_theta": 1000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
}
BASE = dict(
    vocab_size=parity.VOCAB,
    hidden_size=24,
    intermediate_size=20,
    num_hidden_layers=7,
    num_attention_heads=3,
    local_attention=4,
    rope_parameters=ROPE,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=1,
    cls_token_id=1,
    sep_token_id=1,
)
LAYERS = ["sliding_attention", "full_attention"]
CASES = {
    "as published": BASE,
    "biases, untied": BASE
    | dict(attention_bias=True, mlp_bias=True, norm_bias=True, classifier_bias=True, tie_word_embeddings=False)
    | dict(num_hidden_layers=2, layer_types=LAYERS[::-1]),
    "second layer global, no bias": BASE
    | dict(num_hidden_layers=2, layer_types=LAYERS, decoder_bias=False, local_attention=6, num_attention_heads=4),
}


@parity.first_quick(CASES)
def test_parity(name, tmp_path):
    imported = parity.import_model(parity.make("ModernBertForMaskedLM", "ModernBertConfig", **CASES[name]), tmp_path)
    text = parity.side(1)
    theirs = {"input_ids": text.tokens, "attention_mask": text.real, "position_ids": text.positions}
    parity.check(imported, theirs, {"encoder_input_tokens": text.tokens}, text.real)
    parity.check_round_trip(imported, "modernbert")


def test_published_config_of_ettin(tmp_path):
    """The older spelling of config.json, which the published files have."""
    model = parity.make("ModernBertForMaskedLM", "ModernBertConfig", **BASE)
    imported = parity.import_model(model, tmp_path)
    fields = parity.config_of(tmp_path / "theirs")
    for key in ("rope_parameters", "layer_types"):
        del fields[key]
    fields |= {"global_attn_every_n_layers": 3, "global_rope_theta": 1000.0, "local_rope_theta": 100.0}
    assert parity.network_of(tmp_path / "theirs", fields) == imported.loaded.config


def test_windows_hide_what_is_further_away(tmp_path):
    """A reach of 2 tokens over two layers, both local: a change at one place moves logits at 4 places on each side."""
    options = BASE | dict(num_hidden_layers=2, layer_types=["sliding_attention"] * 2)
    imported = parity.import_model(parity.make("ModernBertForMaskedLM", "ModernBertConfig", **options), tmp_path)
    tokens = np.full((1, parity.LENGTH), 5, np.int32)
    changed = tokens.copy()
    changed[0, 6] = 7
    real = np.ones_like(tokens, bool)
    difference = 0.0
    for one in (tokens, changed):
        parity.check_logits(imported, {"input_ids": one}, {"encoder_input_tokens": one}, real)
        difference = imported.loaded.logits({"encoder_input_tokens": one}) - difference
    moved = np.abs(difference[0]).max(axis=-1) > 1e-5
    assert moved.tolist() == [abs(place - 6) <= 4 for place in range(parity.LENGTH)]
