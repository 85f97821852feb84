"""DistilBERT against transformers' `DistilBertForMaskedLM`."""

from __future__ import annotations

from tests.interchange.huggingface import parity

BASE = dict(vocab_size=parity.VOCAB, dim=24, n_layers=3, n_heads=4, hidden_dim=36, max_position_embeddings=15)
CASES = {
    "as published": BASE,
    "odd widths": BASE | dict(dim=21, n_heads=3, hidden_dim=17),
    "tanh GELU, other padding, sinusoids": BASE
    | dict(activation="gelu_new", pad_token_id=1, n_layers=1, sinusoidal_pos_embds=True),
}


@parity.first_quick(CASES)
def test_parity(name, tmp_path):
    imported = parity.import_model(parity.make("DistilBertForMaskedLM", "DistilBertConfig", **CASES[name]), tmp_path)
    text = parity.side(1, pad_id=CASES[name].get("pad_token_id", 0))
    theirs = {"input_ids": text.tokens, "attention_mask": text.real, "position_ids": text.positions}
    parity.check(imported, theirs, {"encoder_input_tokens": text.tokens}, text.real)
    parity.check_round_trip(imported, "distilbert")
