"""A store gives back what was written, and nothing damaged passes for whole."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.data.stores import VOCAB_SIZE, numbered_windows, write_store
from triarch.data.manifest import Split, StoreFile, Vocabulary
from triarch.data.store import TokenStore
from triarch.errors import UserError


@pytest.mark.parametrize("dtype", ["uint16", "int32"])
@pytest.mark.parametrize("file_tokens", [8, 50, 2**20])
def test_examples_come_back(tmp_path, dtype, file_tokens):
    windows = numbered_windows(21)
    store = write_store(tmp_path / "store", windows, dtype, file_tokens)
    split = store.split("train")
    assert len(split) == 21
    read = np.stack([split[index]["tokens"] for index in range(21)])
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, windows)
    assert len(store.manifest.splits["train"].files) == -(-21 // max(1, file_tokens // 8))
    np.testing.assert_array_equal(store.token_bytes, np.arange(VOCAB_SIZE))


def test_ids_above_int16_survive(tmp_path):
    windows = np.array([[0, 2**15, 2**16 - 1, 1]])
    np.testing.assert_array_equal(write_store(tmp_path / "a", windows).split("train")[0]["tokens"], windows[0])
    windows = np.array([[0, 2**16, 2**31 - 1, 1]])
    np.testing.assert_array_equal(write_store(tmp_path / "b", windows, "int32").split("train")[0]["tokens"], windows[0])


def test_manifest_round_trip(tmp_path):
    store = write_store(tmp_path / "store", numbered_windows(3))
    manifest = store.manifest
    file = tmp_path / "store" / "train-00000-of-00001.array_record"
    assert manifest.splits["train"] == Split(3, 3, 24, 0, 24, (StoreFile(file.name, 3, file.stat().st_size),))
    fields = json.loads((tmp_path / "store" / "manifest.json").read_text())
    assert fields["format"] == "triarch.token_store" and fields["version"] == 1
    special = {"pad": 0, "bos": 0, "eos": 1, "mask": None}
    assert manifest.vocabulary == Vocabulary("bytes", VOCAB_SIZE, "0" * 64, special)
    assert (manifest.task, manifest.layout, manifest.window, manifest.dtype) == ("test", "windows", 8, "uint16")
    assert set(os.listdir(store.path)) == {"manifest.json", file.name, "token_bytes.npy"}


def _edit(field, value):
    def damage(path):
        manifest = path / "manifest.json"
        fields = json.loads(manifest.read_text())
        fields[field] = value
        manifest.write_text(json.dumps(fields))

    return damage


def _drop(field):
    def damage(path):
        manifest = path / "manifest.json"
        fields = json.loads(manifest.read_text())
        del fields[field]
        manifest.write_text(json.dumps(fields))

    return damage


def _truncate(name):
    def damage(path):
        file = path / name
        file.write_bytes(file.read_bytes()[:-1])

    return damage


def _remove(name):
    return lambda path: (path / name).unlink()


_RECORDS = "train-00000-of-00001.array_record"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_remove("manifest.json"), "holds no manifest.json"),
        (_truncate("manifest.json"), None),
        (lambda path: (path / "manifest.json").write_text('{"a": '), "manifest.json: not JSON"),
        (lambda path: (path / "manifest.json").write_text("[]"), "not a token store's manifest"),
        (_edit("format", "other"), "not a token store's manifest"),
        (_edit("version", 2), "newer triarch"),
        (_edit("version", None), "store version None"),
        (_edit("layout", "window"), r"unknown layout 'window' \(did you mean 'windows'"),
        (_edit("dtype", "object"), "unknown dtype"),
        (_drop("window"), "manifest.json: no key 'window': expected a whole number from 1"),
        (_drop("splits"), "manifest.json: no key 'splits': expected an object with 1 or more"),
        (_edit("splits", {"train": {"files": [{}]}}), "splits.train: no key 'examples'"),
        (_edit("vocabulary", 3), "vocabulary = 3: expected an object"),
        (_remove(_RECORDS), "cut short: No such file"),
        (_truncate(_RECORDS), "cut short: .* bytes, expected"),
        (_remove("token_bytes.npy"), "cut short: the file is missing"),
        (_truncate("token_bytes.npy"), "cut short"),
        (lambda path: np.save(path / "token_bytes.npy", np.zeros(3, np.uint16)), r"the manifest's vocabulary needs"),
        (lambda path: np.save(path / "token_bytes.npy", np.zeros(VOCAB_SIZE)), r"the manifest's vocabulary needs"),
    ],
)
def test_damage_is_named(tmp_path, damage, message):
    store = write_store(tmp_path / "store", numbered_windows(3))
    damage(store.path)
    if message is None:  # The last byte of the manifest is only a line end.
        TokenStore.open(store.path)
        return
    with pytest.raises(UserError, match=message) as error:
        TokenStore.open(store.path)
    assert str(store.path) in str(error.value) and "\n" not in str(error.value)


def test_missing_store_names_the_nearest(tmp_path):
    write_store(tmp_path / "store", numbered_windows(1))
    with pytest.raises(UserError, match=r"no such token store .did you mean 'store'"):
        TokenStore.open(tmp_path / "stor")


def test_unknown_split_names_the_nearest(tmp_path):
    store = write_store(tmp_path / "store", numbered_windows(1))
    with pytest.raises(UserError, match=r"no split 'trian' .did you mean 'train'"):
        store.split("trian")


def test_index_out_of_range(tmp_path):
    split = write_store(tmp_path / "store", numbered_windows(2)).split("train")
    with pytest.raises((IndexError, ValueError)):
        split[2]


def test_pickled_token_bytes_are_refused(tmp_path):
    store = write_store(tmp_path / "store", numbered_windows(1))
    np.save(store.path / "token_bytes.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(UserError, match=r"token_bytes\.npy"):
        TokenStore.open(store.path)


def test_reading_loads_no_tensorflow():
    program = (
        "import sys, triarch.data.store, triarch.data.batches, triarch.data.writer;"
        "print({'tensorflow', 'seqio', 'triarch.tasks', 'triarch.models'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
