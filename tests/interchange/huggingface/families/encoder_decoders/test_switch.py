"""Switch Transformer against transformers' `SwitchTransformersForConditionalGeneration`."""

from __future__ import annotations

import numpy as np
import pytest

from tests.interchange.huggingface import parity
from tests.interchange.huggingface.families.encoder_decoders.test_t5 import BASE as T5
from triarch.errors import UserError

BASE = T5 | dict(num_decoder_layers=2, num_experts=3, num_sparse_encoder_layers=1, num_sparse_decoder_layers=1)
CASES = {
    "every second layer, with room for all": BASE | dict(num_layers=4, num_sparse_encoder_layers=2),
    "every layer, some dropped": BASE
    | dict(num_sparse_encoder_layers=2, num_sparse_decoder_layers=2, expert_capacity=3, dense_act_fn="gelu"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_parity(name, tmp_path):
    model = parity.make("SwitchTransformersForConditionalGeneration", "SwitchTransformersConfig", **CASES[name])
    imported = parity.import_model(model, tmp_path)
    source, target = parity.side(1), parity.side(2, length=9)
    if "dropped" in name:
        # What the class makes of padding, other than ours, takes room there.
        source, target = (parity.Side(np.where(x.real, x.tokens, 7), np.ones_like(x.real)) for x in (source, target))
    theirs = {"input_ids": source.tokens, "attention_mask": source.real}
    theirs |= {"decoder_input_ids": target.tokens, "decoder_attention_mask": target.real}
    ours = {"encoder_input_tokens": source.tokens, "decoder_input_tokens": target.tokens}
    parity.check(imported, theirs, ours | {"decoder_segment_ids": target.segments}, target.real)
    parity.check_round_trip(imported, "switch")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(router_bias=True), "router_bias = True"),
        (dict(num_layers=6, num_sparse_encoder_layers=2), "num_sparse_encoder_layers = 2"),
        (dict(num_sparse_decoder_layers=2), "num_sparse_decoder_layers = 2"),
    ],
)
def test_what_has_no_equivalent_is_named(changes, message, tmp_path):
    options = BASE | changes
    model = parity.make("SwitchTransformersForConditionalGeneration", "SwitchTransformersConfig", **options)
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=message):
        parity.open_folder(tmp_path)
