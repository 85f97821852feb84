"""T5X checkpoints that are damaged, incomplete, not T5's, or reach out of their folder: one clear line each."""

from __future__ import annotations

import json
import os
import shutil

import msgpack
import numpy as np
import pytest

from tests.interchange.t5x.checkpoints import HEADS, Checkpoint, folder_name, random_minimal, scanned, write_index
from triarch.errors import UserError
from triarch.interchange.t5x import Said, open_checkpoint, write_import

QUERY = "encoder/layers_1/attention/query/kernel"
ARRAY = folder_name(QUERY)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return Checkpoint(random_minimal()).write(tmp_path_factory.mktemp("t5x") / "checkpoint_1000")


@pytest.fixture
def folder(pristine, tmp_path):
    shutil.copytree(pristine, tmp_path / "checkpoint_1000")
    return tmp_path / "checkpoint_1000"


def refused(folder, *words, said=None):
    with pytest.raises(UserError) as caught:
        open_checkpoint(folder, said)
    line = str(caught.value)
    assert "\n" not in line and len(line) < 1000
    for word in words:
        assert word in line, line


def with_spec(folder, **changes):
    """Writes the index again with changes to the spec of one array."""
    index = Checkpoint(random_minimal()).index()
    node = index["optimizer"]["target"]
    *modules, leaf = QUERY.split("/")
    for module in modules:
        node = node[module]
    node[leaf] = {**node[leaf], **changes}
    write_index(folder, index)


DEEP = b"\x82\xa7version\x03\xa9optimizer\x81\xa6target" + b"\x81\xa1a" * 500 + b"\x00"
PATHS = ("../elsewhere/", "/etc/", "a/b/", "..", ".", "", None, 7, "a\0b", "../checkpoint_1000")
NONSENSE = {
    "empty": (b"", "cut short"),
    "noise": (b"\xc1\xff\x00nonsense", "msgpack"),
    "a number": (msgpack.packb(7), "found int"),
    "nothing of T5X's": (msgpack.packb({"a": {"b": 1}}), '"target"'),
    "parameters that are none": (msgpack.packb({"version": 3, "optimizer": {"target": 7}}), '"target"'),
    "another version": (msgpack.packb({"version": 1, "optimizer": {"target": {"a": 1}}}), "version = 1"),
    "a leaf of text": (msgpack.packb({"version": 3, "optimizer": {"target": {"a": "b"}}}), "found str"),
    "TensorFlow": (b'model_checkpoint_path: "model.ckpt-1000"', "convert_tf_checkpoint"),
    "an unknown extension": (msgpack.packb({"a": msgpack.ExtType(9, b"x")}), "extension type 9"),
    "objects": (msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(((1,), "object", b"12345678")))}), "'object'"),
    "too few bytes": (msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(((9,), "float32", b"1234")))}), "4 bytes"),
    "a list as name": (b"\x81\x91\x01\x02", "msgpack"),
    "deep": (b"\x81\xa1a" * 900 + b"\x00", '"target"'),
    "deep parameters": (DEEP, "levels deep"),
    "deeper than msgpack goes": (b"\x91" * 100_000, "msgpack"),
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_an_index_of_nonsense(kind, folder):
    content, word = NONSENSE[kind]
    (folder / "checkpoint").write_bytes(content)
    refused(folder, "checkpoint", word)


def test_an_index_cut_short(folder):
    content = (folder / "checkpoint").read_bytes()
    (folder / "checkpoint").write_bytes(content[: len(content) // 2])
    refused(folder, "cut short")


@pytest.mark.parametrize("path", PATHS)
def test_a_path_out_of_the_folder(path, folder):
    with_spec(folder, kvstore={"driver": "file", "path": path})
    refused(folder, QUERY, "path", "beside 'checkpoint'")


def test_another_driver(folder):
    with_spec(folder, driver="n5")
    refused(folder, QUERY, "driver", "'zarr'")


def test_a_link_out_of_the_folder(folder):
    shutil.move(folder / ARRAY, folder.parent / "elsewhere")
    (folder / ARRAY).symlink_to(folder.parent / "elsewhere")
    refused(folder, ARRAY, "a link out of")


def test_a_chunk_that_is_a_link(folder):
    chunk = folder / ARRAY / "0.0"
    shutil.move(chunk, folder.parent / "chunk")
    chunk.symlink_to(folder.parent / "chunk")
    refused(folder, "a link out of")


def test_an_index_that_is_a_link(folder):
    shutil.move(folder / "checkpoint", folder.parent / "index")
    (folder / "checkpoint").symlink_to(folder.parent / "index")
    refused(folder, "a link out of")


def test_a_chunk_that_is_a_fifo(folder):
    (folder / ARRAY / "0.0").unlink()
    os.mkfifo(folder / ARRAY / "0.0")
    refused(folder, "a FIFO")


def test_a_missing_array(folder):
    shutil.rmtree(folder / ARRAY)
    refused(folder, ARRAY, QUERY, "missing")


def test_a_missing_chunk(folder):
    (folder / ARRAY / "0.1").unlink()
    refused(folder, ARRAY, "1 files, expected 2")


def test_a_damaged_chunk_is_found_before_there_is_an_export(folder, tmp_path):
    (folder / ARRAY / "0.1").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=f"{ARRAY}.*damaged"):
        write_import(open_checkpoint(folder), tmp_path / "export")
    assert not (tmp_path / "export").exists()


ZARRAY = {
    "no JSON": "{",
    "zarr 3": {"zarr_format": 3},
    "another shape": {"shape": [20, 20]},
    "a shape of text": {"shape": "20"},
    "a size below nothing": {"shape": [-1, 18]},
    "chunks larger than the array": {"chunks": [20, 1_000_000_000]},
    "chunks of nothing": {"chunks": [0, 9]},
    "chunks of another rank": {"chunks": [20]},
    "integers": {"dtype": "<i4"},
    "a structure": {"dtype": [["a", "<f4"]]},
}


@pytest.mark.parametrize("kind", ZARRAY)
def test_an_array_that_says_nonsense(kind, folder):
    path = folder / ARRAY / ".zarray"
    change = ZARRAY[kind]
    fields = json.loads(path.read_text())
    path.write_text(change if isinstance(change, str) else json.dumps(fields | change))
    refused(folder, ARRAY)


def without(parameters, name):
    return {key: value for key, value in parameters.items() if key != name}


def changed(name, shape):
    return random_minimal() | {name: np.zeros(shape, np.float32)}


SHAPES = {
    "a layer lacks a matrix": (without(random_minimal(), QUERY), (QUERY, "missing")),
    "no encoder": (
        {name: value for name, value in random_minimal().items() if not name.startswith("encoder")},
        ("encoder/relpos_bias/rel_embedding", "encoder-decoder"),
    ),
    "no embedding": (without(random_minimal(), "token_embedder/embedding"), ("token_embedder/embedding", "missing")),
    "a matrix of another shape": (changed(QUERY, (20, 12)), (QUERY, "[20, 12]", "[20, 18]")),
    "an embedding of one axis": (changed("token_embedder/embedding", (43,)), ("token_embedder/embedding", "[43]")),
    "heads that do not divide": (
        changed("encoder/relpos_bias/rel_embedding", (5, 8)),
        ("18 columns", "5 heads"),
    ),
    "one array too many": (changed("encoder/adapter/kernel", (20, 2)), ("encoder/adapter/kernel", "no place")),
    "a layer that is skipped": (
        changed("decoder/layers_9/mlp/wo/kernel", (28, 20)),
        ("decoder/layers_3", "missing"),
    ),
    "integers": (
        random_minimal() | {QUERY: np.zeros((20, 18), np.int32)},
        (QUERY, "type <i4", "float32, bfloat16, float16"),
    ),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_parameters_that_are_no_t5(kind, tmp_path):
    parameters, words = SHAPES[kind]
    refused(Checkpoint(parameters).write(tmp_path / "c"), *words)


def test_scanned_layers_of_different_numbers(tmp_path):
    parameters = scanned(random_minimal())
    name = "encoder/encoder/mlp/wo/kernel"
    folder = Checkpoint(parameters | {name: np.zeros((28, 5, 20), np.float32)}).write(tmp_path / "c")
    refused(folder, name, "[28, 5, 20]", "2 layers along axis 1")


def test_scanned_kernels_with_axes_in_another_order(tmp_path):
    parameters = scanned(random_minimal())
    name = "encoder/encoder/attention/query/kernel"
    swapped = np.ascontiguousarray(np.swapaxes(parameters[name], 2, 3))
    refused(Checkpoint(parameters | {name: swapped}).write(tmp_path / "c"), name, "[20, 2, 6, 3]", f"{HEADS} heads")


def test_a_million_layers(tmp_path):
    parameters = scanned(random_minimal())
    name = "encoder/encoder/pre_mlp_layer_norm/scale"
    folder = Checkpoint(parameters | {name: np.zeros((20, 1_000_000), np.float32)}).write(tmp_path / "c")
    refused(folder, folder_name(name), "1,000,000 layers")


SAID = {
    "another activation": ({"mlp_activations": ("sigmoid",)}, ("mlp_activations", "'sigmoid'")),
    "two activations of one matrix": ({"mlp_activations": ("gelu", "linear")}, ("wi alone",)),
    "activations of no kind": ({"mlp_activations": 7}, ("mlp_activations = 7",)),
    "activations of lists": ({"mlp_activations": [["relu"]]}, ("mlp_activations",)),
    "other heads": ({"num_heads": 4}, ("num_heads = 4", "3")),
    "an output matrix": ({"logits_via_embedding": False}, ("logits_via_embedding = False", "True")),
}


@pytest.mark.parametrize("kind", SAID)
def test_gin_that_says_otherwise(kind, pristine):
    values, words = SAID[kind]
    refused(pristine, "config.gin", *words, said=Said(values, "config.gin"))
