"""Configs compared, and files that are whole or absent."""

import dataclasses
import json
import os
import shutil

import pytest

from tests.training import tiny
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.files import write_whole
from triarch.training.record.config_classes import config_classes, to_plain, without_defaults
from triarch.training.record.fingerprint import (
    check_folder,
    config_fingerprint,
    differences,
    run_fingerprint,
    saved_steps,
    write_folder,
)


def begin(workdir):
    """As if a step had been logged."""
    (workdir / "metrics.jsonl").write_text('{"step": 1}\n')


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
    begin(tmp_path / "run")
    changed = dataclasses.replace(config, **changes)
    if line is None:
        check_folder(tmp_path / "run", changed, [store])
    else:
        with pytest.raises(UserError, match=line):
            check_folder(tmp_path / "run", changed, [store])


@pytest.mark.parametrize(
    ("key", "inner"), [("init_from", None), ("z_loss", None), ("model", "mlp_bias"), ("optimizer", "weight_decay")]
)
def test_a_run_from_before_a_field_was_there_goes_on(tmp_path, key, inner):
    """What an older triarch did not write is as by default, and neither a difference nor part of the identity."""
    config = tiny.run_config("store")
    store = TokenStore.open(tiny.write_store(tmp_path / "store"))
    write_folder(tmp_path / "run", config, "text", [store])
    begin(tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    identity = json.loads(file.read_text())
    owner = identity if inner is None else identity[key]
    value = owner.pop(inner or key)
    file.write_text(json.dumps(identity))
    check_folder(tmp_path / "run", config, [store])
    assert config_fingerprint(identity) == run_fingerprint(config, [store])
    other = {None: 7, 1e-4: 0.5, False: True}.get(value, 0.25)
    owner[inner or key] = other
    assert config_fingerprint(identity) != run_fingerprint(config, [store])
    part = config if inner is None else getattr(config, key)
    changed = dataclasses.replace(part, **{inner or key: other})
    changed = changed if inner is None else dataclasses.replace(config, **{key: changed})
    del owner[inner or key]
    file.write_text(json.dumps(identity))
    with pytest.raises(UserError, match=f"{f'{key}.{inner}' if inner else key}: {value!r} -> {other!r}"):
        check_folder(tmp_path / "run", changed, [store])


def test_only_what_was_set_stands_for_a_config():
    assert without_defaults(to_plain(tiny.run_config("store")))["optimizer"] == {
        "class": "AdamW",
        "learning_rate": {"class": "Cosine", "peak": 3e-3, "warmup_steps": 5},
    }
    unknown = {"class": "Unknown", "x": [{"class": "Constant", "peak": 1.0, "warmup_steps": 0}]}
    assert without_defaults(unknown) == {"class": "Unknown", "x": [{"class": "Constant", "peak": 1.0}]}
    assert "Unknown" not in config_classes()


def test_what_never_trained_binds_nobody(tmp_path):
    """As after too little memory: the folder takes another config, with its vocabulary, until a step is kept."""
    workdir, config = tmp_path / "run", tiny.run_config("store")
    other = dataclasses.replace(config, batch_size=16)
    store = TokenStore.open(tiny.write_store(tmp_path / "store"))
    store.vocabulary_folder.mkdir()
    for number, one in enumerate((config, other)):
        (store.vocabulary_folder / "words").write_text(str(number))
        check_folder(workdir, one, [store])
        write_folder(workdir, one, "text", [store])
        assert (workdir / "vocabulary" / "words").read_text() == str(number)
        (workdir / "metrics.jsonl").touch()
    (workdir / "checkpoints" / "4.orbax-checkpoint-tmp").mkdir(parents=True)
    check_folder(workdir, config, [store])
    (workdir / "checkpoints" / "4").mkdir()
    with pytest.raises(UserError, match="batch_size: 16 -> 8"):
        check_folder(workdir, config, [store])
    assert not [path for path in workdir.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name, text", [("manifest.json", "{}"), ("config.json", '{"model_type": "llama"}')])
def test_a_run_takes_no_folder_of_another_kind(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match="choose another --workdir"):
        check_folder(tmp_path, tiny.run_config("store"), [])
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["metrics.jsonl", "summary.json", "config.gin", "config.json"])
def test_a_folder_where_a_file_should_be(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=f"{name}: expected a file"):
        check_folder(tmp_path, tiny.run_config("store"), [])


@pytest.mark.parametrize("name", ["checkpoints", "vocabulary", "tensorboard"])
def test_a_file_where_a_folder_should_be(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=f"{name}: expected a folder"):
        check_folder(tmp_path, tiny.run_config("store"), [])


def test_another_store_is_another_run(tmp_path):
    config = tiny.run_config("store")
    store, other = (TokenStore.open(tiny.write_store(tmp_path / str(n), examples=n)) for n in (64, 65))
    write_folder(tmp_path / "run", config, "text", [store])
    begin(tmp_path / "run")
    with pytest.raises(UserError, match=r"store_fingerprint: '\w{64}' -> '\w{64}'"):
        check_folder(tmp_path / "run", config, [other])


def test_a_store_replaced_by_one_of_the_same_sizes_is_another_run(tmp_path):
    config = tiny.run_config("store")
    folder = tiny.write_store(tmp_path / "store")
    store = TokenStore.open(folder)
    write_folder(tmp_path / "run", config, "text", [store])
    begin(tmp_path / "run")
    plain = store.manifest.to_json()
    shutil.rmtree(folder)
    assert TokenStore.open(tiny.write_store(folder)).manifest.to_json() == plain
    shutil.rmtree(folder)
    other = TokenStore.open(tiny.write_store(folder, seed=1))
    fields, others = json.loads(plain), json.loads(other.manifest.to_json())
    for split in (*fields["splits"].values(), *others["splits"].values()):
        for file in split["files"]:
            # How well it is compressed may differ.
            del file["sha256"], file["size"]
    assert fields == others
    with pytest.raises(UserError, match="store_fingerprint: "):
        check_folder(tmp_path / "run", config, [other])
    assert run_fingerprint(config, [store]) != run_fingerprint(config, [other])


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


def test_steps_are_named_as_orbax_names_them(tmp_path):
    for name in ("0", "12", "3", "\u00b2", "\u0663", "007", "4.orbax-checkpoint-tmp", "9" * 30):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert saved_steps(tmp_path) == [0, 3, 12]
    assert saved_steps(tmp_path / "none") == []
