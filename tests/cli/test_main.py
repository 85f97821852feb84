"""The command line: verbs, help, exit statuses, and a start that needs no TensorFlow."""

import json
import os
import subprocess
import sys

import pytest

from triarch.cli.main import VERBS, main


def test_no_verb_shows_what_there_is(capsys):
    assert main([]) == 2
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in VERBS)
    assert main(["--help"]) == 0


def test_misspelt_verb(capsys):
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == "triarch: error: no verb 'trian' (did you mean 'train'?)\n"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert f"triarch {verb}" in shown.split("example:")[1]
    assert "--json" in shown


def test_a_reader_that_leaves_early_is_no_error(monkeypatch, capsys):
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(sys, "stdout", os.fdopen(writing, "w"))
    assert main(["describe", "--gin_file=models/redllm/1b.gin"]) == 141
    assert capsys.readouterr().err == ""


def test_misspelt_flag(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["describe", "--gin_fle=x.gin"])
    assert caught.value.code == 2
    assert "unknown argument --gin_fle (did you mean '--gin_file'?)" in capsys.readouterr().err


def test_result_as_json(tmp_path, capsys):
    out = tmp_path / "result.json"
    assert main(["describe", "--gin_file=models/redllm/8b.gin", f"--json={out}"]) == 0
    result = json.loads(out.read_text())
    assert result["architecture"] == "encoder-decoder"
    assert result["num_params"] == 8_589_934_592
    assert result["num_params_non_embedding"] == 8_589_934_592 - 32_768 * 4096
    assert set(result["flops_per_sequence"]) == {"paper", "train"}


def test_json_into_a_missing_folder_is_one_line(tmp_path, capsys):
    assert main(["describe", "--gin_file=models/redllm/8b.gin", f"--json={tmp_path}/no/result.json"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("triarch describe: error: --json=") and error.count("\n") == 1


def test_users_mistake_exits_with_1_and_one_line(capsys):
    assert main(["describe", "--gin_file=nowhere.gin"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("triarch describe: error: no gin file nowhere.gin")
    assert captured.err.count("\n") == 1


def test_training_starts_without_tensorflow():
    """`import triarch.training` and the model load no TensorFlow, SeqIO or TFDS (checked in a fresh process)."""
    code = (
        "import sys, triarch.training, triarch.training.loop, triarch.evaluation, triarch.interchange;"
        "print([m for m in sys.modules if m.split('.')[0] in "
        "('tensorflow', 'tensorflow_datasets', 'tensorflow_text', 'seqio', 'torch', 'gin')])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
