"""RoBERTa against transformers' `RobertaForMaskedLM`."""

from __future__ import annotations

from tests.interchange.huggingface import parity
from tests.interchange.huggingface.families.encoders.test_bert import BASE as BERT

BASE = BERT | dict(max_position_embeddings=17, type_vocab_size=1, pad_token_id=1, layer_norm_eps=1e-5)
CASES = {
    "as published": BASE,
    "odd widths, three types": BASE
    | dict(hidden_size=21, num_attention_heads=3, intermediate_size=17, type_vocab_size=3),
    "other padding": BASE | dict(pad_token_id=0, max_position_embeddings=14, num_hidden_layers=1),
}


@parity.first_quick(CASES)
def test_parity(name, tmp_path):
    """Given no positions, the class counts them itself from the tokens that are no padding."""
    options = CASES[name]
    imported = parity.import_model(parity.make("RobertaForMaskedLM", "RobertaConfig", **options), tmp_path)
    text = parity.side(1, pad_id=options["pad_token_id"])
    types = text.tokens % options["type_vocab_size"]
    theirs = {"input_ids": text.tokens, "attention_mask": text.real, "token_type_ids": types}
    ours = {"encoder_input_tokens": text.tokens, "encoder_token_types": types}
    parity.check(imported, theirs, ours, text.real)
    parity.check_round_trip(imported, "roberta")
