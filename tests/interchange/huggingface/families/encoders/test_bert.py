"""BERT against transformers' `BertForMaskedLM`."""

from __future__ import annotations

from tests.interchange.huggingface import parity

BASE = dict(
    vocab_size=parity.VOCAB,
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=36,
    max_position_embeddings=15,
)
CASES = {
    "as published": BASE,
    "odd widths, three types": BASE
    | dict(hidden_size=21, num_attention_heads=3, intermediate_size=17, type_vocab_size=3),
    "tanh GELU, other padding": BASE | dict(hidden_act="gelu_new", pad_token_id=1, num_hidden_layers=1),
}


@parity.first_quick(CASES)
def test_parity(name, tmp_path):
    imported = parity.import_model(parity.make("BertForMaskedLM", "BertConfig", **CASES[name]), tmp_path)
    text = parity.side(1, pad_id=CASES[name].get("pad_token_id", 0))
    types = text.tokens % CASES[name].get("type_vocab_size", 2)
    theirs = {"input_ids": text.tokens, "attention_mask": text.real, "position_ids": text.positions}
    ours = {"encoder_input_tokens": text.tokens}
    parity.check(imported, theirs | {"token_type_ids": types}, ours | {"encoder_token_types": types}, text.real)
    parity.check_round_trip(imported, "bert")


def test_types_may_be_left_out(tmp_path):
    options = BASE | dict(num_hidden_layers=1)
    imported = parity.import_model(parity.make("BertForMaskedLM", "BertConfig", **options), tmp_path)
    text = parity.side(1)
    theirs = {"input_ids": text.tokens, "attention_mask": text.real, "position_ids": text.positions}
    parity.check_logits(imported, theirs, {"encoder_input_tokens": text.tokens}, text.real)
