"""BART against transformers' `BartForConditionalGeneration`."""

from __future__ import annotations

import pytest

from tests.interchange.huggingface import parity
from tests.interchange.huggingface.parity import torch

BASE = dict(
    vocab_size=parity.VOCAB,
    max_position_embeddings=14,
    d_model=24,
    encoder_layers=2,
    decoder_layers=3,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=30,
    decoder_ffn_dim=30,
)
CASES = {
    "as published": BASE,
    "scaled embeddings, ReLU": BASE | dict(scale_embedding=True, activation_function="relu", d_model=20),
    "a decoder of its own shape": BASE | dict(decoder_ffn_dim=18, decoder_attention_heads=3),
    "biased logits": BASE | dict(decoder_layers=1, encoder_layers=3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_parity(name, tmp_path):
    model = parity.make("BartForConditionalGeneration", "BartConfig", **CASES[name])
    if name == "biased logits":
        model.final_logits_bias.copy_(torch.linspace(-1, 1, parity.VOCAB)[None])
    imported = parity.import_model(model, tmp_path)
    is_own = name == "a decoder of its own shape"
    assert (imported.loaded.config.decoder_d_ff, imported.loaded.config.decoder_head_dim) == (
        (18, 8) if is_own else (None, None)
    )
    assert imported.loaded.config.logits_bias == (name == "biased logits")
    source, target = parity.side(1, pad_id=1), parity.side(2, length=9, pad_id=1)
    theirs = {"input_ids": source.tokens, "attention_mask": source.real}
    theirs |= {"decoder_input_ids": target.tokens, "decoder_attention_mask": target.real}
    ours = {"encoder_input_tokens": source.tokens, "encoder_positions": source.places}
    ours |= {"decoder_input_tokens": target.tokens, "decoder_segment_ids": target.segments}
    parity.check(imported, theirs, ours | {"decoder_positions": target.places}, target.real)
    parity.check_round_trip(imported, "bart")
