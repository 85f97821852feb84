"""T5Gemma against transformers' `T5GemmaForConditionalGeneration`."""

from __future__ import annotations

import pytest

from tests.interchange.huggingface import parity

SIDE = dict(
    vocab_size=parity.VOCAB,
    hidden_size=24,
    intermediate_size=28,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=6,
    sliding_window=3,
    query_pre_attn_scalar=9,
    attn_logit_softcapping=3.0,
    final_logit_softcapping=5.0,
    rope_parameters={"rope_type": "default", "rope_theta": 100.0},
)
CASES = {
    "as published": (SIDE, {}),
    "biases, no caps, untied": (
        SIDE
        | dict(attention_bias=True, attn_logit_softcapping=None, final_logit_softcapping=None, num_key_value_heads=1)
        | dict(num_hidden_layers=1),
        {"tie_word_embeddings": False},
    ),
    "a decoder of its own shape": (
        SIDE | dict(num_hidden_layers=2),
        {"decoder": dict(hidden_size=20, intermediate_size=22, num_hidden_layers=2, num_attention_heads=2, head_dim=8)},
    ),
    "global layers only": (SIDE | dict(num_hidden_layers=2, layer_types=["full_attention"] * 2, head_dim=4), {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_parity(name, tmp_path):
    one, options = CASES[name]
    decoder = one | options.get("decoder", {})
    config = dict(vocab_size=parity.VOCAB) | options | dict(encoder=dict(one), decoder=decoder)
    model = parity.make("T5GemmaForConditionalGeneration", "T5GemmaConfig", **config)
    imported = parity.import_model(model, tmp_path)
    source, target = parity.side(1), parity.side(2, length=9)
    theirs = {"input_ids": source.tokens, "attention_mask": source.real, "position_ids": source.positions}
    theirs |= {"decoder_input_ids": target.tokens, "decoder_attention_mask": target.real}
    theirs |= {"decoder_position_ids": target.positions}
    ours = {"encoder_input_tokens": source.tokens, "decoder_input_tokens": target.tokens}
    parity.check(imported, theirs, ours | {"decoder_segment_ids": target.segments}, target.real)
    parity.check_round_trip(imported, "t5gemma")
