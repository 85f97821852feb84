"""Qwen3 against transformers' `Qwen3ForCausalLM`."""

from __future__ import annotations

import numpy as np
import pytest

from tests.interchange.huggingface import parity
from tests.interchange.huggingface.families.decoders.test_llama import BASE as LLAMA
from tests.interchange.huggingface.families.decoders.test_llama import LLAMA3
from triarch.errors import UserError

BASE = LLAMA | dict(head_dim=6)
WINDOW = dict(use_sliding_window=True, sliding_window=3)
CASES = {
    "groups, untied": BASE,
    "llama3 scaling, tied": BASE | dict(rope_parameters=LLAMA3, tie_word_embeddings=True, num_key_value_heads=3),
    "biases, every second layer local": BASE
    | WINDOW
    | dict(attention_bias=True, layer_types=["full_attention", "sliding_attention", "full_attention"]),
}


@parity.first_quick(CASES)
def test_parity(name, tmp_path):
    imported = parity.import_model(parity.make("Qwen3ForCausalLM", "Qwen3Config", **CASES[name]), tmp_path)
    text = parity.side(1)
    theirs = {"input_ids": text.tokens, "attention_mask": text.real, "position_ids": text.positions}
    ours = {"decoder_input_tokens": text.tokens, "decoder_segment_ids": text.segments}
    parity.check(imported, theirs, ours, text.real)
    parity.check_round_trip(imported, "qwen3")


def test_packed(tmp_path):
    options = BASE | dict(num_hidden_layers=1)
    imported = parity.import_model(parity.make("Qwen3ForCausalLM", "Qwen3Config", **options), tmp_path)
    tokens, segments, positions = parity.packed()
    ours = {"decoder_input_tokens": tokens, "decoder_segment_ids": segments}
    parity.check_logits(imported, {"input_ids": tokens, "position_ids": positions}, ours, np.ones_like(segments, bool))


def test_windows_of_the_last_layers_only(tmp_path):
    """One global layer before local ones is evenly apart, two are not."""
    parity.make("Qwen3ForCausalLM", "Qwen3Config", **BASE).save_pretrained(tmp_path)
    fields = {key: value for key, value in parity.config_of(tmp_path).items() if key != "layer_types"} | WINDOW
    config = parity.network_of(tmp_path, fields | {"max_window_layers": 1})
    assert [spec.mixer.window for spec in config.layer_specs("decoder")] == [None, 2, 2]
    assert parity.network_of(tmp_path, fields | {"max_window_layers": 3}).sliding_window is None
    with pytest.raises(UserError, match="full attention in layers that are not evenly apart"):
        parity.network_of(tmp_path, fields | {"max_window_layers": 2})
