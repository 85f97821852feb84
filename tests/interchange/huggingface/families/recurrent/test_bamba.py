"""Bamba against transformers' `BambaForCausalLM`: a stack of Mamba-2 with attention in between."""

from __future__ import annotations

import pytest

from tests.interchange.huggingface import parity

BASE = dict(
    vocab_size=parity.VOCAB,
    hidden_size=32,
    intermediate_size=40,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    attn_layer_indices=[1, 3],
    mamba_n_heads=8,
    mamba_d_state=10,
    mamba_n_groups=2,
    mamba_chunk_size=5,
    pad_token_id=0,
)
CASES = {
    "every second layer": BASE,
    "one layer of three, tied, biases": BASE
    | dict(num_hidden_layers=3, attn_layer_indices=[1], tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_parity(name, tmp_path):
    imported = parity.import_model(parity.make("BambaForCausalLM", "BambaConfig", **CASES[name]), tmp_path)
    text = parity.side(1)
    theirs = {"input_ids": text.tokens, "attention_mask": text.real, "position_ids": text.positions}
    ours = {"decoder_input_tokens": text.tokens, "decoder_segment_ids": text.segments}
    parity.check(imported, theirs, ours, text.real)
    parity.check_round_trip(imported, "bamba")
