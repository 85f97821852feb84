"""Llama, Llama 3 and SmolLM2 against transformers' `LlamaForCausalLM`."""

from __future__ import annotations

import numpy as np

from tests.interchange.huggingface import parity

BASE = dict(
    vocab_size=parity.VOCAB,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    max_position_embeddings=64,
    pad_token_id=0,
)
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
CASES = {
    "groups, untied": BASE,
    "llama3 scaling, tied": BASE | dict(rope_parameters=LLAMA3, tie_word_embeddings=True, num_key_value_heads=3),
    "biases, wide heads": BASE | dict(attention_bias=True, mlp_bias=True, head_dim=6, num_key_value_heads=1),
}


@parity.first_quick(CASES)
def test_parity(name, tmp_path):
    imported = parity.import_model(parity.make("LlamaForCausalLM", "LlamaConfig", **CASES[name]), tmp_path)
    text = parity.side(1)
    theirs = {"input_ids": text.tokens, "attention_mask": text.real, "position_ids": text.positions}
    ours = {"decoder_input_tokens": text.tokens, "decoder_segment_ids": text.segments}
    parity.check(imported, theirs, ours, text.real)
    parity.check_round_trip(imported, "llama")


def test_packed(tmp_path):
    imported = parity.import_model(
        parity.make("LlamaForCausalLM", "LlamaConfig", **BASE | dict(num_hidden_layers=1)), tmp_path
    )
    tokens, segments, positions = parity.packed()
    ours = {"decoder_input_tokens": tokens, "decoder_segment_ids": segments}
    parity.check_logits(imported, {"input_ids": tokens, "position_ids": positions}, ours, np.ones_like(segments, bool))
