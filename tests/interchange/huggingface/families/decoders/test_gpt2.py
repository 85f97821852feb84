"""GPT-2 against transformers' `GPT2LMHeadModel`."""

from __future__ import annotations

import numpy as np

from tests.interchange.huggingface import parity

BASE = dict(vocab_size=parity.VOCAB, n_positions=17, n_embd=20, n_layer=3, n_head=4, pad_token_id=0)
CASES = {
    "as published": BASE,
    "untied, odd width": BASE | dict(n_inner=31, n_head=5, tie_word_embeddings=False, layer_norm_epsilon=1e-3),
    "unscaled": BASE | dict(scale_attn_weights=False, activation_function="relu", n_layer=1),
}


@parity.first_quick(CASES)
def test_parity(name, tmp_path):
    imported = parity.import_model(parity.make("GPT2LMHeadModel", "GPT2Config", **CASES[name]), tmp_path)
    text = parity.side(1)
    theirs = {"input_ids": text.tokens, "attention_mask": text.real, "position_ids": text.positions}
    ours = {"decoder_input_tokens": text.tokens, "decoder_segment_ids": text.segments}
    parity.check(imported, theirs, ours, text.real)
    parity.check_round_trip(imported, "gpt2")


def test_packed(tmp_path):
    imported = parity.import_model(parity.make("GPT2LMHeadModel", "GPT2Config", **BASE | dict(n_layer=1)), tmp_path)
    tokens, segments, positions = parity.packed()
    ours = {"decoder_input_tokens": tokens, "decoder_segment_ids": segments}
    parity.check_logits(imported, {"input_ids": tokens, "position_ids": positions}, ours, np.ones_like(segments, bool))
