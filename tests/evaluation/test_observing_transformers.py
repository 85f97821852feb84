"""Observed weights of imported models equal `output_attentions` of transformers, padded rows included."""

from __future__ import annotations

import numpy as np
import pytest

from tests.interchange.huggingface import parity
from tests.interchange.huggingface.families.decoders import test_llama
from tests.interchange.huggingface.families.encoder_decoders import test_t5
from tests.interchange.huggingface.families.encoders import test_bert
from triarch.evaluation.observing import observed

MODELS = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", test_llama.BASE),
    "bert": ("BertForMaskedLM", "BertConfig", test_bert.BASE),
    "t5": ("T5ForConditionalGeneration", "T5Config", test_t5.BASE),
}
# What transformers calls each kind of attention.
THEIRS = {
    "llama": {"decoder": "attentions"},
    "bert": {"encoder": "attentions"},
    "t5": {"encoder": "encoder_attentions", "decoder": "decoder_attentions", "cross": "cross_attentions"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_parity(name, tmp_path):
    imported = parity.import_model(parity.make(*MODELS[name][:2], **MODELS[name][2]), tmp_path)
    text, target = parity.side(1, left=False), parity.side(2, length=9, left=False)
    theirs = {"input_ids": text.tokens, "attention_mask": text.real}
    real = {"encoder": text.real, "decoder": text.real}
    if name == "t5":
        theirs |= {"decoder_input_ids": target.tokens, "decoder_attention_mask": target.real}
        ours = {"encoder_input_tokens": text.tokens, "decoder_input_tokens": target.tokens}
        real |= {"decoder": target.real, "cross": target.real}
        ours |= {"decoder_segment_ids": target.segments}
    elif name == "bert":
        ours = {"encoder_input_tokens": text.tokens}
    else:
        ours = {"decoder_input_tokens": text.tokens, "decoder_segment_ids": text.segments}
    given = {key: parity.torch.from_numpy(np.array(value)).long() for key, value in theirs.items()}
    with parity.torch.no_grad():
        wanted = imported.model(**given, output_attentions=True)
    weights = imported.loaded.compiled(lambda model, batch: {s: o.weights for s, o in observed(model, batch).items()})
    found = weights(ours)
    compared = 0
    for kind, field in THEIRS[name].items():
        for layer, square in enumerate(wanted[field]):
            (site,) = [site for site in found if (site.kind, site.layer) == (kind, layer)]
            rows = real[kind]
            expected = square.numpy().swapaxes(1, 2)[rows]
            np.testing.assert_allclose(found[site].swapaxes(1, 2)[rows], expected, atol=1e-5)
            compared += 1
    assert compared == len(found)
