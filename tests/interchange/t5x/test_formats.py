"""The forms in which T5X has stored the same parameters: all give the same ones of ours, to the bit."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from flax import serialization

from tests.interchange.t5x.checkpoints import Checkpoint, random_minimal, scanned, write_index
from triarch.interchange.huggingface.importing import make_leaves
from triarch.interchange.t5x import open_checkpoint

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def imported(folder):
    """Returns type and bytes of every parameter that an export would have."""
    leaves, _ = make_leaves(open_checkpoint(folder), lambda num_bytes: None)
    parts = {name: np.concatenate(list(leaf.parts(3))) for name, leaf in leaves.items()}
    assert all(parts[name].shape == leaf.shape for name, leaf in leaves.items())
    return {name: (value.dtype.name, value.tobytes()) for name, value in parts.items()}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return imported(Checkpoint(random_minimal()).write(tmp_path_factory.mktemp("plain") / "c"))


@pytest.mark.parametrize("driver", ["gfile", "gcs"])
def test_stores_of_other_systems_are_folders_here(driver, expected, tmp_path):
    assert imported(Checkpoint(random_minimal(), driver=driver).write(tmp_path / "c")) == expected


def test_arrays_in_the_index(expected, tmp_path):
    parameters = random_minimal()
    folder = Checkpoint(parameters, inline=tuple(parameters)).write(tmp_path / "c")
    assert [path.name for path in folder.iterdir()] == ["checkpoint"]
    assert imported(folder) == expected


def test_an_array_that_flax_took_apart(expected, tmp_path, monkeypatch):
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 1000)
    parameters = random_minimal()
    folder = Checkpoint(parameters, inline=("token_embedder/embedding",)).write(tmp_path / "c")
    assert imported(folder) == expected


def test_through_orbax(expected, tmp_path):
    checkpoint = Checkpoint(random_minimal())
    folder = checkpoint.write(tmp_path / "c" / "state")
    optimizer = checkpoint.index()["optimizer"]
    target = {}
    for name in checkpoint.parameters:
        *modules, leaf = name.split("/")
        place = target
        for module in modules:
            place = place.setdefault(module, {})
        place[leaf] = f"PLACEHOLDER://target.{name.replace('/', '.')}"
    write_index(folder, {"target": target, "state": optimizer["state"]})
    opened = open_checkpoint(tmp_path / "c")
    assert opened.index.step == 1000
    assert imported(tmp_path / "c") == expected


@pytest.mark.parametrize("axis", [0, 1])
def test_layers_along_either_axis(axis, expected, tmp_path):
    folder = Checkpoint(scanned(random_minimal(), axis)).write(tmp_path / "c")
    assert imported(folder) == expected


@pytest.mark.parametrize("layout", [dict, scanned])
def test_bfloat16(layout, tmp_path):
    parameters = layout({name: value.astype(BFLOAT16) for name, value in random_minimal().items()})
    newer = Checkpoint(parameters).write(tmp_path / "newer")
    bits = {name: value.view(np.uint16) for name, value in parameters.items()}
    older = Checkpoint(bits, version=2).write(tmp_path / "older")
    found = imported(newer)
    assert {dtype for dtype, _ in found.values()} == {"bfloat16"}
    assert imported(older) == found


def test_a_single_layer(tmp_path):
    parameters = random_minimal(layers=1)
    one = imported(Checkpoint(parameters).write(tmp_path / "one"))
    assert imported(Checkpoint(scanned(parameters)).write(tmp_path / "two")) == one


def test_the_optimizers_state_is_left_out(expected, tmp_path):
    state = {"step": np.int32(7), "param_states": {"m": np.ones(5, np.float32), "absent": "no array at all"}}
    folder = Checkpoint(random_minimal(), state=state).write(tmp_path / "c")
    opened = open_checkpoint(folder)
    assert (opened.left_out, opened.index.step) == (("state",), 7)
    assert imported(folder) == expected
