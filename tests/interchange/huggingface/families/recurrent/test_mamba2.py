"""Mamba-2 against transformers' `Mamba2ForCausalLM`."""

from __future__ import annotations

import numpy as np
import pytest

from tests.interchange.huggingface import parity
from triarch.errors import UserError

BASE = dict(
    vocab_size=parity.VOCAB,
    hidden_size=24,
    num_heads=6,
    head_dim=8,
    expand=2,
    state_size=10,
    n_groups=2,
    num_hidden_layers=3,
    chunk_size=4,
    pad_token_id=0,
)
CASES = {
    "two groups, untied": BASE,
    "tied, one chunk, narrow convolution": BASE
    | dict(n_groups=1, tie_word_embeddings=True, chunk_size=64, conv_kernel=2, use_conv_bias=False),
    "limited steps, a layer": BASE | dict(num_hidden_layers=1, time_step_limit=(0.3, 1.1)),
}


@parity.first_quick(CASES)
def test_parity(name, tmp_path):
    imported = parity.import_model(parity.make("Mamba2ForCausalLM", "Mamba2Config", **CASES[name]), tmp_path)
    text = parity.side(1)
    theirs = {"input_ids": text.tokens, "attention_mask": text.real}
    ours = {"decoder_input_tokens": text.tokens, "decoder_segment_ids": text.segments}
    parity.check(imported, theirs, ours, text.real)
    parity.check_round_trip(imported, "mamba2")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"use_bias": True}, r"use_bias = True: Mamba2ForCausalLM has no equivalent here with that \(only False\)"),
        ({"expand": 3}, r"num_heads \* head_dim = 48: expected expand \* hidden_size = 72"),
        ({"n_groups": 4}, "Mamba2.num_groups = 4 must divide the 6 heads"),
        ({"time_step_limit": [0.1]}, r"time_step_limit = \[0.1\]: expected two numbers"),
        ({"chunk_size": 0}, "Mamba2.chunk_size = 0: expected a whole number from 1 on"),
    ],
)
def test_what_makes_no_mamba_is_refused(changed, message, tmp_path):
    parity.make("Mamba2ForCausalLM", "Mamba2Config", **BASE | dict(num_hidden_layers=1)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=message):
        parity.network_of(tmp_path, parity.config_of(tmp_path) | changed)


@pytest.mark.slow
def test_generation_is_theirs(tmp_path):
    """Greedy tokens of a prompt, by transformers' state and by ours."""
    model = parity.make("Mamba2ForCausalLM", "Mamba2Config", **BASE, eos_token_id=None)
    imported = parity.import_model(model, tmp_path)
    prompt = np.array([[5, 9, 13, 2, 7]], np.int32)
    wanted = model.generate(parity.torch.from_numpy(prompt).long(), max_new_tokens=8, do_sample=False).numpy()
    tokens = prompt
    for _ in range(8):
        logits = imported.loaded.logits({"decoder_input_tokens": tokens})
        tokens = np.concatenate([tokens, logits[:, -1:].argmax(-1).astype(np.int32)], axis=1)
    np.testing.assert_array_equal(tokens, wanted)
