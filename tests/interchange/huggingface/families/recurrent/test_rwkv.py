"""RWKV-4 against transformers' `RwkvForCausalLM`."""

from __future__ import annotations

import dataclasses

import numpy as np

from tests.interchange.huggingface import parity
from triarch.interchange.huggingface import FAMILIES
from triarch.interchange.huggingface.expressible import differences
from triarch.models import ModelConfig
from triarch.models.recurrent.retention import Retention
from triarch.models.recurrent.rwkv import RwkvChannelMix, RwkvTimeMix

BASE = dict(vocab_size=parity.VOCAB, hidden_size=24, num_hidden_layers=3, context_length=32)
CASES = {
    "three layers": BASE,
    "tied, own widths": BASE
    | dict(attention_hidden_size=20, intermediate_size=36, num_hidden_layers=2, tie_word_embeddings=True),
}


@parity.first_quick(CASES)
def test_parity(name, tmp_path):
    """Of whole rows: the class knows no padding."""
    imported = parity.import_model(parity.make("RwkvForCausalLM", "RwkvConfig", **CASES[name]), tmp_path)
    text = parity.side(1)
    parity.check(
        imported, {"input_ids": text.tokens}, {"decoder_input_tokens": text.tokens}, np.ones_like(text.real, bool)
    )
    parity.check_round_trip(imported, "rwkv")


def test_how_channels_are_called_heads_does_not_matter():
    config = ModelConfig(
        vocab_size=parity.VOCAB,
        d_model=32,
        d_ff=64,
        num_heads=4,
        head_dim=8,
        num_decoder_layers=2,
        mixer=RwkvTimeMix(),
        feed_forward=RwkvChannelMix(),
        norm="layernorm",
        norm_bias=True,
        embedding_norm=True,
        position_encoding="none",
    )
    assert differences(config, FAMILIES["rwkv"]) == []
    assert "(there RwkvTimeMix())" in differences(dataclasses.replace(config, mixer=Retention()), FAMILIES["rwkv"])[0]
