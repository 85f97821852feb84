"""The memory a run needs at the least, and what is said where it is not there."""

import dataclasses
import json

import pytest

from tests.training import tiny
from triarch import memory
from triarch.errors import UserError
from triarch.training import loop, train
from triarch.training.inputs import open_inputs
from triarch.training.memory import check_memory, least_bytes
from triarch.training.run import assemble


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return tiny.run_config(tiny.write_store(tmp_path_factory.mktemp("data") / "store"))


def test_the_least_is_counted_by_hand(config):
    needs = least_bytes(assemble(config, open_inputs(config)))
    parameters = config.model.num_params()
    # AdamW keeps two numbers a parameter beside it, and a few counters.
    assert 0 < needs["state"] - 3 * 4 * parameters < 64
    assert needs["gradients"] == 4 * parameters
    assert needs["batch"] == 8 * tiny.WINDOW * (3 * 4 + 2 * 16)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"batch_size": 2 * 10**9},
            "a batch of 2,000,000,000 examples .* at the least; there are .*: try Execution",
        ),
        ({"model": tiny.model("decoder-only", d_ff=2**31 - 1)}, "take a smaller model, or more devices"),
        ({"model": tiny.model("decoder-only", vocab_size=2**31 - 1)}, "take a smaller model, or more devices"),
    ],
)
def test_the_impossible_is_refused_by_arithmetic(config, changes, expected, monkeypatch):
    """Nothing of it is tried, on a machine of 64 GiB."""
    monkeypatch.setattr("triarch.training.memory.host_bytes", lambda: 2**36)
    changed = dataclasses.replace(config, **changes)
    with pytest.raises(UserError, match=rf"^the run needs [\d.]+ [GT]iB \(.*{expected}"):
        check_memory(assemble(changed, open_inputs(config)))


def test_a_machine_of_any_memory(config, monkeypatch):
    run = assemble(config, open_inputs(config))
    needed = sum(least_bytes(run).values())
    monkeypatch.setattr("triarch.training.memory.host_bytes", lambda: needed)
    check_memory(run)
    monkeypatch.setattr("triarch.training.memory.host_bytes", lambda: needed - 1)
    with pytest.raises(UserError, match="at the least"):
        check_memory(run)


def test_too_little_memory_is_one_line_and_binds_nobody(config, monkeypatch, tmp_path):
    def fail(*arguments):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 bytes.\n[tf-allocator] more lines")

    workdir = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(loop, "_loop", fail)
        with pytest.raises(UserError) as caught:
            train(config, workdir, "too large\n")
    said = str(caught.value)
    assert said.startswith("out of memory: 8.0 GiB more were asked for at once; ") and "\n" not in said
    assert said.endswith("or a smaller batch_size; no checkpoint was written yet")
    smaller = dataclasses.replace(config, batch_size=4, steps=5)
    assert train(smaller, workdir, "small\n")["status"] == "complete"
    assert json.loads((workdir / "config.json").read_text())["batch_size"] == 4


def test_what_was_saved_is_noted_on_the_unforeseen(config, monkeypatch, tmp_path):
    def fail(*arguments):
        raise ZeroDivisionError

    (tmp_path / "checkpoints").mkdir()
    monkeypatch.setattr(loop, "restore_newest", fail)
    with pytest.raises(ZeroDivisionError) as caught:
        train(config, tmp_path, "")
    assert caught.value.__notes__ == ["no checkpoint was written yet"]


def test_a_container_has_its_limit(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_CONTAINER_LIMITS", (str(limit),))
    whole = memory.host_bytes()
    limit.write_text("max\n")
    assert memory.host_bytes() == whole > 2**28
    limit.write_text("1000000\n")
    assert memory.host_bytes() == 1000000


@pytest.mark.parametrize("field, value", [("batch_size", 2**31), ("steps", 10**12), ("seed", 2**32), ("seed", -1)])
def test_numbers_beyond_an_array(config, field, value, tmp_path):
    with pytest.raises(UserError, match=f"RunConfig.{field} = {value}: expected"):
        train(dataclasses.replace(config, **{field: value}), tmp_path / "run", "")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("field", ["d_ff", "vocab_size", "d_model", "num_decoder_layers", "head_dim"])
def test_models_beyond_an_array(field):
    model = tiny.model("decoder-only", **{field: 10**15})
    with pytest.raises(
        UserError, match=rf"ModelConfig.{field} = 1{'0' * 15} ?(times num_heads must be|: expected) at most [\d,]+$"
    ):
        model.validate()
