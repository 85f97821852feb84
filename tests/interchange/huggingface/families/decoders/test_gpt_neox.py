"""Pythia against transformers' `GPTNeoXForCausalLM`."""

from __future__ import annotations

import numpy as np

from tests.interchange.huggingface import parity
from tests.interchange.huggingface.families.decoders.test_llama import LLAMA3

BASE = dict(
    vocab_size=parity.VOCAB,
    hidden_size=32,
    intermediate_size=40,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=64,
    pad_token_id=0,
)
CASES = {
    "as published": BASE,
    "one after the other, tied, three quarters of a head": BASE
    | dict(use_parallel_residual=False, tie_word_embeddings=True, hidden_act="gelu_new")
    | dict(rope_parameters=LLAMA3 | dict(partial_rotary_factor=0.75)),
    "no biases, whole heads": BASE
    | dict(attention_bias=False, num_hidden_layers=1)
    | dict(rope_parameters=dict(rope_type="default", rope_theta=100.0, partial_rotary_factor=1.0)),
}


@parity.first_quick(CASES)
def test_parity(name, tmp_path):
    imported = parity.import_model(parity.make("GPTNeoXForCausalLM", "GPTNeoXConfig", **CASES[name]), tmp_path)
    text = parity.side(1)
    theirs = {"input_ids": text.tokens, "attention_mask": text.real, "position_ids": text.positions}
    ours = {"decoder_input_tokens": text.tokens, "decoder_segment_ids": text.segments}
    parity.check(imported, theirs, ours, text.real)
    parity.check_round_trip(imported, "gpt_neox")


def test_packed(tmp_path):
    options = BASE | dict(num_hidden_layers=1)
    imported = parity.import_model(parity.make("GPTNeoXForCausalLM", "GPTNeoXConfig", **options), tmp_path)
    tokens, segments, positions = parity.packed()
    ours = {"decoder_input_tokens": tokens, "decoder_segment_ids": segments}
    parity.check_logits(imported, {"input_ids": tokens, "position_ids": positions}, ours, np.ones_like(segments, bool))


def test_published_config_of_pythia(tmp_path):
    """The older spelling of config.json, which the published files have."""
    imported = parity.import_model(parity.make("GPTNeoXForCausalLM", "GPTNeoXConfig", **BASE), tmp_path)
    fields = parity.config_of(tmp_path / "theirs")
    del fields["rope_parameters"]
    older = {"rotary_pct": 0.25, "rotary_emb_base": 10000, "rope_scaling": None}
    assert parity.network_of(tmp_path / "theirs", fields | older) == imported.loaded.config
    assert parity.network_of(tmp_path / "theirs", fields | older | {"rotary_pct": 0.5}).rope_fraction == 0.5
