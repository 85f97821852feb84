"""Tied tensors saved under any of their names, against what transformers makes of the same file."""

from __future__ import annotations

import dataclasses

import pytest
from safetensors.numpy import load_file, save_file

from tests.interchange.huggingface import parity
from tests.interchange.huggingface.families.decoders import test_gpt2
from tests.interchange.huggingface.families.encoder_decoders import test_bart, test_t5gemma
from tests.interchange.huggingface.families.encoder_decoders.test_t5 import BASE as T5
from tests.interchange.huggingface.families.encoders import test_bert, test_modernbert
from tests.interchange.huggingface.parity import torch
from triarch.errors import UserError
from triarch.interchange.huggingface import open_folder


@dataclasses.dataclass(frozen=True)
class Case:
    """A class, the tensor it saves, and the names under which a file may have it instead; `own` of other values."""

    class_name: str
    options: dict
    saved: str
    names: tuple[str, ...]
    own: str | None = None


_T5 = "T5ForConditionalGeneration"
_BART = "BartForConditionalGeneration", test_bart.BASE, "model.shared.weight"
_BERT = "BertForMaskedLM", test_bert.BASE | dict(num_hidden_layers=1)
_GPT2 = "GPT2LMHeadModel", test_gpt2.BASE | dict(n_layer=1), "transformer.wte.weight"
_GEMMA = dict(encoder=dict(test_t5gemma.SIDE), decoder=dict(test_t5gemma.SIDE), vocab_size=parity.VOCAB)
_WORDS = "bert.embeddings.word_embeddings.weight"
CASES = {
    "t5, encoder": Case(_T5, T5, "shared.weight", ("encoder.embed_tokens.weight",)),
    "t5, decoder": Case(_T5, T5, "shared.weight", ("decoder.embed_tokens.weight",)),
    "t5, head": Case(_T5, T5, "shared.weight", ("lm_head.weight",)),
    "t5, all": Case(
        _T5,
        T5,
        "shared.weight",
        ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"),
    ),
    "t5 1.1, decoder and a head": Case(
        _T5,
        T5 | dict(tie_word_embeddings=False),
        "shared.weight",
        ("decoder.embed_tokens.weight",),
        own="lm_head.weight",
    ),
    "bart, encoder": Case(*_BART, ("model.encoder.embed_tokens.weight",)),
    "bart, head": Case(*_BART, ("lm_head.weight",)),
    "bart, all": Case(*_BART, ("model.shared.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")),
    "bert, head": Case(*_BERT, _WORDS, ("cls.predictions.decoder.weight",)),
    "bert, bias of the head": Case(*_BERT, "cls.predictions.bias", ("cls.predictions.decoder.bias",)),
    "bert, both biases": Case(*_BERT, "cls.predictions.bias", ("cls.predictions.bias", "cls.predictions.decoder.bias")),
    "gpt2, head": Case(*_GPT2, ("lm_head.weight",)),
    "gpt2, both": Case(*_GPT2, ("transformer.wte.weight", "lm_head.weight")),
    "modernbert, head": Case(
        "ModernBertForMaskedLM",
        test_modernbert.CASES["second layer global, no bias"],
        "model.embeddings.tok_embeddings.weight",
        ("decoder.weight",),
    ),
    "t5gemma, head": Case(
        "T5GemmaForConditionalGeneration", _GEMMA, "model.decoder.embed_tokens.weight", ("lm_head.out_proj.weight",)
    ),
}


def save(case: Case, folder):
    """Saves a model and gives the tensor its other names."""
    config_name = case.class_name.split("For")[0].removesuffix("LMHeadModel") + "Config"
    parity.make(case.class_name, config_name, **case.options).save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    value = tensors.pop(case.saved)
    tensors |= dict.fromkeys(case.names, value)
    if case.own is not None:
        tensors[case.own] = value[::-1].copy()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def assert_as_transformers(folder, class_name):
    """Compares every tensor of ours with the one that transformers loads."""
    model, info = getattr(parity.transformers, class_name).from_pretrained(folder, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    opened, loaded = open_folder(folder), model.state_dict()
    for link in opened.links:
        assert torch.equal(torch.from_numpy(opened.tensors.read(link.theirs)), loaded[link.theirs]), link.theirs
    return opened


@pytest.mark.parametrize("name", CASES)
def test_tensors_are_those_that_transformers_loads(name, tmp_path):
    case = CASES[name]
    save(case, tmp_path)
    opened = assert_as_transformers(tmp_path, case.class_name)
    assert opened.config.tied_embeddings == (case.own is None)


@pytest.mark.parametrize("case", [Case(*_GPT2, ()), Case(*_BART, ())], ids=["gpt2", "bart"])
def test_bodies_without_their_prefix(case, tmp_path):
    save(dataclasses.replace(case, names=(case.saved, "lm_head.weight")), tmp_path)
    prefix = case.saved.split(".")[0] + "."
    tensors = load_file(tmp_path / "model.safetensors")
    bare = {name.removeprefix(prefix): value for name, value in tensors.items() if name != "lm_head.weight"}
    save_file(bare, tmp_path / "model.safetensors", {"format": "pt"})
    assert_as_transformers(tmp_path, case.class_name)
    bare = {name: value for name, value in bare.items() if not name.startswith(("shared", "wte"))}
    save_file(bare | {"lm_head.weight": tensors[case.saved]}, tmp_path / "model.safetensors", {"format": "pt"})
    assert case.saved in open_folder(tmp_path).tensors.entries


def test_copies_that_differ_are_refused(tmp_path):
    case = CASES["t5, encoder"]
    save(dataclasses.replace(case, own="decoder.embed_tokens.weight"), tmp_path)
    with pytest.raises(UserError, match=r"'decoder.embed_tokens.weight' should be tied to 'shared.weight' and has oth"):
        open_folder(tmp_path)
