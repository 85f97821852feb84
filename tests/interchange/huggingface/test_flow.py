"""From a Hugging Face folder to a tuned one, by the command line alone."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.interchange.huggingface import folders
from tests.tokenizers import huggingface
from triarch.cli.main import main
from triarch.tokenizers import given_tokenizer

pytestmark = pytest.mark.slow

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "and",
    "runs",
    "into",
    "the",
    "dark",
    "green",
    "wood",
]


def write_model(folder):
    """Writes a tiny Llama with a tokenizer of Llama 3's layout; returns the size of its vocabulary."""
    huggingface.write_folder(folder, "llama3")
    size = given_tokenizer(folder).info.size
    tensors = folders.llama_tensors(folders.BFLOAT16)
    rng = np.random.default_rng(1)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = (0.1 * rng.normal(size=(size, folders.WIDTH))).astype(folders.BFLOAT16)
    folders.write(folder, folders.LLAMA | {"vocab_size": size}, tensors)
    return size


def write_texts(folder):
    rng = np.random.default_rng(0)
    folder.mkdir()
    for index in range(30):
        (folder / f"{index}.txt").write_text(" ".join(rng.choice(WORDS, 60)))


def test_import_evaluate_tune_export(tmp_path):
    def run(*arguments):
        result = tmp_path / "result.json"
        assert main([*map(str, arguments), f"--json={result}"]) == 0
        return json.loads(result.read_text())

    hf, base, store, tuned, out = (tmp_path / name for name in ("hf", "base", "store", "tuned", "out"))
    size = write_model(hf)
    write_texts(tmp_path / "texts")
    imported = run("import", hf, f"--output={base}")
    assert (imported["vocabulary"]["kind"], imported["vocabulary"]["size"]) == ("huggingface", size)
    texts = ("--task=files", f"--files={tmp_path / 'texts'}", "--window=16", "--validation_fraction=0.2")
    run("prepare", *texts, f"--vocabulary={hf}", f"--output={store}")
    before = run("evaluate", f"--model={base}", f"--in_domain={store}")["evaluations"]
    run(
        *("train", "--gin_file=runs/llama3.gin", f"--gin_file={base / 'model.gin'}", f"--workdir={tuned}"),
        *(f"--gin.RunConfig.init_from='{base}'", "--gin.RunConfig.steps=20", "--gin.RunConfig.batch_size=4"),
        *(f"--gin.DataConfig.store='{store}'", "--gin.DataConfig.window=16", "--gin.Cosine.warmup_steps=2"),
        *("--gin.RunConfig.eval_every=20", "--gin.RunConfig.eval_batches=2", "--gin.RunConfig.tensorboard=False"),
    )
    first = json.loads((tuned / "metrics.jsonl").read_text().splitlines()[0])
    native = next(one for one in before if one["scoring"] == "native")
    assert first["loss"] == pytest.approx(native["nats_per_token"], abs=0.05)
    for old, new in zip(
        before, run("evaluate", f"--model={tuned}", f"--in_domain={store}")["evaluations"], strict=True
    ):
        assert new["nats_per_token"] < old["nats_per_token"] - 5 * old["standard_error"]
    exported = run("export", f"--workdir={tuned}", f"--output={out}", "--format=huggingface", "--dtype=bfloat16")
    assert exported["class"] == "LlamaForCausalLM"
    assert (out / "tokenizer.json").read_bytes() == (hf / "tokenizer.json").read_bytes()
    theirs, ours = folders.read(hf), folders.read(out)
    assert {name: value.shape for name, value in theirs.items()} == {name: value.shape for name, value in ours.items()}
    assert all(value.dtype == folders.BFLOAT16 for value in ours.values())
