"""Models trained from scratch, as transformers reads them: special ids are those of the vocabulary."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from scipy.special import log_softmax

from tests.interchange import exports
from tests.interchange.huggingface import parity
from tests.interchange.huggingface.families.decoders import test_gemma3, test_gpt2, test_gpt_neox
from tests.interchange.huggingface.families.encoder_decoders import test_bart, test_t5, test_t5gemma
from tests.interchange.huggingface.families.encoders import test_bert, test_modernbert
from tests.interchange.huggingface.folders import LLAMA
from tests.interchange.huggingface.parity import torch
from tests.models import tiny
from triarch.decoding import GenerationSettings, decoder_start, generate
from triarch.interchange import Origin, read_export, write_export
from triarch.interchange.huggingface import FAMILIES, open_folder, write_huggingface, write_import
from triarch.interchange.huggingface.fields import ConfigFields
from triarch.interchange.streamed import open_export

# None is what a class has by itself.
SPECIAL = {"pad": 4, "bos": 7, "eos": 9, "mask": 11}
NAMED = {f"{role}_token_id": index for role, index in SPECIAL.items()}
FIELDS = {
    "bert": test_bert.BASE | dict(num_hidden_layers=1),
    "modernbert": test_modernbert.CASES["second layer global, no bias"],
    "modernbert-decoder": test_modernbert.CASES["second layer global, no bias"],
    "gpt2": test_gpt2.BASE | dict(n_layer=1),
    "llama": LLAMA,
    "olmo2": LLAMA,
    "qwen3": LLAMA,
    "gpt_neox": test_gpt_neox.BASE | dict(num_hidden_layers=1),
    "gemma3": test_gemma3.BASE | dict(num_hidden_layers=1),
    "t5": test_t5.BASE | dict(num_layers=1),
    "bart": test_bart.BASE | dict(encoder_layers=1, decoder_layers=1),
    "t5gemma": dict(
        encoder=test_t5gemma.SIDE | dict(num_hidden_layers=2), decoder=test_t5gemma.SIDE | dict(num_hidden_layers=2)
    ),
}
PAIRS = ("t5", "bart", "t5gemma")
SOURCES = ([12, 31, 9, 22, 9], [14, 30, 9])
TARGETS = ([20, 31, 9], [8, 30, 12, 40, 9])


def trained(name, folder, **source):
    """Writes the export of a network that was trained here, and its Hugging Face folder; returns both.

    Args:
      name: of a family.
      folder: to write into.
      source: what else is known of where it comes from.
    """
    family = FAMILIES[name]
    fields = {key: value for key, value in FIELDS[name].items() if not key.endswith("_token_id")}
    config = family.read(ConfigFields(fields, "config.json", family.class_name))
    config = dataclasses.replace(config, pad_id=SPECIAL["pad"])
    vocabulary = exports.VOCABULARY | {"size": config.vocab_size, "special": SPECIAL}
    origin = Origin({"class": "PrefixLM"}, vocabulary, 7, {"run": "tiny", **source})
    write_export(folder / "export", exports.network(config), origin)
    write_huggingface(open_export(folder / "export"), folder / "hf", family)
    return folder / "export", folder / "hf"


@pytest.mark.parametrize("name", FIELDS)
def test_config_names_the_ids_of_the_vocabulary(name, tmp_path):
    _, folder = trained(name, tmp_path)
    config = parity.transformers.AutoConfig.from_pretrained(folder)
    roles = NAMED | ({"decoder_start_token_id": SPECIAL["bos"]} if name in PAIRS else {})
    assert {key: getattr(config, key) for key in roles} == roles
    for side in (config.encoder, config.decoder) if name == "t5gemma" else ():
        assert [getattr(side, f"{role}_token_id") for role in ("pad", "bos", "eos")] == [4, 7, 9]
    if name.startswith("modernbert"):
        assert (config.cls_token_id, config.sep_token_id) == (SPECIAL["bos"], SPECIAL["eos"])
    written = folder / "generation_config.json"
    assert written.exists() == (name not in ("bert", "modernbert"))
    if written.exists():
        assert json.loads(written.read_text()) == {key: value for key, value in roles.items() if "mask" not in key}


def table(rows, fill: int) -> np.ndarray:
    """Returns rows of one length, filled up on the right."""
    longest = max(map(len, rows))
    return np.array([[*row, *[fill] * (longest - len(row))] for row in rows])


def batch(pad: int, start: int) -> tuple[dict, np.ndarray]:
    """Returns our features of the pairs, and their targets, -1 where there is none."""
    features = {
        "encoder_input_tokens": table(SOURCES, pad),
        "encoder_segment_ids": table([[1] * len(row) for row in SOURCES], 0),
        "decoder_input_tokens": table([[start, *row[:-1]] for row in TARGETS], pad),
    }
    return features, table(TARGETS, -1)


def nats(loaded, features, targets) -> float:
    """Returns the mean loss of the targets that there are, in float64 from our logits."""
    found = log_softmax(loaded.logits(features).astype(np.float64), axis=-1)
    picked = np.take_along_axis(found, np.maximum(targets, 0)[..., None], axis=-1)[..., 0]
    return -picked[targets >= 0].mean()


def their_nats(model, tokens, real, targets) -> float:
    """Returns the loss of transformers with `labels`."""
    labels = torch.from_numpy(np.where(targets >= 0, targets, -100))
    with torch.no_grad():
        return model(torch.from_numpy(tokens), attention_mask=torch.from_numpy(real), labels=labels).loss.item()


def our_loss(loaded, start: int) -> float:
    """Returns nats per target of the pairs."""
    return nats(loaded, *batch(loaded.config.pad_id, start))


def their_loss(folder, pad: int) -> float:
    """Returns what transformers makes of the pairs' `labels`."""
    model = parity.transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, attn_implementation="eager").eval()
    features, targets = batch(pad, 0)
    return their_nats(model, features["encoder_input_tokens"], features["encoder_segment_ids"], targets)


@pytest.mark.parametrize("name", PAIRS)
def test_loss_with_labels_is_ours(name, tmp_path):
    """And so is what `generate` writes."""
    export, folder = trained(name, tmp_path)
    loaded = read_export(export, tiny.FLOAT32)
    assert their_loss(folder, SPECIAL["pad"]) == pytest.approx(our_loss(loaded, SPECIAL["bos"]), rel=1e-5)
    model = parity.transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    features, _ = batch(SPECIAL["pad"], 0)
    out = model.generate(
        torch.from_numpy(features["encoder_input_tokens"]),
        attention_mask=torch.from_numpy(features["encoder_segment_ids"]),
        max_new_tokens=6,
    )
    settings = GenerationSettings(max_new_tokens=6, stop_tokens=((SPECIAL["eos"],),))
    rows = [row[1:].tolist() for row in out]
    ended = [row[: row.index(SPECIAL["eos"])] if SPECIAL["eos"] in row else row for row in rows]
    assert generate(loaded, SOURCES, settings) == ended


@parity.cases(PAIRS, "t5", "bart")
def test_a_tuned_import_reads_first_what_training_gave_it(name, tmp_path):
    said = FIELDS[name] | {"decoder_start_token_id": 2, "bos_token_id": 3}
    if name == "t5gemma":
        said = {side: fields | {"bos_token_id": 3} for side, fields in FIELDS[name].items()}
    tuned_from = {"huggingface": FAMILIES[name].class_name, "config": said, "generation_config": None}
    export, folder = trained(name, tmp_path, tuned_from=tuned_from)
    loaded = read_export(export, tiny.FLOAT32)
    assert decoder_start(loaded) == (SPECIAL["bos"],)
    assert their_loss(folder, SPECIAL["pad"]) == pytest.approx(our_loss(loaded, SPECIAL["bos"]), rel=1e-5)
    assert not (folder / "generation_config.json").exists()
    if name != "t5gemma":
        assert parity.config_of(folder)["bos_token_id"] == 3


@parity.cases(("gpt2", "llama", "modernbert-decoder"), "llama", "modernbert-decoder")
def test_loss_with_labels_after_bos_is_ours(name, tmp_path):
    """A decoder alone reads bos first, which a text for transformers begins with."""
    export, folder = trained(name, tmp_path)
    texts = [[row[0] % 17, *(token % 17 for token in row)] for row in TARGETS]
    targets = table(texts, -1)
    inputs = table([[SPECIAL["bos"], *row[:-1]] for row in texts], SPECIAL["pad"])
    ours = nats(read_export(export, tiny.FLOAT32), {"decoder_input_tokens": inputs}, targets)
    model = parity.transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    tokens = table([[SPECIAL["bos"], *row] for row in texts], SPECIAL["pad"])
    real = table([[1] * (1 + len(row)) for row in texts], 0)
    labels = table([[SPECIAL["bos"], *row] for row in texts], -1)
    assert their_nats(model, tokens, real, labels) == pytest.approx(ours, rel=1e-5)


@parity.cases(("bert", "modernbert"), "modernbert")
def test_loss_of_masks_is_ours(name, tmp_path):
    export, folder = trained(name, tmp_path)
    tokens, real = table(TARGETS, SPECIAL["pad"]), table([[1] * len(row) for row in TARGETS], 0)
    hidden = (np.arange(tokens.shape[1]) % 2 == 0) & (real > 0)
    targets = np.where(hidden, tokens, -1)
    masked = np.where(hidden, SPECIAL["mask"], tokens)
    # Without segments: what is padding, the id says.
    ours = nats(read_export(export, tiny.FLOAT32), {"encoder_input_tokens": masked}, targets)
    model = parity.transformers.AutoModelForMaskedLM.from_pretrained(folder, attn_implementation="eager").eval()
    assert their_nats(model, masked, real, targets) == pytest.approx(ours, rel=1e-5)


@parity.cases(PAIRS, "t5", "bart")
def test_so_it_is_imported_and_exported_again(name, tmp_path):
    _, folder = trained(name, tmp_path)
    write_import(open_folder(folder), tmp_path / "back")
    write_huggingface(open_export(tmp_path / "back"), tmp_path / "again", FAMILIES[name])
    for file in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "again" / file).read_text()) == json.loads((folder / file).read_text())
    loaded = read_export(tmp_path / "back", tiny.FLOAT32)
    assert loaded.config.pad_id == SPECIAL["pad"]
    assert decoder_start(loaded) == (SPECIAL["bos"],)
