"""Checkpoints by themselves: what stays, what is found damaged, what a killed save leaves."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from triarch.errors import UserError
from triarch.training.checkpoints import Checkpoints, Damaged, find_faults, restore_newest, write_record
from triarch.training.config import CheckpointConfig
from triarch.training.state import TrainState

PARAMS = {"decoder": {"scanned": {"0": {"w": np.arange(12, dtype=np.float32).reshape(3, 2, 2)}}}, "b": np.ones(5)}


def state(step):
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32) + step, PARAMS)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    return TrainState(jnp.int32(step), params, optimizer.init(params))


def target():
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state(0))


@pytest.fixture
def open_checkpoints(tmp_path):
    opened = []

    def open_them(**options):
        opened.append(Checkpoints(tmp_path / "checkpoints", CheckpointConfig(**options)))
        return opened[-1]

    yield open_them
    for checkpoints in opened:
        checkpoints.close()


def test_the_newest_and_every_nth_stay(open_checkpoints):
    checkpoints = open_checkpoints(keep_last=2, keep_every=4)
    for step in range(1, 11):
        checkpoints.save(state(step), step)
    checkpoints.wait()
    assert checkpoints.steps() == [4, 8, 9, 10]


def test_what_was_saved_comes_back(open_checkpoints):
    checkpoints = open_checkpoints()
    checkpoints.save(state(7), 7)
    checkpoints.wait()
    restored, step = restore_newest(open_checkpoints(), target(), print)
    assert step == int(restored.step) == 7
    assert jax.tree.structure(restored) == jax.tree.structure(state(7))
    jax.tree.map(np.testing.assert_array_equal, restored, state(7))


@pytest.mark.parametrize("name", ["a[1]", "a*", "-1?{b} #%20ü\n'\"$&;:@"])
def test_folders_may_have_any_name(tmp_path, name):
    (tmp_path / "ab" / "checkpoints" / "7" / "params" / "ocdbt.process_9").mkdir(parents=True)
    checkpoints = Checkpoints(tmp_path / name / "checkpoints", CheckpointConfig())
    checkpoints.save(state(7), 7)
    checkpoints.wait()
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path / name / "checkpoints", CheckpointConfig())
    restored, _ = restore_newest(checkpoints, target(), print)
    jax.tree.map(np.testing.assert_array_equal, restored, state(7))
    checkpoints.close()


@pytest.mark.parametrize(("name", "message"), [("a\\b", "a backslash"), ("a\udce9", "is not UTF-8")])
def test_folders_that_cannot_be_written_are_refused_at_once(tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        Checkpoints(tmp_path / name / "checkpoints", CheckpointConfig())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda entries: entries.clear(), "expected an object with 1 or more entries"),
        (lambda entries: entries.pop(next(name for name in entries if name.startswith("d/"))), "is not listed in"),
        (lambda entries: entries.update({"../x": {"size": 1, "crc32": 1}}), "a key = '../x': expected the name of"),
        (lambda entries: next(iter(entries.values())).update(size=-1), "size = -1: expected a whole number"),
        (lambda entries: next(iter(entries.values())).update(crc32="1"), "crc32 = '1': expected a whole number"),
    ],
)
def test_lists_that_check_nothing_are_faults(open_checkpoints, tmp_path, damage, message):
    checkpoints = open_checkpoints()
    checkpoints.save(state(1), 1)
    checkpoints.wait()
    record = tmp_path / "checkpoints" / "1" / "params" / "triarch_files.json"
    entries = json.loads(record.read_text())
    damage(entries)
    record.write_text(json.dumps(entries))
    assert message in find_faults(record.parents[1], ("params",))[0]


def test_no_checkpoints_are_no_error(open_checkpoints):
    assert restore_newest(open_checkpoints(), target(), print) is None


def test_a_save_cut_off_is_cleared_away(open_checkpoints, tmp_path, monkeypatch):
    checkpoints = open_checkpoints()
    checkpoints.save(state(1), 1)
    checkpoints.wait()

    def cut_off(item, checksums):
        raise OSError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr("triarch.training.checkpoints.write_record", cut_off)
        checkpoints.save(state(2), 2)
        with pytest.raises(OSError, match="cut off"):
            checkpoints.wait()
    folder = tmp_path / "checkpoints"
    assert len(list(folder.iterdir())) == 2
    again = open_checkpoints()
    assert again.steps() == [1]
    again.save(state(2), 2)
    again.wait()
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]
    jax.tree.map(np.testing.assert_array_equal, again.restore(2, target()), state(2))


@pytest.mark.parametrize("checksums", [True, False])
def test_every_file_is_vouched_for(open_checkpoints, tmp_path, checksums):
    """Each file of params and optimizer in turn is deleted, cut short and altered."""
    checkpoints = open_checkpoints(checksums=checksums)
    checkpoints.save(state(3), 3)
    checkpoints.wait()
    folder = tmp_path / "checkpoints" / "3"
    files = [
        path
        for item in ("params", "optimizer")
        for path in (folder / item).rglob("*")
        if path.is_file() and path.name != "commit_success.txt"
    ]
    assert len(files) > 10
    for path in files:
        content = path.read_bytes()
        path.unlink()
        assert find_faults(folder, ("params", "optimizer"))
        path.write_bytes(content[: len(content) // 2])
        assert find_faults(folder, ("params", "optimizer"))
        if path.name != "triarch_files.json" and content:
            path.write_bytes(bytes([content[0] ^ 4]) + content[1:])
            assert bool(find_faults(folder, ("params", "optimizer"))) == checksums
        path.write_bytes(content)
    assert not find_faults(folder, ("params", "optimizer"))


def test_only_the_items_asked_for_are_checked(open_checkpoints, tmp_path):
    checkpoints = open_checkpoints()
    checkpoints.save(state(3), 3)
    checkpoints.wait()
    folder = tmp_path / "checkpoints" / "3"
    (folder / "optimizer" / "_METADATA").unlink()
    assert not find_faults(folder, ("params",))
    assert "_METADATA is missing" in find_faults(folder, ("params", "optimizer"))[0]


def test_another_shape_is_told(open_checkpoints):
    checkpoints = open_checkpoints()
    checkpoints.save(state(3), 3)
    checkpoints.wait()
    wrong = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((*leaf.shape, 2), leaf.dtype, sharding=leaf.sharding), target()
    )
    with pytest.raises(Damaged):
        checkpoints.restore(3, wrong)


def test_records_name_files_relative_to_the_item(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_bytes(b"123456789")
    write_record(tmp_path, checksums=True)
    # The check value of CRC-32.
    assert f'"crc32": {0xCBF43926}' in (tmp_path / "triarch_files.json").read_text()


def test_shares_of_the_files_make_up_the_whole(tmp_path):
    for number in range(7):
        (tmp_path / "params" / "d").mkdir(parents=True, exist_ok=True)
        (tmp_path / "params" / "d" / str(number)).write_bytes(b"whole")
    write_record(tmp_path / "params", checksums=True)
    for number in range(7):
        path = tmp_path / "params" / "d" / str(number)
        path.write_bytes(b"Whole")
        found = [find_faults(tmp_path, ("params",), part, 3) for part in range(3)]
        assert sorted(found) == [[], [], [f"{path} has changed"]]
        path.write_bytes(b"whole")
