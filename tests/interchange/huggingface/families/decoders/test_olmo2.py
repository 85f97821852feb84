"""OLMo 2 against transformers' `Olmo2ForCausalLM`."""

from __future__ import annotations

import numpy as np

from tests.interchange.huggingface import parity
from tests.interchange.huggingface.families.decoders.test_llama import BASE, LLAMA3

CASES = {
    "groups, untied": BASE,
    "llama3 scaling, tied": BASE | dict(rope_parameters=LLAMA3, tie_word_embeddings=True, num_key_value_heads=3),
    "biases": BASE | dict(attention_bias=True, num_key_value_heads=6, num_hidden_layers=1),
}


@parity.first_quick(CASES)
def test_parity(name, tmp_path):
    imported = parity.import_model(parity.make("Olmo2ForCausalLM", "Olmo2Config", **CASES[name]), tmp_path)
    text = parity.side(1)
    theirs = {"input_ids": text.tokens, "attention_mask": text.real, "position_ids": text.positions}
    ours = {"decoder_input_tokens": text.tokens, "decoder_segment_ids": text.segments}
    parity.check(imported, theirs, ours, text.real)
    parity.check_round_trip(imported, "olmo2")


def test_packed(tmp_path):
    options = BASE | dict(num_hidden_layers=1)
    imported = parity.import_model(parity.make("Olmo2ForCausalLM", "Olmo2Config", **options), tmp_path)
    tokens, segments, positions = parity.packed()
    ours = {"decoder_input_tokens": tokens, "decoder_segment_ids": segments}
    parity.check_logits(imported, {"input_ids": tokens, "position_ids": positions}, ours, np.ones_like(segments, bool))
