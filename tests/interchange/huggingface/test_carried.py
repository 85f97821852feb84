"""What config.json and generation_config.json said, through import, training and export, and in `generate`."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import triarch
from tests.interchange import exports
from tests.interchange.huggingface import folders, parity
from tests.interchange.huggingface.families.encoder_decoders import test_bart
from tests.interchange.huggingface.parity import torch
from tests.interchange.huggingface.test_special_ids import our_loss, their_loss
from tests.models import tiny as models
from tests.training import tiny
from triarch.cli.main import main
from triarch.decoding import Conventions, GenerationSettings, generate
from triarch.interchange import read_export
from triarch.interchange.huggingface import open_folder, write_import
from triarch.training import train
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant

PAD, BOS, EOS = 1, 3, 2
# The ids are none of the class's own.
SAID = dict(bos_token_id=12, eos_token_id=[EOS, 6], decoder_start_token_id=BOS)
BART = test_bart.BASE | dict(encoder_layers=1, decoder_layers=1, forced_eos_token_id=None)
GENERATION = SAID | dict(forced_bos_token_id=8, num_beams=3, length_penalty=2.0, max_new_tokens=7, pad_token_id=PAD)
VOCABULARY = exports.VOCABULARY | {"size": parity.VOCAB, "special": {"pad": PAD, "bos": BOS, "eos": EOS, "mask": None}}
PROMPTS = ([7, 31, 9, 22], [11, 30, 14, 8, 19, 4, 22, 36, 13], [40])


@pytest.fixture(scope="module")
def model():
    return parity.make("BartForConditionalGeneration", "BartConfig", **BART | SAID)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """A model with a generation_config.json, and with options that are nobody's."""
    folder = tmp_path_factory.mktemp("theirs")
    model.save_pretrained(folder)
    config = parity.config_of(folder)
    extra = {"task_specific_params": {"summary": {"max_length": 9}}, "of_my_own": [1, None], "auto_map": {"A": "b.C"}}
    (folder / "config.json").write_text(json.dumps(config | extra))
    (folder / "generation_config.json").write_text(json.dumps(GENERATION))
    return folder


@pytest.fixture(scope="module")
def imported(folder, tmp_path_factory):
    export = tmp_path_factory.mktemp("imported") / "export"
    write_import(open_folder(folder), export)
    return export


@pytest.fixture(scope="module")
def tuned(imported, tmp_path_factory):
    """A run that began with the import, on a vocabulary whose padding and start are others."""
    folder = tmp_path_factory.mktemp("tuned")
    store = tiny.write_store(folder / "store")
    network = read_export(imported).config
    short = dict(steps=1, optimizer=AdamW(Constant(1e-3, warmup_steps=0)))
    config = tiny.run_config(store, "encoder-decoder", model=network, init_from=str(imported), **short)
    train(config, folder / "run", "")
    return folder / "run"


def give(source, output):
    assert main(["export", f"--workdir={source}", f"--output={output}", "--format=huggingface"]) == 0
    return parity.config_of(output), json.loads((output / "generation_config.json").read_text())


def test_an_import_says_again_what_it_said(folder, imported, tmp_path):
    config, generation = give(imported, tmp_path / "again")
    said = parity.config_of(folder)
    # The code that this named is not there.
    del said["auto_map"]
    assert config == said
    assert generation == GENERATION
    assert their_loss(tmp_path / "again", PAD) == their_loss(folder, PAD)
    loaded = read_export(imported, models.FLOAT32)
    assert their_loss(folder, PAD) == pytest.approx(our_loss(loaded, BOS), rel=1e-5)


@pytest.mark.slow
def test_training_changes_the_start_alone(folder, tuned, tmp_path):
    config, generation = give(tuned, tmp_path / "again")
    special = tiny_special()
    said = parity.config_of(folder)
    del said["auto_map"]
    assert config == said | {"decoder_start_token_id": special["bos"], "pad_token_id": special["pad"]}
    assert generation == GENERATION | {"decoder_start_token_id": special["bos"]}
    loaded = triarch.load(tuned, execution=models.FLOAT32)
    assert their_loss(tmp_path / "again", special["pad"]) == pytest.approx(our_loss(loaded, special["bos"]), rel=1e-5)


def tiny_special():
    """The special ids of `tiny.write_store`."""
    return {"pad": 0, "bos": 1, "eos": 2, "mask": 3}


def test_a_runs_padding_is_that_of_its_vocabulary(tuned):
    """BART pads with 1, which stands for something here."""
    loaded = triarch.load(tuned)
    assert json.loads((tuned / "config.json").read_text())["model"]["pad_id"] == 1 != loaded.config.pad_id
    source, target = np.array([[5, 1, 9, 1, 7, 0]]), np.array([[1, 8, 9]])
    bare = {"encoder_input_tokens": source, "decoder_input_tokens": target}
    whole = loaded.logits(bare | {"encoder_segment_ids": np.array([[1, 1, 1, 1, 1, 0]])})
    np.testing.assert_array_equal(loaded.logits(bare), whole)


def test_what_a_tuned_model_says_goes_on(tuned, imported, tmp_path):
    """From a run's export in our own layout, and for `generate`."""
    assert main(["export", f"--workdir={tuned}", f"--output={tmp_path / 'orbax'}"]) == 0
    loaded = triarch.load(tmp_path / "orbax")
    assert loaded.origin.imported["config"] == triarch.load(imported).origin.source["config"]
    conventions = Conventions.of(loaded)
    assert (conventions.decoder_start, conventions.first_token, conventions.ends) == ((1,), 8, (EOS, 6))
    assert give(tmp_path / "orbax", tmp_path / "again") == give(tuned, tmp_path / "at_once")


def test_an_end_that_was_not_said_takes_its_place(tuned, tmp_path):
    said = json.loads((tuned / "tuned_from.json").read_text())
    export = tmp_path / "orbax"
    assert main(["export", f"--workdir={tuned}", f"--output={export}"]) == 0
    fields = json.loads((export / "manifest.json").read_text())
    for file in ("config", "generation_config"):
        said[file]["eos_token_id"] = [6, 9]
    fields["source"]["tuned_from"] = said
    (export / "manifest.json").write_text(json.dumps(fields))
    config, generation = give(export, tmp_path / "again")
    assert config["eos_token_id"] == generation["eos_token_id"] == EOS
    assert Conventions.of(triarch.load(export)).ends == (EOS,)


@pytest.mark.parametrize("beams", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_generate_begins_and_ends_as_it_is_said(beams, model, folder, tmp_path):
    """Several ends and a forced first token, as transformers has them."""
    write_import(open_folder(folder), tmp_path / "export", vocabulary=VOCABULARY)
    loaded = read_export(tmp_path / "export", models.FLOAT32)
    conventions = Conventions.of(loaded)
    assert (conventions.decoder_start, conventions.first_token, conventions.ends) == ((BOS,), 8, (EOS, 6))
    settings = GenerationSettings(
        max_new_tokens=7,
        num_beams=beams,
        length_penalty=2.0,
        first_token=conventions.first_token,
        stop_tokens=tuple((end,) for end in conventions.ends),
    )
    found = generate(loaded, PROMPTS, settings, start=conventions.decoder_start)
    theirs = parity.transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    longest = max(map(len, PROMPTS))
    padded = torch.tensor([prompt + [PAD] * (longest - len(prompt)) for prompt in PROMPTS])
    rows = theirs.generate(padded, attention_mask=(padded != PAD).long(), num_beams=beams)[:, 1:].tolist()
    ends = {EOS, 6}
    expected = [row[: next((i for i, token in enumerate(row) if token in ends), len(row))] for row in rows]
    assert found == expected
    assert all(row[0] == 8 for row in found)


def test_config_speaks_where_there_is_no_generation_config(tmp_path):
    folder = folders.llama(tmp_path / "hf", eos_token_id=[2, 5, 10**6])
    write_import(open_folder(folder), tmp_path / "export", vocabulary=VOCABULARY)
    assert Conventions.of(read_export(tmp_path / "export")).ends == (2, 5)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("generation_config.json", "{", "generation_config.json: not JSON"),
        ("generation_config.json", "[]", r"generation_config.json: the value = []: expected an object"),
        (
            "generation_config.json",
            '{"eos_token_id": [1, "</s>"]}',
            "generation_config.json: eos_token_id = [1, '</s>']: expected a token id, or a list of them",
        ),
        (
            "generation_config.json",
            '{"forced_bos_token_id": 43}',
            "generation_config.json: forced_bos_token_id = 43: expected a token id, 0 to 42",
        ),
        ("config.json", None, "config.json: decoder_start_token_id = '</s>': expected a token id, 0 to 42"),
    ],
)
def test_bad_files_are_one_line(name, text, message, model, tmp_path, capsys):
    model.save_pretrained(tmp_path / "hf")
    text = json.dumps(parity.config_of(tmp_path / "hf") | {"decoder_start_token_id": "</s>"}) if text is None else text
    (tmp_path / "hf" / name).write_text(text)
    capsys.readouterr()
    assert main(["import", str(tmp_path / "hf"), f"--output={tmp_path / 'export'}"]) == 1
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


def test_what_is_no_longer_so_is_not_said(imported, tmp_path):
    """An option that the class has by another key, and that the network has not any more."""
    changed = shutil.copytree(imported, tmp_path / "changed")
    fields = json.loads((changed / "manifest.json").read_text())
    fields["source"]["config"]["decoder_attention_heads"] = 2
    fields["config"]["activation"] = "relu"
    (changed / "manifest.json").write_text(json.dumps(fields))
    config, _ = give(changed, tmp_path / "again")
    assert (config["decoder_attention_heads"], config["activation_function"]) == (4, "relu")
    assert {key: config[key] for key in SAID} == SAID
