"""T5 1.0 and 1.1 against transformers' `T5ForConditionalGeneration`, and UMT5 against its class."""

from __future__ import annotations

from safetensors.numpy import load_file, save_file

from tests.interchange.huggingface import parity
from tests.interchange.huggingface.parity import torch

BASE = dict(
    vocab_size=parity.VOCAB,
    d_model=20,
    d_kv=6,
    d_ff=28,
    num_layers=2,
    num_heads=3,
    relative_attention_num_buckets=8,
    relative_attention_max_distance=9,
)
CASES = {
    "1.0": BASE,
    "1.1": BASE | dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False, num_decoder_layers=3),
    "UMT5": BASE | dict(num_decoder_layers=3),
    "tied without the factor": BASE | dict(feed_forward_proj="gated-silu", tie_word_embeddings=False, num_layers=1),
}


def make(name):
    prefix = "UM" if name == "UMT5" else ""
    model = parity.make(f"{prefix}T5ForConditionalGeneration", f"{prefix}T5Config", **CASES[name])
    if name == "1.1":
        # The class ties what its own 1.1 checkpoints do not: as after loading one of these.
        model.lm_head.weight = torch.nn.Parameter(0.3 * torch.randn(parity.VOCAB, 20))
        model.all_tied_weights_keys.pop("lm_head.weight")
    return model


@parity.first_quick(CASES)
def test_parity(name, tmp_path):
    imported = parity.import_model(make(name), tmp_path)
    source, target = parity.side(1), parity.side(2, length=9)
    theirs = {"input_ids": source.tokens, "attention_mask": source.real}
    theirs |= {"decoder_input_ids": target.tokens, "decoder_attention_mask": target.real}
    ours = {"encoder_input_tokens": source.tokens, "decoder_input_tokens": target.tokens}
    parity.check(imported, theirs, ours | {"decoder_segment_ids": target.segments}, target.real)
    parity.check_round_trip(imported, "umt5" if name == "UMT5" else "t5")


def test_a_copy_of_the_embedding_is_no_output_matrix(tmp_path):
    imported = parity.import_model(make("1.0"), tmp_path)
    path = tmp_path / "theirs" / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"lm_head.weight": tensors["shared.weight"]}, path, {"format": "pt"})
    assert parity.network_of(tmp_path / "theirs") == imported.loaded.config
    assert imported.loaded.config.tied_embeddings
