"""Folders in and out by the command line: what is written is what was read, or nothing is written at all."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest

import triarch
from tests.interchange import exports
from tests.interchange.huggingface import folders
from tests.models import tiny
from triarch.cli.main import main
from triarch.interchange import file_list, read_manifest, write_export
from triarch.interchange.huggingface import FAMILIES
from triarch.models.network import flatten, parameters_of

# Orbax leaves coroutines behind when a read fails.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def take(folder, output, *flags) -> int:
    return main(["import", str(folder), f"--output={output}", *flags])


def give(export, output, *flags) -> int:
    return main(["export", f"--workdir={export}", f"--output={output}", "--format=huggingface", *flags])


@pytest.mark.parametrize(("dtype", "shards"), [(np.float32, 1), (folders.BFLOAT16, 3), (np.float16, 1)])
def test_tensors_come_back_bit_for_bit(dtype, shards, tmp_path, capsys):
    folder = folders.llama(tmp_path / "hf", dtype, shards)
    result = tmp_path / "result.json"
    assert take(folder, tmp_path / "export", f"--json={result}") == 0
    fields = json.loads(result.read_text())
    assert (fields["class"], fields["dtypes"]) == ("LlamaForCausalLM", [np.dtype(dtype).name])
    assert fields["num_params"] == sum(value.size for value in folders.read(folder).values())
    assert give(tmp_path / "export", tmp_path / "again", f"--json={result}") == 0
    assert json.loads(result.read_text())["family"] == "llama"
    folders.assert_same(folders.read(folder), folders.read(tmp_path / "again"))
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert config["dtype"] == np.dtype(dtype).name and "torch_dtype" not in config
    assert (config["eos_token_id"], config["max_position_embeddings"]) == (2, 64)
    assert "LlamaForCausalLM, decoder-only" in capsys.readouterr().out


def test_an_import_is_an_export_that_orbax_reads(tmp_path):
    folder = folders.llama(tmp_path / "hf", folders.BFLOAT16)
    assert take(folder, tmp_path / "export") == 0
    tree = ocp.StandardCheckpointer().restore(tmp_path / "export" / "parameters")
    theirs = folders.read(folder)
    stacked = np.asarray(tree["decoder"]["scanned"]["0"]["mlp"]["down"])
    assert stacked.dtype == folders.BFLOAT16
    for layer in range(folders.LAYERS):
        np.testing.assert_array_equal(stacked[layer], theirs[f"model.layers.{layer}.mlp.down_proj.weight"].T)
    loaded = triarch.load(tmp_path / "export")
    assert loaded.origin.source["huggingface"] == "LlamaForCausalLM"
    assert loaded.config.rope_base == 10000.0 and loaded.config.norm_eps == 1e-5 and not loaded.config.tied_embeddings
    assert loaded.logits({"decoder_input_tokens": np.arange(6)[None]}).shape == (1, 6, folders.VOCAB)


def test_several_types_in_one_parameter(tmp_path):
    tensors = folders.llama_tensors(folders.BFLOAT16)
    odd = "model.layers.1.mlp.down_proj.weight"
    tensors[odd] = np.random.default_rng(1).normal(size=tensors[odd].shape).astype(np.float32)
    folder = folders.write(tmp_path / "hf", folders.LLAMA, tensors)
    assert take(folder, tmp_path / "export") == 0 and give(tmp_path / "export", tmp_path / "again") == 0
    folders.assert_same(tensors, folders.read(tmp_path / "again"))


def test_export_in_shards_and_in_another_type(tmp_path):
    folder = folders.llama(tmp_path / "hf")
    assert take(folder, tmp_path / "export") == 0
    assert give(tmp_path / "export", tmp_path / "again", "--max_shard_size=2KB", "--dtype=bfloat16") == 0
    files = sorted(path.name for path in (tmp_path / "again").glob("*.safetensors"))
    assert len(files) > 1 and files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert max((tmp_path / "again" / file).stat().st_size for file in files) < 2000 + 2000
    index = json.loads((tmp_path / "again" / "model.safetensors.index.json").read_text())
    rounded = {name: value.astype(folders.BFLOAT16) for name, value in folders.read(folder).items()}
    folders.assert_same(rounded, folders.read(tmp_path / "again"))
    assert index["weight_map"].keys() == rounded.keys() and set(index["weight_map"].values()) == set(files)
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in rounded.values())
    assert take(tmp_path / "again", tmp_path / "third") == 0


def test_tied_copies_are_taken_if_they_are_copies(tmp_path, capsys):
    tensors = folders.llama_tensors()
    tied = folders.LLAMA | {"tie_word_embeddings": True}
    folder = folders.write(tmp_path / "hf", tied, tensors)
    assert take(folder, tmp_path / "export") == 1
    assert (
        "'lm_head.weight' should be tied to 'model.embed_tokens.weight' and has other values" in capsys.readouterr().err
    )
    folders.write(folder, tied, tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]})
    assert take(folder, tmp_path / "export") == 0 and give(tmp_path / "export", tmp_path / "again") == 0
    del tensors["lm_head.weight"]
    folders.assert_same(tensors, folders.read(tmp_path / "again"))


def test_files_of_the_body_alone_and_buffers(tmp_path, capsys):
    tensors = {name.removeprefix("model."): value for name, value in folders.llama_tensors().items()}
    tensors["layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(2, np.float32)
    del tensors["lm_head.weight"]
    fields = folders.LLAMA | {"tie_word_embeddings": True, "architectures": ["LlamaModel"]}
    assert take(folders.write(tmp_path / "hf", fields, tensors), tmp_path / "export") == 0
    assert "left out, being no part of the network: layers.0.self_attn.rotary_emb.inv_freq" in capsys.readouterr().out
    assert give(tmp_path / "export", tmp_path / "again") == 0
    del tensors["layers.0.self_attn.rotary_emb.inv_freq"]
    folders.assert_same({f"model.{name}": value for name, value in tensors.items()}, folders.read(tmp_path / "again"))


def test_other_files_go_along(tmp_path):
    folder = folders.llama(tmp_path / "hf")
    for name in ("tokenizer_config.json", "vocab.txt", "tokenizer.model"):
        (folder / name).write_text(f"what {name} holds")
    (folder / "README.md").write_text("not this one")
    assert take(folder, tmp_path / "export") == 0
    # As where the tokenizer can be read: under our own name besides the one that it came with.
    (tmp_path / "export" / "vocabulary" / "sentencepiece.model").write_text("what tokenizer.model holds")
    file_list.write_file_list(tmp_path / "export")
    assert give(tmp_path / "export", tmp_path / "again") == 0
    expected = {path.name for path in folder.iterdir()}
    assert "not this one" not in (tmp_path / "again" / "README.md").read_text()
    assert {path.name for path in (tmp_path / "again").iterdir()} == expected
    assert (tmp_path / "again" / "vocab.txt").read_text() == "what vocab.txt holds"


@pytest.mark.parametrize("config", [tiny.REDLLM, tiny.DECLLM], ids=["redllm", "decllm"])
def test_triarchs_own_layout_describes_itself(config, tmp_path, capsys):
    write_export(tmp_path / "export", exports.network(config), exports.ORIGIN)
    assert give(tmp_path / "export", tmp_path / "hf", "--family=triarch") == 0
    assert "triarch's own layout" in capsys.readouterr().out
    readme = (tmp_path / "hf" / "README.md").read_text()
    assert "decoder.layers.3.attention.query" in readme
    tensors = folders.read(tmp_path / "hf")
    ours = flatten(parameters_of(exports.network(config)))
    np.testing.assert_array_equal(tensors["embedding.table"], ours["embedding/table"])
    up = "decoder/scanned/0/mlp/up"
    np.testing.assert_array_equal(tensors["decoder.layers.2.mlp.up"], ours[up][2])
    assert take(tmp_path / "hf", tmp_path / "back") == 0
    old, new = read_manifest(tmp_path / "export"), read_manifest(tmp_path / "back")
    assert (old.config, old.fingerprint) == (new.config, new.fingerprint)
    batch = exports.batch(config)
    loaded = triarch.load(tmp_path / "back", execution=tiny.FLOAT32)
    np.testing.assert_array_equal(loaded.logits(batch), exports.logits(config, batch))


def test_a_class_that_cannot_express_the_network_is_refused(tmp_path, capsys):
    write_export(tmp_path / "export", exports.network(tiny.REDLLM), exports.ORIGIN)
    for family, option in (
        ("llama", "num_encoder_layers = 2 (there 0)"),
        ("t5", "qkv_norm = True (there False)"),
        ("t5gemma", "attention_output_norm = 'per_head' (there 'none')"),
    ):
        assert give(tmp_path / "export", tmp_path / "hf", f"--family={family}") == 1
        error = capsys.readouterr().err
        assert f"{FAMILIES[family].class_name} has no equivalent for this network's" in error and option in error
    assert give(tmp_path / "export", tmp_path / "hf", "--family=lama") == 1
    assert "--family=lama: no such family (did you mean 'llama'?)" in capsys.readouterr().err
    assert not (tmp_path / "hf").exists()


def test_a_trained_ettin_is_written_as_modernbert(tmp_path):
    config = dataclasses.replace(tiny.ETTIN_ENCODER, logits_bias=True)
    write_export(tmp_path / "export", exports.network(config), exports.ORIGIN)
    assert give(tmp_path / "export", tmp_path / "hf") == 0
    fields = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (fields["model_type"], fields["local_attention"]) == ("modernbert", 4)
    assert (fields["bos_token_id"], fields["eos_token_id"]) == (1, 2)
    assert take(tmp_path / "hf", tmp_path / "back") == 0
    assert read_manifest(tmp_path / "back").fingerprint == read_manifest(tmp_path / "export").fingerprint


def drop(name):
    return lambda folder: edit(folder, lambda tensors: tensors.pop(name))


def put(name, value):
    return lambda folder: edit(folder, lambda tensors: tensors.update({name: value}))


def edit(folder, change):
    tensors = folders.read(folder)
    change(tensors)
    folders.write(folder, json.loads((folder / "config.json").read_text()), tensors)


def configure(**changes):
    return lambda folder: (folder / "config.json").write_text(json.dumps(folders.LLAMA | changes))


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def shard_lost(folder):
    folders.llama(folder, shards=2)
    (folder / "model.safetensors").unlink()
    (folder / "model-00002-of-00002.safetensors").unlink()


def index_that_names_more(folder):
    folders.llama(folder, shards=2)
    (folder / "model.safetensors").unlink()
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.extra"] = "model-00001-of-00002.safetensors"
    path.write_text(json.dumps(index))


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def index_of(weight_map):
    def write(folder):
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    return write


def fifo(name, instead=None):
    def make(folder):
        (folder / (instead or name)).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return make


def link_out(name):
    def make(folder):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(__file__)

    return make


NORM = "model.layers.1.input_layernorm.weight"
GATE = "model.layers.2.mlp.gate_proj.weight"
BAD = {
    "no config": (lambda f: (f / "config.json").unlink(), "not a Hugging Face model: it holds no config.json"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "config.json: not JSON"),
    "a list": (lambda f: (f / "config.json").write_text("[]"), r"config.json: the value = \[\]: expected an object"),
    "unknown family": (
        configure(model_type="electra"),
        r"model_type = 'electra' is not a family that triarch reads \(bamba, bart, bert, [^?]*\)$",
    ),
    "code of its own": (
        configure(model_type="mine", auto_map={"AutoModel": "mine.Model"}),
        r"model_type = 'mine' is not a family that triarch reads \(.*\), and code that comes with a model is never run",
    ),
    "no family": (configure(model_type=None), "model_type = None is not a family that triarch reads"),
    "a list of families": (configure(model_type=["llama"]), r"model_type = \['llama'\] is not a family that triarch"),
    "a number of classes": (configure(architectures=5), "architectures = 5: expected a list"),
    "nested too deep": (lambda f: (f / "config.json").write_text("[" * 100_000), "nested more than 64 levels deep"),
    "a fraction of heads": (configure(num_key_value_heads=1.0), "num_kv_heads = 1.0: expected a whole number"),
    "another class": (
        configure(architectures=["LlamaForQuestionAnswering"]),
        r"architectures = \['LlamaForQuestionAnswering'\]: of this family, known are LlamaForCausalLM",
    ),
    "scaling": (
        configure(rope_scaling={"rope_type": "yarm", "factor": 2.0}),
        "rope_scaling: rope_type = 'yarm': LlamaForCausalLM has no equivalent here with that",
    ),
    "scaling that is no object": (configure(rope_scaling=[1]), r"rope_scaling = \[1\]: expected an object"),
    "no rotation": (configure(rope_theta=0), "rope_base = 0.0: expected a positive number"),
    "partial rotation": (configure(partial_rotary_factor=0.5), "partial_rotary_factor = 0.5"),
    "activation": (configure(hidden_act="quick_gelu"), "hidden_act = 'quick_gelu'"),
    "quantized": (configure(quantization_config={"bits": 4}), "quantization_config has no equivalent here"),
    "no size": (lambda f: write_without(f, "hidden_size"), "'hidden_size' is missing"),
    "words for numbers": (configure(hidden_size="big"), "hidden_size = 'big': expected a whole number"),
    "no network": (configure(num_key_value_heads=5), "config.json: ModelConfig.num_kv_heads = 5 must divide num_heads"),
    "missing tensor": (drop(NORM), rf"tensor '{NORM}' \[8\] is missing"),
    "one more": (
        put("model.extra", np.ones((2, 3), np.float32)),
        r"'model.extra' \[2, 3\] has no place in the Llama",
    ),
    "misshapen": (
        put(GATE, np.ones((8, 12), np.float32)),
        rf"tensor '{GATE}' has shape \[8, 12\], its config.json makes it \[12, 8\]",
    ),
    "integers": (put(NORM, np.ones(8, np.int32)), rf"tensor '{NORM}' has type I32, expected one of F32, BF16, F16"),
    "truncated": (truncate, "model.safetensors: cut short, or not a safetensors file"),
    "no safetensors": (
        lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n"),
        "model.safetensors: cut short, or not a safetensors file",
    ),
    "shard lost": (
        shard_lost,
        "model-00002-of-00002.safetensors: missing, although model.safetensors.index",
    ),
    "index names more": (index_that_names_more, "tensor 'model.extra' is missing, although"),
    "index leads elsewhere": (
        index_of({"a": "../../secret.safetensors"}),
        r"index.json: weight_map.a = '\.\./\.\./secret.safetensors': expected the name of a file of this folder",
    ),
    "an index of nothing": (index_of({}), "index.json: weight_map = {}: expected an object with 1 or more entries"),
    "too many layers": (configure(num_hidden_layers=10**5), "num_hidden_layers = 100000: expected at most 4,096"),
    "endless layers": (configure(num_hidden_layers=10**60), "num_hidden_layers = 1.*: expected at most 4,096"),
    "an endless size": (configure(intermediate_size=2**30), "ModelConfig.d_ff = 1073741824: expected at most"),
    "an endless number": (lambda f: (f / "config.json").write_text("9" * 5000), "config.json: not read: an integer of"),
    "an infinity": (configure(rms_norm_eps=float("inf")), "config.json: not read: Infinity is no finite number"),
    "a FIFO for a config": (fifo("config.json"), "config.json: is a FIFO, expected a regular file"),
    "a FIFO for weights": (fifo("model.safetensors"), "model.safetensors: is a FIFO, expected a regular file"),
    "a FIFO for an index": (
        fifo("model.safetensors.index.json", instead="model.safetensors"),
        "index.json: is a FIFO, expected a regular file",
    ),
    "a FIFO for a tokenizer": (fifo("tokenizer.json"), "tokenizer.json: is a FIFO, expected a regular file"),
    "a link to a stranger's vocabulary": (link_out("vocab.txt"), "vocab.txt: a link out of .* is not followed"),
    "a link to a stranger's config": (link_out("config.json"), "config.json: a link out of .* is not followed"),
    "a link to a stranger's ids": (
        link_out("generation_config.json"),
        "generation_config.json: a link out of .* is no",
    ),
    "a link to strangers' weights": (link_out("model.safetensors"), "model.safetensors: a link out of"),
    "pickle": (pickled, "pytorch_model.bin: pickled weights are not read, .* runs whatever code .*save_pretrained"),
    "nothing": (lambda f: (f / "model.safetensors").unlink(), "holds neither model.safetensors nor"),
}


def write_without(folder, key):
    fields = {name: value for name, value in folders.LLAMA.items() if name != key}
    (folder / "config.json").write_text(json.dumps(fields))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return folders.llama(tmp_path_factory.mktemp("whole") / "hf")


@pytest.mark.parametrize(("damage", "message"), BAD.values(), ids=BAD.keys())
def test_bad_folders_are_one_clear_line(damage, message, whole, tmp_path, capsys):
    folder = shutil.copytree(whole, tmp_path / "hf")
    damage(folder)
    assert take(folder, tmp_path / "export") == 1
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0 and re.search(message, error), error
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_outputs_that_are_there_stay(whole, tmp_path, capsys):
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "precious").write_text("x")
    assert take(whole, tmp_path / "export") == 1
    assert "export: exists already" in capsys.readouterr().err
    assert take(whole, tmp_path / "export", "--overwrite") == 1
    assert "is not an export, so --overwrite does not remove it" in capsys.readouterr().err
    assert take(whole, tmp_path / "other") == 0 and take(whole, tmp_path / "other", "--overwrite") == 0
    assert give(tmp_path / "other", tmp_path / "hf") == 0
    assert give(tmp_path / "other", tmp_path / "hf") == 1
    assert give(tmp_path / "other", tmp_path / "hf", "--overwrite") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export", "hf", "other"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dtype=float8"], "--dtype=float8: no type to export"),
        (["--max_shard_size=5PB"], "--max_shard_size=5PB: expected a number of bytes such as 500MB or 5GB"),
        (["--step=3"], "an export holds one step: none can be chosen"),
    ],
)
def test_bad_flags(flags, message, whole, tmp_path, capsys):
    assert take(whole, tmp_path / "export") == 0
    assert give(tmp_path / "export", tmp_path / "hf", *flags) == 1
    assert message in capsys.readouterr().err


def test_folders_that_are_not_there_or_for_another_verb(whole, tmp_path, capsys):
    assert take(whole.with_name("hff"), tmp_path / "export") == 1
    assert "no such folder (did you mean 'hf'?)" in capsys.readouterr().err
    assert main(["export", f"--workdir={whole}", f"--output={tmp_path / 'export'}"]) == 1
    assert "take a Hugging Face model with `triarch import`" in capsys.readouterr().err
