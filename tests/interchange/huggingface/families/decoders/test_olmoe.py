"""OLMoE against transformers' `OlmoeForCausalLM`."""

from __future__ import annotations

from tests.interchange.huggingface import parity
from tests.interchange.huggingface.families.decoders.test_llama import BASE as LLAMA

BASE = LLAMA | dict(num_key_value_heads=6, num_experts=6, num_experts_per_tok=3)
CASES = {
    "three of six": BASE,
    "renormalised, groups, one layer": BASE | dict(norm_topk_prob=True, num_key_value_heads=2, num_hidden_layers=1),
}


@parity.first_quick(CASES)
def test_parity(name, tmp_path):
    imported = parity.import_model(parity.make("OlmoeForCausalLM", "OlmoeConfig", **CASES[name]), tmp_path)
    text = parity.side(1)
    theirs = {"input_ids": text.tokens, "attention_mask": text.real, "position_ids": text.positions}
    ours = {"decoder_input_tokens": text.tokens, "decoder_segment_ids": text.segments}
    parity.check(imported, theirs, ours, text.real)
    parity.check_round_trip(imported, "olmoe")
