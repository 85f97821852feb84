"""Ettin decoders against transformers' `ModernBertDecoderForCausalLM`."""

from __future__ import annotations

import numpy as np

from tests.interchange.huggingface import parity
from tests.interchange.huggingface.families.encoders.test_modernbert import BASE, LAYERS

CASES = {
    "as published": BASE | dict(local_attention=8, num_hidden_layers=4),
    "biases, untied": BASE
    | dict(attention_bias=True, mlp_bias=True, norm_bias=True, classifier_bias=True, tie_word_embeddings=False)
    | dict(num_hidden_layers=2, layer_types=LAYERS[::-1]),
    "second layer global, no bias": BASE | dict(num_hidden_layers=2, layer_types=LAYERS, decoder_bias=False),
}


def make(options):
    return parity.make("ModernBertDecoderForCausalLM", "ModernBertDecoderConfig", **options)


@parity.first_quick(CASES)
def test_parity(name, tmp_path):
    imported = parity.import_model(make(CASES[name]), tmp_path)
    text = parity.side(1)
    theirs = {"input_ids": text.tokens, "attention_mask": text.real, "position_ids": text.positions}
    ours = {"decoder_input_tokens": text.tokens, "decoder_segment_ids": text.segments}
    parity.check(imported, theirs, ours, text.real)
    parity.check_round_trip(imported, "modernbert-decoder")


def test_packed(tmp_path):
    imported = parity.import_model(make(CASES["second layer global, no bias"]), tmp_path)
    tokens, segments, positions = parity.packed()
    ours = {"decoder_input_tokens": tokens, "decoder_segment_ids": segments}
    parity.check_logits(imported, {"input_ids": tokens, "position_ids": positions}, ours, np.ones_like(segments, bool))
