"""`triarch embed` of all three architectures: what `triarch.embed` gives, as a file."""

from __future__ import annotations

import dataclasses
import gzip
import json

import numpy as np
import pytest
from flax import nnx

import triarch
from tests.models import tiny
from triarch.cli.main import main
from triarch.interchange import Origin, write_export
from triarch.tokenizers import ByteTokenizer

TEXTS = ["a text", "another, longer than the first", "b"]
MODELS = {
    "decoder-only": (dataclasses.replace(tiny.DECLLM, num_decoder_layers=1), {"class": "CausalLM"}),
    "encoder-only": (dataclasses.replace(tiny.ETTIN_ENCODER, num_encoder_layers=1), {"class": "MaskedLM"}),
    "encoder-decoder": (
        dataclasses.replace(tiny.REDLLM, num_encoder_layers=1, num_decoder_layers=1),
        {"class": "PrefixLM"},
    ),
}


def write_model(folder, architecture):
    config, objective = MODELS[architecture]
    tokenizer = ByteTokenizer()
    config = dataclasses.replace(config, vocab_size=tokenizer.info.size)
    origin = Origin(objective=objective, vocabulary=dataclasses.asdict(tokenizer.info))
    write_export(folder, nnx.merge(*tiny.split(config)), origin)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("architecture", MODELS)
def test_rows_are_the_texts_vectors_in_their_order(architecture, tmp_path, capsys):
    folder = write_model(tmp_path / "model", architecture)
    with gzip.open(tmp_path / "texts.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"body": text}) + "\n" for text in TEXTS)
    output, result = tmp_path / "vectors.npy", tmp_path / "result.json"
    flags = [f"--input={tmp_path / 'texts.jsonl.gz'}", "--field=body", f"--output={output}", f"--json={result}"]
    assert main(["embed", str(folder), *flags, "--pooling=last", "--normalize", "--batch_size=2"]) == 0
    model = triarch.load(folder)
    found, told = np.load(output), json.loads(result.read_text())
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    side = "decoder" if architecture == "decoder-only" else "encoder"
    for row, text in zip(found, TEXTS, strict=True):
        state = model.states(text)[side][-1][-1]
        np.testing.assert_allclose(row, state / np.linalg.norm(state), atol=1e-5)
    np.testing.assert_allclose(triarch.embed(folder, TEXTS, pooling="last", normalize=True), found, atol=1e-5)
    assert (told["num_texts"], told["dimensions"], told["num_cut"]) == (3, found.shape[1], 0)
    assert told["num_tokens"] == sum(len(model.read(text)) for text in TEXTS)
    assert "3 vectors" in capsys.readouterr().out


def test_mistakes_are_one_line(tmp_path, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("one\n\nthree\n")
    for flags, message in (
        (["--pooling=max"], "--pooling=max: no pooling 'max'"),
        (["--output=v.csv"], "expected a name that ends in .npy"),
        (["--max_length=0"], "--max_length=0: expected at least 1"),
        ([], f"{texts}:2: the text is empty"),
    ):
        given = ["embed", str(tmp_path / "none"), f"--input={texts}", f"--output={tmp_path / 'v.npy'}"]
        assert main([*given, *flags]) == 1
        told = capsys.readouterr().err
        assert message in told and len(told.splitlines()) == 1
    assert not (tmp_path / "v.npy").exists()
