"""Which files and tensors of a folder are taken: those that transformers takes, or none and a line that says why."""

from __future__ import annotations

import json
import re
import time

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.interchange.huggingface import folders
from triarch.cli.main import main
from triarch.errors import UserError
from triarch.interchange.huggingface import open_folder

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
NORM = "model.norm.weight"


def refusal(folder) -> str:
    """Returns the one line that opening a folder ends with."""
    with pytest.raises(UserError) as error:
        open_folder(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def norm_of(folder) -> np.ndarray:
    return open_folder(folder).tensors.read(NORM)


def test_one_file_goes_before_the_shards_of_an_index(tmp_path, capsys):
    folder = folders.write(tmp_path / "hf", folders.LLAMA, folders.llama_tensors(seed=1), shards=2)
    old = norm_of(folder)
    folders.write(folder, folders.LLAMA, folders.llama_tensors(seed=2))
    np.testing.assert_array_equal(norm_of(folder), folders.llama_tensors(seed=2)[NORM])
    assert (norm_of(folder) != old).any()
    for shard in folder.glob("model-*"):
        shard.unlink()
    assert main(["import", str(folder), f"--output={tmp_path / 'export'}"]) == 0
    assert f"{INDEX} is not read, as {WEIGHTS} is there" in capsys.readouterr().out


def test_config_names_the_weights(tmp_path):
    """`transformers_weights`, which `from_pretrained` follows before anything else."""
    fields = folders.LLAMA | {"transformers_weights": "other.safetensors"}
    folder = folders.write(tmp_path / "hf", fields, folders.llama_tensors(seed=1))
    assert re.search("other.safetensors: missing", refusal(folder))
    save_file(folders.llama_tensors(seed=2), folder / "other.safetensors")
    np.testing.assert_array_equal(norm_of(folder), folders.llama_tensors(seed=2)[NORM])
    for name in ("../other.safetensors", "model.bin", 5):
        folders.write(folder, folders.LLAMA | {"transformers_weights": name}, folders.llama_tensors())
        assert f"transformers_weights = {name!r}: expected the name of a safetensors file" in refusal(folder)


def test_code_of_a_model_is_not_run(tmp_path, capsys):
    marker = tmp_path / "ran"
    folder = folders.llama(tmp_path / "hf", auto_map={"AutoModelForCausalLM": "own.Model"})
    (folder / "own.py").write_text(f"open({str(marker)!r}, 'w')")
    assert main(["import", str(folder), f"--output={tmp_path / 'export'}"]) == 0
    assert "config.json names code of the model's own (auto_map): never run" in capsys.readouterr().out
    assert not marker.exists()


@pytest.mark.parametrize("name", ["llama-q4.gguf", "llama"])
def test_gguf_is_named(name, tmp_path):
    folder = tmp_path / "gguf"
    folder.mkdir()
    (folder / name).write_bytes(b"GGUF" + bytes(60))
    wanted = rf"{name}: GGUF, the format of llama.cpp, is not read: import the Hugging Face folder .*gguf_file='{name}'"
    assert re.search(wanted, refusal(folder / name))
    if name.endswith(".gguf"):
        assert re.search(wanted, refusal(folder))
        (folder / "config.json").write_text(json.dumps(folders.LLAMA))
        assert re.search(wanted, refusal(folder))


def test_a_file_is_no_folder(tmp_path):
    folder = folders.llama(tmp_path / "hf")
    assert "model.safetensors: a file: name the Hugging Face folder that it is part of" in refusal(folder / WEIGHTS)


def test_pickles_without_a_config(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    assert "pytorch_model.bin: pickled weights are not read" in refusal(tmp_path)


@pytest.mark.parametrize("layers", [4, 4096])
@pytest.mark.parametrize("shards", [1, 3])
def test_layers_that_are_not_there_are_named_at_once(layers, shards, tmp_path):
    folder = folders.llama(tmp_path / "hf", shards=shards, num_hidden_layers=layers)
    begun = time.monotonic()
    missing = r"'model.layers.3.input_layernorm.weight' \[8\] is missing"
    assert re.search(rf"{WEIGHTS if shards == 1 else INDEX}: tensor {missing}", refusal(folder))
    assert time.monotonic() - begun < 30


def test_a_body_without_a_head(tmp_path):
    tensors = {name.removeprefix("model."): value for name, value in folders.llama_tensors().items()}
    del tensors["lm_head.weight"]
    body = folders.LLAMA | {"architectures": ["LlamaModel"]}
    found = refusal(folders.write(tmp_path / "hf", body, tensors))
    assert re.search(
        r"tensor 'lm_head.weight' \[17, 8\] is missing: LlamaModel has no output matrix, .*tie_word_embeddings\): "
        "import the LlamaForCausalLM",
        found,
    )
    assert open_folder(folders.write(tmp_path / "tied", body | {"tie_word_embeddings": True}, tensors))
    other = folders.LLAMA | {"architectures": ["LlamaForQuestionAnswering"]}
    found = refusal(folders.write(tmp_path / "hf", other, tensors))
    assert found.endswith("LlamaForTokenClassification and, if tied to the embedding, LlamaModel")


def test_a_tied_embedding_under_the_heads_name(tmp_path):
    tensors = folders.llama_tensors()
    del tensors["model.embed_tokens.weight"]
    tied = folders.write(tmp_path / "tied", folders.LLAMA | {"tie_word_embeddings": True}, tensors)
    np.testing.assert_array_equal(
        open_folder(tied).tensors.read("model.embed_tokens.weight"), tensors["lm_head.weight"]
    )
    untied = refusal(folders.write(tmp_path / "untied", folders.LLAMA, tensors))
    assert "tensor 'model.embed_tokens.weight' [17, 8] is missing" in untied


def test_one_tensor_under_two_names(tmp_path):
    tensors = folders.llama_tensors()
    folder = folders.write(tmp_path / "hf", folders.LLAMA, tensors | {"norm.weight": tensors[NORM]})
    assert re.search("two tensors are the same one: .*'norm.weight'", refusal(folder))


@pytest.mark.parametrize("dtype", [np.float32, folders.BFLOAT16, np.float16])
@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight"])
def test_weights_are_finite(dtype, name, tmp_path, capsys):
    tensors = folders.llama_tensors(dtype)
    tensors[name] = tensors[name].copy()
    tensors[name][-1, -1] = np.nan if dtype == np.float32 else -np.inf
    folder = folders.write(tmp_path / "hf", folders.LLAMA, tensors)
    assert main(["import", str(folder), f"--output={tmp_path / 'export'}"]) == 1
    assert f"model.safetensors: tensor {name!r} holds infinite or NaN values\n" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


@pytest.mark.parametrize("dtype", ["F8_E4M3", "I8", "F64", "Q4_K"])
def test_other_types_are_one_line(dtype, tmp_path):
    """A header by hand: numpy has no name for some of these types, the library none for the last."""
    folder = folders.llama(tmp_path / "hf")
    width = 8 if dtype == "F64" else 1
    header = {NORM: {"dtype": dtype, "shape": [8], "data_offsets": [0, 8 * width]}}
    text = json.dumps(header).encode()
    others = {name: value for name, value in folders.llama_tensors().items() if name != NORM}
    save_file(others, folder / "model-1.safetensors")
    (folder / "model-2.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8 * width))
    places = {name: "model-1.safetensors" for name in others} | {NORM: "model-2.safetensors"}
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))
    (folder / WEIGHTS).unlink()
    found = refusal(folder)
    assert "model-2.safetensors" in found and dtype in found
    assert len(found.replace(str(tmp_path), "")) < 400
