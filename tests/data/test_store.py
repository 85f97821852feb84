"""A store gives back what was written, and nothing damaged passes for whole."""

import hashlib
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.data.stores import VOCAB_SIZE, numbered_windows, write_store
from triarch.cli.main import main
from triarch.data.checking import find_damage
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
    np.testing.assert_array_equal(store.token_bytes.own, np.arange(VOCAB_SIZE))


def test_ids_above_int16_survive(tmp_path):
    windows = np.array([[0, 2**15, 2**16 - 1, 1]])
    np.testing.assert_array_equal(write_store(tmp_path / "a", windows).split("train")[0]["tokens"], windows[0])
    windows = np.array([[0, 2**16, 2**31 - 1, 1]])
    np.testing.assert_array_equal(write_store(tmp_path / "b", windows, "int32").split("train")[0]["tokens"], windows[0])


def test_manifest_round_trip(tmp_path):
    store = write_store(tmp_path / "store", numbered_windows(3))
    manifest = store.manifest
    file = tmp_path / "store" / "train-00000-of-00001.array_record"
    digest = hashlib.sha256(numbered_windows(3).astype("<u2").tobytes()).hexdigest()
    assert manifest.splits["train"] == Split(3, 3, 24, 0, 24, (StoreFile(file.name, 3, file.stat().st_size, digest),))
    fields = json.loads((tmp_path / "store" / "manifest.json").read_text())
    assert fields["format"] == "triarch.token_store" and fields["version"] == 1
    special = {"pad": 0, "bos": 0, "eos": 1, "mask": None}
    assert manifest.vocabulary == Vocabulary("bytes", VOCAB_SIZE, "0" * 64, special)
    assert (manifest.task, manifest.layout, manifest.window, manifest.dtype) == ("test", "windows", 8, "uint16")
    assert set(os.listdir(store.path)) == {"manifest.json", file.name, "token_bytes.npy"}


def test_stores_from_before_records_were_hashed_are_read_and_stay_what_they_were(tmp_path):
    store = write_store(tmp_path / "store", numbered_windows(3))
    path = store.path / "manifest.json"
    fields = json.loads(path.read_text())
    del fields["splits"]["train"]["files"][0]["sha256"]
    path.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")
    old = TokenStore.open(store.path).manifest
    assert old.to_json() == path.read_text()
    assert old.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest() != store.manifest.fingerprint


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


def _set(*keys, value):
    """Changes a value within the manifest."""

    def damage(path):
        manifest = path / "manifest.json"
        fields = json.loads(manifest.read_text())
        inner = fields
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        manifest.write_text(json.dumps(fields))

    return damage


def _link(name, target):
    def damage(path):
        (path.parent / "elsewhere").write_bytes((path / name).read_bytes())
        (path / name).unlink()
        (path / name).symlink_to(target)

    return damage


def _fifo(name):
    def damage(path):
        (path / name).unlink()
        os.mkfifo(path / name)

    return damage


_SPLIT = ("splits", "train")
_FILE = (*_SPLIT, "files", 0)
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
        (lambda path: (path / "manifest.json").write_text('{"window": 1e999}'), "1e999 is no finite number"),
        (lambda path: (path / "manifest.json").write_text("[" * 200_000), "nested more than 64 levels deep"),
        (_edit("window", 0), "window = 0: expected a whole number from 1"),
        (_edit("window", 10**40), "window = 1000.*: expected a whole number from 1"),
        (_edit("window", 9), r"splits\.train\.tokens = 24, its windows make it 27"),
        (_edit("splits", {}), "splits = {}: expected an object with 1 or more entries"),
        (_edit("vocabulary", 5), "vocabulary = 5: expected an object"),
        (_set("vocabulary", "kind", value="pickle"), r"unknown vocabulary\.kind 'pickle' \(one of: bytes, hugg"),
        (_set("vocabulary", "special", value=None), r"vocabulary\.special = null: expected an object"),
        (_set("vocabulary", "special", "eos", value=VOCAB_SIZE), "special.eos has id 100, expected one below"),
        (_set("vocabulary", "special", "sentinels", value=[50, 60]), "special.sentinels has id -9, expected one below"),
        (_set("vocabulary", "size", value=2**60), "vocabulary.size = 1152921504606846976: expected a whole number"),
        (_set(*_SPLIT, "documents", value=-1), "splits.train.documents = -1: expected a whole number from 0"),
        (_set(*_SPLIT, "bytes", value=2**60), "splits.train.bytes = 1152921504606846976: expected a whole number"),
        (_set(*_SPLIT, "examples", value=4), r"splits\.train\.examples = 4, its files hold 3"),
        (_set(*_FILE, "examples", value=2), r"splits\.train\.examples = 3, its files hold 2"),
        (_set(*_FILE, "exampels", value=2), r"files\[0\]: unknown key 'exampels' \(did you mean 'examples'"),
        (_set(*_FILE, "name", value="../manifest.json"), r"files\[0\]\.name = .*: expected the name of a file of this"),
        (_set(*_FILE, "name", value="a\0b"), r"files\[0\]\.name = .*: expected the name of a file of this folder"),
        (_link(_RECORDS, "../elsewhere"), "a link out of .* is not followed"),
        (_fifo(_RECORDS), "is a FIFO, expected a regular file"),
        (_fifo("manifest.json"), "is a FIFO, expected a regular file"),
        (_fifo("token_bytes.npy"), "is a FIFO, expected a regular file"),
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


def test_a_false_count_of_examples_is_found_at_opening(tmp_path):
    for name, count in (("fewer", 2), ("more", 4)):
        store = write_store(tmp_path / name, numbered_windows(3))
        for keys, value in ({_FILE: count, _SPLIT: count}).items():
            _set(*keys, "examples", value=value)(store.path)
        _set(*_SPLIT, "tokens", value=8 * count)(store.path)
        with pytest.raises(UserError, match=rf"{_RECORDS}: holds 3 examples, the manifest says {count}"):
            TokenStore.open(store.path).split("train")


def test_a_flipped_bit_is_named_with_file_and_record(tmp_path, capsys):
    windows = np.random.default_rng(0).integers(0, VOCAB_SIZE, (40, 512))
    store = write_store(tmp_path / "store", windows, file_tokens=512 * 25)
    assert list(find_damage(store)) == []
    file = store.path / "train-00001-of-00002.array_record"
    content = bytearray(file.read_bytes())
    # Where the records lie: behind them the file is padded.
    for position in np.random.default_rng(1).integers(200, 5000, 20).tolist():
        flipped = content.copy()
        flipped[position] ^= 1
        file.write_bytes(flipped)
        faults = list(find_damage(store))
        assert len(faults) == 1 and "\n" not in faults[0]
        record = int(re.match(rf"{file}: record (\d+) is damaged: Corrupted", faults[0])[1])
        with pytest.raises(UserError, match=f"{file}: record {record} is damaged"):
            store.split("train")[25 + record]
        np.testing.assert_array_equal(store.split("train")[0]["tokens"], windows[0])
    assert main(["inspect", str(store.path), "--check"]) == 1
    assert f"{file}: record {record} is damaged" in capsys.readouterr().err
    file.write_bytes(content)
    assert list(find_damage(store)) == []


def test_ids_beyond_the_vocabulary_are_found(tmp_path):
    windows = numbered_windows(20)
    windows[7, 3] = VOCAB_SIZE
    store = write_store(tmp_path / "store", windows % VOCAB_SIZE)
    assert list(find_damage(store)) == []
    windows = windows % VOCAB_SIZE
    windows[7, 3] = VOCAB_SIZE
    store = write_store(tmp_path / "other", windows)
    assert list(find_damage(store)) == [f"{store.path / _RECORDS}: record 7 has id 100, the vocabulary has 100"]


def test_a_store_may_lie_anywhere(tmp_path):
    windows = numbered_windows(3)
    store = write_store(tmp_path / "a[0:1]*\n ü" / "-s [0:2]", windows)
    np.testing.assert_array_equal(store.split("train")[2]["tokens"], windows[2])


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
