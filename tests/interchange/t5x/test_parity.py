"""T5X checkpoints of both layouts against transformers' class with the same weights."""

from __future__ import annotations

import numpy as np
import pytest

from tests.interchange.huggingface import parity
from tests.interchange.huggingface.parity import torch
from tests.interchange.t5x.checkpoints import T5, Checkpoint, minimal, scanned
from triarch.interchange import read_export
from triarch.interchange.t5x import open_checkpoint, write_import

VERSIONS = {
    "1.0": T5,
    "1.1": T5 | dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    # What a scanned T5 is if its layers' biases differ.
    "1.1 with own biases": T5 | dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
}
LAYOUTS = {"minimal": lambda parameters: parameters, "scanned": scanned}


def make(version):
    prefix = "UM" if version.endswith("own biases") else ""
    model = parity.make(f"{prefix}T5ForConditionalGeneration", f"{prefix}T5Config", **VERSIONS[version])
    if version != "1.0":
        model.lm_head.weight = torch.nn.Parameter(0.3 * torch.randn(parity.VOCAB, T5["d_model"]))
        model.all_tied_weights_keys.pop("lm_head.weight")
    return model


def tensors_of(model):
    named = {name: value.detach().numpy() for name, value in model.named_parameters()}
    return {name: value for name, value in named.items() if "embed_tokens" not in name}


def check_logits(model, loaded):
    source, target = parity.side(1), parity.side(2, length=9)
    with torch.no_grad():
        theirs = model(
            input_ids=torch.tensor(source.tokens).long(),
            attention_mask=torch.tensor(source.real),
            decoder_input_ids=torch.tensor(target.tokens).long(),
            decoder_attention_mask=torch.tensor(target.real),
        ).logits.numpy()
    ours = loaded.logits(
        {
            "encoder_input_tokens": source.tokens,
            "decoder_input_tokens": target.tokens,
            "decoder_segment_ids": target.segments,
        }
    )
    scale = np.abs(theirs[target.real]).max()
    np.testing.assert_allclose(ours[target.real], theirs[target.real], rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize(
    ("version", "layout"),
    [
        ("1.0", "minimal"),
        ("1.1", "scanned"),
        ("1.1 with own biases", "scanned"),
        # That both layouts are one and the same network, `test_formats` says as well.
        pytest.param("1.0", "scanned", marks=pytest.mark.slow),
        pytest.param("1.1", "minimal", marks=pytest.mark.slow),
    ],
)
def test_logits(version, layout, tmp_path):
    model = make(version)
    parameters = LAYOUTS[layout](minimal(tensors_of(model)))
    folder = Checkpoint(parameters).write(tmp_path / "checkpoint_1000")
    opened = open_checkpoint(folder)
    write_import(opened, tmp_path / "export")
    loaded = read_export(tmp_path / "export")
    assert opened.family.class_name == type(model).__name__
    assert loaded.config.num_params() == sum(value.size for value in tensors_of(model).values())
    check_logits(model, loaded)
    assert loaded.origin.step == 1000
    assert opened.left_out == ("state",)
