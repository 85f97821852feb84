"""Mixtral against transformers' `MixtralForCausalLM`."""

from __future__ import annotations

import numpy as np
import pytest

from tests.interchange.huggingface import parity
from tests.interchange.huggingface.families.decoders.test_llama import BASE as LLAMA

BASE = LLAMA | dict(num_key_value_heads=6, num_local_experts=5, num_experts_per_tok=2)
CASES = {
    "five experts, untied": BASE,
    "one of three, tied": BASE | dict(num_local_experts=3, num_experts_per_tok=1, tie_word_embeddings=True),
}


@parity.first_quick(CASES)
def test_parity(name, tmp_path):
    imported = parity.import_model(parity.make("MixtralForCausalLM", "MixtralConfig", **CASES[name]), tmp_path)
    text = parity.side(1)
    theirs = {"input_ids": text.tokens, "attention_mask": text.real, "position_ids": text.positions}
    ours = {"decoder_input_tokens": text.tokens, "decoder_segment_ids": text.segments}
    parity.check(imported, theirs, ours, text.real)
    parity.check_round_trip(imported, "mixtral")


def test_the_balance_loss_is_theirs(tmp_path):
    """`load_balancing_loss_func` of one layer, without the coefficient, padding left out."""
    options = BASE | dict(num_hidden_layers=1, output_router_logits=True, router_aux_loss_coef=0.25)
    imported = parity.import_model(parity.make("MixtralForCausalLM", "MixtralConfig", **options), tmp_path)
    text = parity.side(1)
    with parity.torch.no_grad():
        given = {"input_ids": text.tokens, "attention_mask": text.real, "position_ids": text.positions}
        theirs = imported.model(**{name: parity.torch.from_numpy(np.array(x)).long() for name, x in given.items()})
    losses = {}
    imported.loaded.model.hidden(
        {"decoder_input_tokens": text.tokens, "decoder_segment_ids": text.segments}, None, losses
    )
    assert float(losses["balance_loss"]) == pytest.approx(0.25 * theirs.aux_loss.item(), rel=1e-5)
