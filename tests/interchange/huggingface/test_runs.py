"""A run's checkpoint goes to Hugging Face and back with the same numbers."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import load_file

import triarch
from tests.training import tiny
from triarch.cli.main import main
from triarch.training import train


@pytest.mark.slow
def test_a_trained_decoder_is_a_llama(tmp_path):
    store = tiny.write_store(tmp_path / "store")
    train(tiny.run_config(store, "decoder-only", steps=6), tmp_path / "run", "")
    hf, back = tmp_path / "hf", tmp_path / "back"
    result = tmp_path / "result.json"
    arguments = ["export", f"--workdir={tmp_path / 'run'}", f"--output={hf}", "--format=huggingface"]
    assert main([*arguments, f"--json={result}"]) == 0
    fields = json.loads(result.read_text())
    assert (fields["class"], fields["step"]) == ("LlamaForCausalLM", 6)
    config = json.loads((hf / "config.json").read_text())
    special = {f"{name}_token_id": config[f"{name}_token_id"] for name in ("bos", "eos", "pad")}
    assert special == {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    assert main(["import", str(hf), f"--output={back}"]) == 0
    batch = {"decoder_input_tokens": np.random.default_rng(0).integers(0, tiny.VOCABULARY, (2, 9))}
    np.testing.assert_array_equal(triarch.load(back).logits(batch), triarch.load(tmp_path / "run").logits(batch))
    # As if the folder had held the tokenizer, of a family that says nothing of an objective.
    fields = json.loads((back / "manifest.json").read_text())
    vocabulary = json.loads((store / "manifest.json").read_text())["vocabulary"]
    (back / "manifest.json").write_text(json.dumps(fields | {"vocabulary": vocabulary, "objective": None}))
    evaluated = ["evaluate", f"--model={back}", f"--in_domain={store}", "--batch_size=4", f"--json={result}"]
    assert main(evaluated) == 0
    assert [one["scoring"] for one in json.loads(result.read_text())["evaluations"]] == ["paired"]


@pytest.mark.slow
def test_checkpoints_become_a_series(tmp_path, capsys):
    """Each is what an export of it alone is; what is there stays, and is not mixed with another export's."""
    transformers = pytest.importorskip("transformers")
    store = tiny.write_store(tmp_path / "store")
    config = tiny.run_config(store, "decoder-only", steps=6)
    keep = dataclasses.replace(config.checkpoint, every=2, keep_last=9)
    train(dataclasses.replace(config, checkpoint=keep), tmp_path / "run", "")
    series, result = tmp_path / "series", tmp_path / "result.json"
    export = ["export", f"--workdir={tmp_path / 'run'}", "--format=huggingface"]
    every = [*export, "--step=all", f"--output={series}", f"--json={result}"]
    assert main([*export, "--step=2,6", f"--output={series}"]) == 0
    assert {path.name for path in series.iterdir()} == {"series.json", "step-2", "step-6"}
    (series / "step-6" / "README.md").write_text("kept")
    assert main(every) == 0
    fields = json.loads(result.read_text())
    assert (fields["steps"], fields["skipped"]) == ([2, 4, 6], [2, 6])
    assert (series / "step-6" / "README.md").read_text() == "kept"
    assert main([*export, "--step=4", f"--output={tmp_path / 'alone'}"]) == 0
    one, other = (load_file(folder / "model.safetensors") for folder in (tmp_path / "alone", series / "step-4"))
    assert all(np.array_equal(one[name], other[name]) for name in one)
    ids = np.random.default_rng(0).integers(3, tiny.VOCABULARY, (2, 9))
    found = []
    for step in (2, 4, 6):
        model = transformers.AutoModelForCausalLM.from_pretrained(series / f"step-{step}")
        found.append(model(transformers.BatchEncoding({"input_ids": ids}, tensor_type="pt")["input_ids"]).logits)
        ours = triarch.load(tmp_path / "run", step=step).logits({"decoder_input_tokens": ids})
        np.testing.assert_allclose(found[-1].detach().numpy(), ours, atol=1e-4)
    assert not np.allclose(found[0].detach(), found[2].detach(), atol=1e-3)
    for arguments, message in (
        (
            [*every, "--dtype=bfloat16"],
            "series: its checkpoints were exported otherwise (--dtype): choose another --output",
        ),
        ([*every[:-2], f"--output={store}"], "store: holds other files: choose another --output"),
        ([*export, "--step=2,5", f"--output={tmp_path / 'new'}"], "no checkpoint of step 5 (there are 2, 4, 6)"),
        (["export", f"--workdir={series}", "--step=all", f"--output={tmp_path / 'new'}"], "neither a run"),
    ):
        capsys.readouterr()
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (tmp_path / "new").exists()
