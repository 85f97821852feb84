"""Damaged or ill-fitting exports are refused, naming what is wrong."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

import triarch
from tests.interchange import exports
from tests.models import tiny
from triarch.errors import UserError
from triarch.interchange import file_list, read_export, write_export
from triarch.interchange import manifest as manifests
from triarch.interchange.streamed import open_export
from triarch.models.network import flatten, parameters_of

# Orbax leaves coroutines behind when a read fails.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

DOWN = "decoder/scanned/0/mlp/down"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return exports.export(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "export")


def edit(path, change):
    """Applies `change` to the manifest and gives it the fingerprint that then fits."""
    fields = json.loads((path / "manifest.json").read_text())
    change(fields)
    tensors = {
        name: manifests.Tensor(tuple(t["shape"]), t["dtype"], tuple(t["axes"]), t["sha256"])
        for name, t in fields["tensors"].items()
    }
    fields["fingerprint"] = manifests.ExportManifest(tiny.REDLLM, manifests.Origin(), tensors).fingerprint
    (path / "manifest.json").write_text(json.dumps(fields))


def test_every_file_counts(whole, tmp_path):
    files = [
        path.relative_to(whole) for path in whole.rglob("*") if path.is_file() and path.suffix not in (".json", ".md")
    ]
    assert len(files) > 5
    damaged = shutil.copytree(whole, tmp_path / "damaged")
    for file in files:
        content = bytearray((whole / file).read_bytes())
        content[len(content) // 2] ^= 0x40
        (damaged / file).write_bytes(content)
        with pytest.raises(UserError, match=f"{file}: the export is damaged: the file has changed"):
            read_export(damaged)
        (damaged / file).write_bytes(content[:-1])
        with pytest.raises(UserError, match=rf"{file}: .* {len(content) - 1:,} bytes, expected {len(content):,}"):
            read_export(damaged)
        (damaged / file).unlink()
        with pytest.raises(UserError, match=f"{file}: the export is cut short: the file is missing"):
            read_export(damaged)
        shutil.copy(whole / file, damaged / file)
    read_export(damaged)


def test_damage_that_is_in_the_file_list_is_still_found(copy):
    biggest = max((copy / "parameters" / "d").iterdir(), key=lambda path: path.stat().st_size)
    biggest.write_bytes(biggest.read_bytes()[:-1])
    file_list.write_file_list(copy)
    with pytest.raises(UserError, match="parameters: a file is missing or damaged"):
        read_export(copy)


def test_other_values_of_the_right_shape_are_found_out(copy):
    edit(copy, lambda fields: fields["tensors"][DOWN].update(sha256="0" * 64))
    with pytest.raises(UserError, match=f"tensor '{DOWN}' is damaged"):
        read_export(copy)


def test_missing_files(copy):
    (copy / "files.json").unlink()
    with pytest.raises(UserError, match=r"files.json: the export is cut short"):
        read_export(copy)
    (copy / "files.json").write_text("{}")
    with pytest.raises(UserError, match=r"files.json: the value = {}: expected an object with 1 or more entries"):
        read_export(copy)
    shutil.rmtree(copy / "parameters")
    (copy / "vocabulary").mkdir()
    (copy / "vocabulary" / "a.model").write_text("a")
    file_list.write_file_list(copy)
    with pytest.raises(UserError, match="parameters: the folder with the parameters is missing"):
        read_export(copy)
    (copy / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest.json: not JSON"):
        triarch.load(copy)
    (copy / "manifest.json").unlink()
    with pytest.raises(UserError, match="neither a run with checkpoints nor an export"):
        triarch.load(copy)
    with pytest.raises(UserError, match=r"no such run or export \(did you mean 'export'\?\)"):
        triarch.load(copy.with_name("exprot"))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_manifest_cut_short(copy, share):
    text = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(text[: int(share * len(text))])
    with pytest.raises(UserError, match=r"manifest\.json: not JSON"):
        read_export(copy)


def test_misshapen_tensor_is_named_with_both_shapes(copy):
    edit(copy, lambda fields: fields["config"].update(d_ff=32))
    with pytest.raises(UserError, match=r"'decoder/scanned/0/mlp/down' has shape \[3, 24, 16\].* \[3, 32, 16\]"):
        read_export(copy)


def test_missing_and_extra_tensors_are_named(copy):
    edit(copy, lambda fields: fields["tensors"].pop(DOWN))
    with pytest.raises(UserError, match=rf"manifest.json: tensor '{DOWN}' \[3, 24, 16\] is missing"):
        read_export(copy)
    edit(copy, lambda fields: fields["config"].update(num_encoder_layers=0, attention_output_norm="none"))
    with pytest.raises(UserError, match="missing"):
        read_export(copy)


def test_extra_tensors_are_named(tmp_path):
    path = exports.export(tmp_path, tiny.ETTIN_ENCODER)
    edit(path, lambda fields: fields["config"].update(prediction_head=False))
    with pytest.raises(UserError, match=r"tensor 'prediction_head/dense' \[12, 12\] has no place"):
        read_export(path)


def test_parameters_of_another_network(copy, tmp_path):
    other = exports.export(tmp_path / "other", tiny.DECLLM)
    shutil.rmtree(copy / "parameters")
    shutil.copytree(other / "parameters", copy / "parameters")
    shutil.copy(other / "files.json", copy / "files.json")
    with pytest.raises(UserError, match=r"parameters: tensor 'decoder/scanned/0/cross_attention/key'.* is missing"):
        read_export(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f["config"].update(d_modle=16), "no field 'd_modle' .did you mean 'd_model'"),
        (lambda f: f["config"].pop("d_ff"), "ModelConfig.d_ff is missing"),
        (
            lambda f: f["config"].update(num_heads=0),
            "ModelConfig.num_heads = 0: expected a whole number from 1 to",
        ),
        (lambda f: f["config"].update(num_heads="two"), "ModelConfig.num_heads = .two.: expected a whole number"),
        (lambda f: f.update(version=99), "export version 99, this triarch reads version 1"),
        (lambda f: f.update(format="other"), "not the manifest of an export"),
        (lambda f: f.pop("config"), "no key 'config': expected an object"),
        (lambda f: f.update(objective="CausalLM"), "objective = 'CausalLM': expected an object"),
        (
            lambda f: f["config"].update(num_decoder_layers=10**6),
            "num_decoder_layers = 1000000: expected at most",
        ),
        (lambda f: f["config"].update(d_ff=10**15), "d_ff = 1000000000000000: expected at most"),
        (lambda f: f["config"].update(rope_base=0), "rope_base = 0: expected a positive number"),
        (lambda f: f["config"].update(rope_scaling={"factor": 2}), "must have low_freq_factor for kind = 'llama3'"),
        (
            lambda f: f["config"].update(num_decoder_layers=4001, sliding_window=8, global_every=2001),
            "2,003 decoder layers do not repeat others, at most 512",
        ),
        (lambda f: f["vocabulary"].update(kind="pickle"), "vocabulary: unknown kind 'pickle'"),
        (lambda f: f["vocabulary"].update(special=None), "vocabulary: special = null: expected an object"),
        (lambda f: f["vocabulary"].update(size=3), "vocabulary: special.mask has id 3, expected one below"),
        (lambda f: f.update(step=-1), "step = -1: expected a whole number from 0"),
        (lambda f: f["tensors"][DOWN].update(dtype="float8"), "unknown tensors.* 'float8' .did you mean 'float32'"),
    ],
)
def test_manifest_fields(copy, change, message):
    edit(copy, change)
    with pytest.raises(UserError, match=message):
        read_export(copy)


def with_vocabulary(folder):
    """An export whose files are all listed, with a vocabulary."""
    vocabulary = folder.parent / "given"
    vocabulary.mkdir()
    (vocabulary / "a.model").write_text("a")
    shutil.copytree(vocabulary, folder / "vocabulary")
    file_list.write_file_list(folder)
    return folder / "vocabulary"


def test_a_list_that_lacks_a_file(copy):
    vocabulary = with_vocabulary(copy)
    (vocabulary / ".DS_Store").write_text("put there by a file system")
    read_export(copy)
    (vocabulary / "b.model").write_text("b")
    with pytest.raises(UserError, match=r"b\.model: the export is damaged: files\.json does not list this file"):
        read_export(copy)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.symlink_to(__file__), "y: a link out of .* is not followed"),
        (os.mkfifo, "y: is a FIFO, expected a regular file"),
        (lambda path: path.symlink_to(os.path.dirname(__file__)), "y: a link out of .* is not followed"),
    ],
)
def test_what_is_no_file_of_the_export_is_neither_read_nor_copied(copy, damage, message):
    vocabulary = with_vocabulary(copy)
    damage(vocabulary / "y")
    with pytest.raises(UserError, match=message):
        read_export(copy)
    network = exports.network(tiny.DECLLM)
    output = copy.parent / "output"
    with pytest.raises(UserError, match=message):
        write_export(output, network, exports.ORIGIN, vocabulary_files=vocabulary)
    assert not output.exists()


@pytest.mark.parametrize("name", ["a[1]", "-1*?{b} #%20ü\n'\"$&;:@"])
def test_exports_may_lie_anywhere(tmp_path, name):
    exports.export(tmp_path / "plain", tiny.DECLLM)
    (tmp_path / name).mkdir()
    path = exports.export(tmp_path / name, tiny.DECLLM)
    batch = exports.batch(tiny.DECLLM)
    np.testing.assert_array_equal(read_export(path).logits(batch), read_export(tmp_path / "plain/export").logits(batch))
    expected = flatten(parameters_of(exports.network(tiny.DECLLM)))[DOWN]
    np.testing.assert_array_equal(np.concatenate(list(open_export(path).leaf(DOWN).parts())), expected)


def test_a_backslash_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "a\\b").mkdir()
    with pytest.raises(UserError, match="cannot be kept in a folder with a backslash in its path: rename it"):
        exports.export(tmp_path / "a\\b", tiny.DECLLM)
    assert not list((tmp_path / "a\\b").iterdir())


def test_fingerprint_must_fit_the_tensors(copy):
    text = (copy / "manifest.json").read_text()
    fingerprint = json.loads(text)["fingerprint"]
    (copy / "manifest.json").write_text(text.replace(fingerprint, "0" * 64))
    with pytest.raises(UserError, match="do not have the fingerprint"):
        read_export(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b.pop("encoder_input_tokens"), "lacks 'encoder_input_tokens', which encoder-decoder models read"),
        (lambda b: b.update(decoder_input_tokens=np.zeros(4, np.int32)), r"int32\[4\], expected integers"),
        (lambda b: b.update(decoder_input_tokens=np.zeros((1, 4))), r"float64\[1, 4\], expected integers"),
        (lambda b: b["decoder_input_tokens"].fill(61), "ids from 61 to 61, the model knows 0 to 60"),
        (lambda b: b["encoder_input_tokens"].fill(-1), "ids from -1 to -1"),
    ],
)
def test_logits_refuse_bad_batches(change, message):
    batch = exports.batch(tiny.REDLLM)
    change(batch)
    with pytest.raises(UserError, match=message):
        exports.loaded(tiny.REDLLM).logits(batch)
