"""From a T5X run's folder to text, by the command line."""

from __future__ import annotations

import json
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest

import triarch
from tests.interchange.t5x.checkpoints import WIDTH, Checkpoint, random_minimal
from tests.tokenizers.texts import small_sentencepiece
from triarch.cli.main import main

SIZE = 420
GIN = """
from __gin__ import dynamic_registration
import module_that_is_not_there
from t5x.examples.t5 import network

include 'somewhere/else.gin'
ACTIVATIONS = ('silu', 'linear')
DROPOUT_RATE = %gin.REQUIRED
train_script.train:
  model = @models.EncoderDecoderModel()
network.T5Config:
  vocab_size = 550
  dtype = 'bfloat16'
  num_heads = 3
  mlp_activations = %ACTIVATIONS
  dropout_rate = %DROPOUT_RATE
  logits_via_embedding = True
"""


def write_run(folder):
    """Writes the folder of a run of T5X: a T5 with two matrices, a checkpoint and config.gin."""
    parameters = random_minimal()
    rng = np.random.default_rng(1)
    for name in [name for name in parameters if "/mlp/wi/" in name]:
        shape = parameters.pop(name).shape
        for number in (0, 1):
            parameters[name.replace("/wi/", f"/wi_{number}/")] = rng.normal(size=shape).astype(np.float32)
    parameters["token_embedder/embedding"] = rng.normal(size=(550, WIDTH)).astype(np.float32)
    Checkpoint(parameters).write(folder / "checkpoint_1000")
    return folder / "checkpoint_1000"


@pytest.fixture
def checkpoint(tmp_path):
    small_sentencepiece(size=SIZE).save(tmp_path)
    return write_run(tmp_path / "run")


def run(*arguments, status=0):
    assert main([*map(str, arguments)]) == status


def test_import_load_and_export(checkpoint, tmp_path, capsys):
    (checkpoint.parent / "config.gin").write_text(GIN)
    result, export = tmp_path / "result.json", tmp_path / "export"
    vocabulary = tmp_path / "sentencepiece.model"
    run("import", checkpoint, f"--vocabulary={vocabulary}", f"--output={export}", f"--json={result}")
    said = json.loads(result.read_text())
    assert (said["class"], said["left_out"], said["notes"]) == ("T5ForConditionalGeneration", ["state"], [])
    assert said["vocabulary"]["special"]["sentinels"] == [SIZE + 99, 100]
    model = triarch.load(export)
    assert (model.config.activation, model.config.gated_mlp, model.config.tied_embeddings) == ("silu", True, True)
    assert np.isfinite(model.score(("def mean(values):", " return 0")).bits_per_byte)
    assert "model.gin" in {path.name for path in export.iterdir()}
    run("export", f"--workdir={export}", "--format=huggingface", f"--output={tmp_path / 'hf'}")
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["decoder_start_token_id"] == 0
    assert (tmp_path / "hf" / "tokenizer.json").is_file()


def test_without_gin_and_vocabulary(checkpoint, tmp_path, capsys):
    run("import", checkpoint, f"--output={tmp_path / 'export'}")
    printed = capsys.readouterr()
    assert "mlp_activations = ('gelu', 'linear') is assumed" in printed.out
    assert "--vocabulary" in printed.err
    assert not (tmp_path / "export" / "vocabulary").exists()


IMPORT = "import {run}/checkpoint_1000 --output={tmp}/e"
REFUSED = {
    "the run's folder": ("import {run} --output={tmp}/e", "checkpoint_1000"),
    "gin that is not there": (f"{IMPORT} --t5x_gin={{tmp}}/no.gin", "no.gin"),
    "gin of something else": (f"{IMPORT} --t5x_gin={{tmp}}/other.gin", "T5Config"),
    "gin that is none": (f"{IMPORT} --t5x_gin={{tmp}}/none.gin", "none.gin line 1"),
    "a vocabulary that is none": (f"{IMPORT} --vocabulary={{tmp}}/none.gin", "none.gin"),
    "a larger vocabulary": (f"{IMPORT} --vocabulary={{tmp}}/large/sentencepiece.model", "network"),
    "a checkpoint of Orbax's alone": ("import {tmp}/orbax --output={tmp}/e", "@checkpoints.Checkpointer"),
    "a run's checkpoint of Orbax's alone": ("import {tmp}/run --output={tmp}/e", "@checkpoints.Checkpointer"),
    "a Hugging Face folder": ("import {tmp} --vocabulary={tmp}/sentencepiece.model --output={tmp}/e", "--vocabulary"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind, checkpoint, tmp_path, capsys):
    (tmp_path / "other.gin").write_text("RunConfig.steps = 7\n")
    (tmp_path / "none.gin").write_text("a = = (\n")
    (tmp_path / "large").mkdir()
    if "Orbax" in kind:
        tree = {"step": np.array(7), "target": {"decoder": {"decoder_norm": {"scale": np.ones(4, np.float32)}}}}
        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save(tmp_path / "run" / "state", tree)
        shutil.copytree(tmp_path / "run" / "state", tmp_path / "orbax")
    small_sentencepiece(size=460).save(tmp_path / "large")
    command, word = REFUSED[kind]
    status = main(command.format(run=checkpoint.parent, tmp=tmp_path).split())
    error = capsys.readouterr().err
    assert status != 0 and word in error.splitlines()[-1] and "Traceback" not in error
    assert not (tmp_path / "e").exists()
