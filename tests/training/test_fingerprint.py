"""Configs compared, and files that are whole or absent."""

import dataclasses
import os

import pytest

from tests.training import tiny
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.files import write_whole
from triarch.training.fingerprint import check_folder, differences, to_plain, write_folder


def test_plain_values_name_their_classes():
    plain = to_plain(tiny.run_config("store"))
    assert plain["class"] == "RunConfig"
    assert plain["optimizer"]["class"] == "AdamW"
    assert plain["optimizer"]["learning_rate"] == {
        "class": "Cosine",
        "peak": 3e-3,
        "warmup_steps": 5,
        "final_fraction": 0.1,
    }


def test_differences_are_readable():
    old = {"class": "A", "x": 1, "inner": {"class": "B", "y": [1, 2]}, "gone": 3}
    new = {"class": "A", "x": 1, "inner": {"class": "B", "y": [1, 3]}, "added": None}
    assert differences(old, new) == [
        "inner.y: [1, 2] -> [1, 3]",
        "gone: 3 -> '(absent)'",
        "added: '(absent)' -> None",
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"batch_size": 16}, "batch_size: 8 -> 16"),
        ({"model": tiny.model("decoder-only", d_ff=64)}, "model.d_ff: 32 -> 64"),
        ({"log_every": 7, "microbatches": 2, "data": tiny.DataConfig(tiny.WINDOW, "moved")}, None),
    ],
)
def test_a_folder_holds_one_run(tmp_path, changes, line):
    config = tiny.run_config("store")
    store = TokenStore.open(tiny.write_store(tmp_path / "store"))
    check_folder(tmp_path / "run", config, [store])
    write_folder(tmp_path / "run", config, "text", [store])
    changed = dataclasses.replace(config, **changes)
    if line is None:
        check_folder(tmp_path / "run", changed, [store])
    else:
        with pytest.raises(UserError, match=line):
            check_folder(tmp_path / "run", changed, [store])


def test_another_store_is_another_run(tmp_path):
    config = tiny.run_config("store")
    store, other = (TokenStore.open(tiny.write_store(tmp_path / str(n), examples=n)) for n in (64, 65))
    write_folder(tmp_path / "run", config, "text", [store])
    with pytest.raises(UserError, match=r"store_fingerprint: '\w{64}' -> '\w{64}'"):
        check_folder(tmp_path / "run", config, [other])


def test_provenance_is_no_part_of_a_stores_identity(tmp_path):
    manifest = TokenStore.open(tiny.write_store(tmp_path / "store")).manifest
    assert dataclasses.replace(manifest, source={"python": "other"}).fingerprint == manifest.fingerprint
    assert dataclasses.replace(manifest, window=8).fingerprint != manifest.fingerprint


@pytest.mark.parametrize("damage", [lambda path: path.symlink_to(__file__), os.mkfifo])
def test_a_vocabulary_that_leaves_its_store_is_not_copied(tmp_path, damage):
    store = TokenStore.open(tiny.write_store(tmp_path / "store"))
    store.vocabulary_folder.mkdir()
    (store.vocabulary_folder / "a").write_text("a")
    damage(store.vocabulary_folder / "y")
    with pytest.raises(UserError, match=r"vocabulary/y: (a link out of|is a FIFO)"):
        write_folder(tmp_path / "run", tiny.run_config(store.path), "", [store])
    assert not (tmp_path / "run" / "vocabulary").exists()


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_whole(tmp_path / "file", "old")

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(tmp_path / "file", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"
