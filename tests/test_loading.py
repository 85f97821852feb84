"""From a run by way of `triarch.load`, `triarch export` and `triarch evaluate` to numbers."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest

import triarch
from tests.training import tiny
from triarch.cli.exporting.tokenizer import tokenizer_files
from triarch.cli.main import main
from triarch.errors import UserError
from triarch.loading import open_stored
from triarch.models.network import flatten
from triarch.objectives import PrefixLM
from triarch.training import CheckpointConfig, train

# Orbax leaves coroutines behind when a read fails.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a run of an encoder-decoder and its store."""
    # Its name is a pattern to Orbax.
    folder = tmp_path_factory.mktemp("study") / "a [run]*"
    folder.mkdir()
    config = tiny.run_config(
        tiny.write_store(folder / "store"),
        "encoder-decoder",
        steps=6,
        eval_every=6,
        eval_batches=2,
        checkpoint=CheckpointConfig(every=3, keep_last=2),
    )
    train(config, folder / "run", "")
    return folder


@pytest.fixture
def run(folder, tmp_path):
    """A run folder to damage."""
    return shutil.copytree(folder / "run", tmp_path / "run")


def parameters(workdir: Path, step: int) -> dict[str, np.ndarray]:
    with ocp.StandardCheckpointer() as checkpointer:
        return flatten(checkpointer.restore(workdir / "checkpoints" / str(step) / "params"))


def assert_loaded(model, workdir: Path, step: int):
    assert model.origin.step == step
    stored, found = parameters(workdir, step), flatten(model.params)
    assert stored.keys() == found.keys()
    for name, value in stored.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_import_is_cheap():
    code = "import sys, triarch; print([name for name in ('jax', 'orbax', 'tensorflow') if name in sys.modules])"
    environment = os.environ | {"PYTHONPATH": str(Path(triarch.__file__).parents[1])}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip() == "[]"


@pytest.mark.slow
def test_a_run_gives_its_newest_checkpoint_or_the_one_asked_for(folder):
    workdir = folder / "run"
    model = triarch.load(workdir)
    assert_loaded(model, workdir, 6)
    assert model.config == tiny.model("encoder-decoder")
    assert model.origin.objective == {"class": "PrefixLM", **dataclasses.asdict(PrefixLM())}
    assert model.vocabulary["fingerprint"] == "tiny"
    assert_loaded(triarch.load(str(workdir), step=3), workdir, 3)
    with pytest.raises(UserError, match=r"no checkpoint of step 4 \(there are 3, 6\)"):
        triarch.load(workdir, step=4)


def test_a_damaged_checkpoint_is_passed_over_and_left_alone(run, capsys):
    damaged = max((run / "checkpoints" / "6" / "params").rglob("*"), key=lambda p: p.stat().st_size * p.is_file())
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert_loaded(triarch.load(run), run, 3)
    message = capsys.readouterr().err
    assert message.startswith("triarch: checkpoint 6 is damaged") and message.endswith("; using step 3\n")
    assert (run / "checkpoints" / "6").is_dir()
    with pytest.raises(UserError, match="no whole checkpoint: checkpoint 6 is damaged"):
        triarch.load(run, step=6)
    shutil.rmtree(run / "checkpoints" / "3")
    with pytest.raises(UserError, match="no whole checkpoint: checkpoint 6 is damaged"):
        triarch.load(run)
    shutil.rmtree(run / "checkpoints" / "6")
    with pytest.raises(UserError, match="the run has no checkpoint yet"):
        triarch.load(run)


def test_a_config_that_is_none(run):
    (run / "config.json").write_text('{"model": {}}')
    with pytest.raises(UserError, match=r"config.json: no key 'objective': expected an object"):
        triarch.load(run)
    (run / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json: not JSON"):
        triarch.load(run)


def test_a_run_needs_its_store_no_more(folder, tmp_path):
    """The vocabulary lies in the run folder: evaluation and export go on when the token store has gone."""
    store = shutil.copytree(folder / "store", tmp_path / "store")
    (store / "vocabulary").mkdir()
    (store / "vocabulary" / "pieces.txt").write_text("a b c")
    config = tiny.run_config(store, steps=6)
    train(config, tmp_path / "run", "")
    shutil.rmtree(store)
    loaded = triarch.load(tmp_path / "run")
    assert loaded.vocabulary["size"] == tiny.VOCABULARY
    assert (loaded.vocabulary_files / "pieces.txt").read_text() == "a b c"
    assert main(["export", f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'export'}"]) == 0
    assert (triarch.load(tmp_path / "export").vocabulary_files / "pieces.txt").read_text() == "a b c"


@pytest.mark.slow
def test_export_verb_keeps_the_numbers(folder, tmp_path, capsys):
    output, result = tmp_path / "export", tmp_path / "result.json"
    arguments = ["export", f"--workdir={folder / 'run'}", f"--output={output}", f"--json={result}"]
    assert main([*arguments, "--format=orbax"]) == 0
    assert "encoder-decoder" in capsys.readouterr().out
    exported, run = triarch.load(output), triarch.load(folder / "run")
    # An export also carries the run's record, of which its model card is made.
    source = {key: value for key, value in exported.origin.source.items() if key in run.origin.source}
    assert dataclasses.replace(exported.origin, source=source) == run.origin
    tokens = np.random.default_rng(0).integers(0, tiny.VOCABULARY, (2, 6), dtype=np.int32)
    batch = {"encoder_input_tokens": tokens, "decoder_input_tokens": tokens[:, :4]}
    np.testing.assert_array_equal(exported.logits(batch), run.logits(batch))
    fields = json.loads(result.read_text())
    assert (fields["step"], fields["dtype"]) == (6, "float32")
    assert fields["num_params"] == run.config.num_params()
    assert main(arguments) == 1
    assert "export: exists already" in capsys.readouterr().err
    assert main([*arguments, "--overwrite", "--step=3", "--dtype=bfloat16"]) == 0
    assert json.loads(result.read_text())["step"] == 3
    assert main([*arguments, "--format=orbx"]) == 1
    assert capsys.readouterr().err == "triarch export: error: --format=orbx: no such format (did you mean 'orbax'?)\n"


def test_evaluate_verb_agrees_with_the_training_loop(folder, tmp_path, capsys):
    result = tmp_path / "loss.json"
    arguments = ["evaluate", f"--model={folder / 'run'}", f"--json={result}"]
    stores = [f"--in_domain={folder / 'store'}", f"--out_of_domain={folder / 'store'}"]
    assert main([*arguments, *stores, "--max_windows=all", "--scoring=native"]) == 0
    assert "nats/token" in capsys.readouterr().out
    fields = json.loads(result.read_text())
    assert (fields["architecture"], fields["step"], fields["split"]) == ("encoder-decoder", 6, "validation")
    first, second = fields["evaluations"]
    # Two batches of 8 are one epoch of the 16 validation windows.
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert first["nats_per_token"] == pytest.approx(lines[-1]["validation_loss"], rel=1e-5)
    assert (first["role"], second["role"]) == ("in_domain", "out_of_domain")
    assert first["num_tokens"] == 16 * tiny.WINDOW // 2
    assert first | {"role": "out_of_domain"} == second
    for extra, message in (
        ([], "no store to evaluate on"),
        ([*stores, "--max_windows=many"], "--max_windows=many: expected a number or 'all'"),
        ([*stores, "--scoring=paired,natve"], "no scoring 'natve' (did you mean 'native'?)"),
        ([f"--in_domain={folder / 'stor'}"], "stor: no such token store (did you mean 'store'?)"),
    ):
        assert main([*arguments, *extra]) == 1
        assert message in capsys.readouterr().err


def test_a_vocabulary_is_looked_at_before_it_is_read(run, capsys):
    (run / "vocabulary").mkdir(exist_ok=True)
    os.mkfifo(run / "vocabulary" / "merges.txt")
    assert tokenizer_files(open_stored(run)).keys() == {"tokenizer_config.json"}
    assert "merges.txt: is a FIFO, expected a regular file" in capsys.readouterr().err
