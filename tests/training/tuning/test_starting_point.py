"""Runs that begin from an export."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

import triarch
from tests.interchange import exports
from tests.models import tiny as tiny_models
from tests.training import tiny
from triarch.cli.main import main
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.models.network import flatten
from triarch.training import DataConfig, loop, train
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant
from triarch.training.optimizers.stable_adamw import StableAdamW
from triarch.training.record.config_json import read_json
from triarch.training.record.fingerprint import config_fingerprint, run_fingerprint
from triarch.training.starting_point import to_be_taken

UNKNOWN_VOCABULARY = dataclasses.replace(exports.ORIGIN, vocabulary=None)


@pytest.fixture(scope="module")
def start(config, tmp_path_factory):
    """An export of a network with random parameters far from initial ones."""
    return exports.export(tmp_path_factory.mktemp("start"), config.model, UNKNOWN_VOCABULARY)


def still(config, **changes):
    """A run whose parameters do not move."""
    return dataclasses.replace(config, optimizer=AdamW(Constant(1e-30, warmup_steps=0)), **changes)


def test_a_run_begins_with_the_exports_parameters(config, start, tmp_path, capsys):
    train(still(config, init_from=str(start)), tmp_path / "run", "")
    assert f"from the parameters of {start} of step 7" in capsys.readouterr().err
    wanted = flatten(triarch.load(start).params)
    for name, value in flatten(triarch.load(tmp_path / "run").params).items():
        np.testing.assert_allclose(value, wanted[name], rtol=1e-6, atol=1e-12, err_msg=name)


def test_a_run_goes_on_from_its_own_checkpoint(config, start, tmp_path):
    """Once there is a checkpoint, the export is not read again: it may be gone."""
    gone = shutil.copytree(start, tmp_path / "gone")
    tuned = dataclasses.replace(config, init_from=str(gone))
    summary = train(tuned, tmp_path / "run", "")
    shutil.rmtree(gone)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "12")
    again = train(tuned, tmp_path / "run", "")
    assert again["loss"] == summary["loss"]
    fresh = train(config, tmp_path / "fresh", "")
    assert fresh["loss"] != summary["loss"]


def test_an_imported_model_is_tuned(store, cache, start, tmp_path):
    """Out to Hugging Face, in again, and on with training from where it was."""
    hf, back = tmp_path / "hf", tmp_path / "back"
    assert main(["export", f"--workdir={start}", f"--output={hf}", "--format=huggingface", "--dtype=bfloat16"]) == 0
    assert main(["import", str(hf), f"--output={back}"]) == 0
    config = tiny.run_config(store, compilation_cache=cache, init_from=str(back))
    summary = train(config, tmp_path / "run", "")
    assert summary["status"] == "complete"


def test_what_an_import_said_goes_with_a_run_that_never_trained(config, tmp_path, monkeypatch):
    """A run that failed before its first step leaves nothing of its import to the fresh one in its folder."""

    def fail(*arguments):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    said = {"huggingface": "LlamaForCausalLM", "config": {"eos_token_id": 5}, "generation_config": None}
    origin = dataclasses.replace(UNKNOWN_VOCABULARY, source=said)
    imported = exports.export(tmp_path, config.model, origin)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "_loop", fail)
        with pytest.raises(UserError, match="out of memory"):
            train(dataclasses.replace(config, init_from=str(imported)), tmp_path / "run", "")
    train(still(config, steps=1), tmp_path / "run", "")
    assert triarch.load(tmp_path / "run").origin.imported is None
    train(still(config, steps=1, init_from=str(imported)), tmp_path / "tuned", "")
    assert triarch.load(tmp_path / "tuned").origin.imported == said


def test_options_that_differ_are_said(config, start, tmp_path, capsys):
    model = dataclasses.replace(config.model, rope_base=50_000.0, init_std=0.5)
    train(still(config, model=model, init_from=str(start)), tmp_path / "run", "")
    assert "the network differs in rope_base: 10000.0 -> 50000.0\n" in capsys.readouterr().err


def test_what_does_not_fit_is_refused_before_anything_is_written(config, start, tmp_path):
    wider = dataclasses.replace(config.model, d_ff=48)
    for changes, message in (
        ({"init_from": str(tmp_path / "nothing")}, "nothing: not an export"),
        ({"init_from": str(start), "model": wider}, r"init_from = .*mlp/down' has shape \[3, 32, 16\].*\[3, 48, 16\]"),
        ({"init_from": str(exports.export(tmp_path, tiny_models.REDLLM, UNKNOWN_VOCABULARY))}, "is missing"),
    ):
        with pytest.raises(UserError, match=message):
            train(dataclasses.replace(config, **changes), tmp_path / "run", "")
        assert not (tmp_path / "run").exists()


def test_tokens_of_another_vocabulary_are_refused(config, tmp_path):
    other = exports.export(tmp_path, config.model)
    with pytest.raises(UserError, match=r"init_from = .*: its vocabulary is not that of .*--vocabulary="):
        train(dataclasses.replace(config, init_from=str(other)), tmp_path / "run", "")
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def other(config, tmp_path_factory):
    """A run of 6 steps whose checkpoints of steps 4 and 6 are there."""
    workdir = tmp_path_factory.mktemp("other") / "run"
    train(dataclasses.replace(config, optimizer=AdamW(Constant(3e-3)), steps=6), workdir, "")
    return workdir


def begun_from(other, config, **changes):
    fields = dict(optimizer=AdamW(Constant(3e-3)), steps=4, init_from=str(other))
    return dataclasses.replace(config, **fields | changes)


def test_a_run_begins_with_a_checkpoint_of_another(config, other, tmp_path, capsys):
    """All of its state and its place in the data: the same steps as those that the other would have made next."""
    longer = dataclasses.replace(config, optimizer=AdamW(Constant(3e-3)), steps=8)
    train(longer, tmp_path / "longer", "")
    capsys.readouterr()
    train(begun_from(other, config, init_step=4, init_optimizer=True, init_data=True), tmp_path / "run", "")
    said = f"from the parameters and the optimizer state of {other} of step 4, reading on after its data\n"
    assert said in capsys.readouterr().err
    reference = tiny.losses(tmp_path / "longer")
    assert tiny.losses(tmp_path / "run") == {step: reference[step + 4] for step in range(1, 5)}


@pytest.mark.slow
def test_parameters_alone_are_what_is_taken_by_default(config, other, tmp_path, capsys):
    train(begun_from(other, config, steps=1), tmp_path / "run", "")
    said = f"from the parameters of {other} of step 6, with a fresh optimizer, reading the data from the beginning\n"
    assert said in capsys.readouterr().err
    half = begun_from(other, config, init_data=True)
    train(half, tmp_path / "half", "")
    assert "with a fresh optimizer, reading on after its data\n" in capsys.readouterr().err
    losses = tiny.losses(tmp_path / "half")
    assert losses[1] != tiny.losses(tmp_path / "run")[1]
    # What it began from may be gone when it goes on.
    shutil.rmtree(tmp_path / "half" / "checkpoints")
    gone = tmp_path / "gone"
    moved = dataclasses.replace(half, init_from=str(shutil.copytree(other, gone)))
    train(dataclasses.replace(moved, checkpoint=dataclasses.replace(moved.checkpoint, every=2)), tmp_path / "b", "")
    shutil.rmtree(gone)
    shutil.rmtree(tmp_path / "b" / "checkpoints" / "4")
    train(moved, tmp_path / "b", "")
    assert tiny.losses(tmp_path / "b") == losses


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init_step": 5}, r"init_step = 5: .*has no checkpoint of it \(there are 4, 6\)"),
        ({"init_from": None, "init_data": True}, r"RunConfig.init_data = True: of which run\? set RunConfig.init_from"),
        ({"init_data": True, "seed": 3}, r"in the order of seed 0, this one in that of 3"),
        ({"init_optimizer": True, "optimizer": StableAdamW(Constant(1e-3))}, r"the state of AdamW in .* is none of"),
        ({"model": tiny.model("decoder-only", d_ff=48)}, r"init_from = .*mlp/down' has shape \[3, 32, 16\]"),
    ],
)
def test_a_run_that_cannot_be_begun_from(config, other, tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as error:
        train(begun_from(other, config, **changes), tmp_path / "run", "")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_step_is_no_checkpoint(config, other, tmp_path):
    copy = shutil.copytree(other, tmp_path / "other")
    (copy / "checkpoints" / "\u00b2").mkdir()
    with pytest.raises(UserError, match=r"has no checkpoint of it \(there are 4, 6\)"):
        train(begun_from(copy, config, init_step=5), tmp_path / "run", "")


def test_a_run_begins_again_with_the_parameters_that_it_took(config, other, tmp_path):
    """Where it logged steps and saved none, its source's newest checkpoint may be another one by now."""
    source = shutil.copytree(other, tmp_path / "source", ignore=shutil.ignore_patterns("6"))
    tuned = begun_from(source, config, steps=2)
    train(tuned, tmp_path / "run", "")
    losses, stores = tiny.losses(tmp_path / "run"), [TokenStore.open(config.data.store)]
    before = config_fingerprint(read_json(tmp_path / "run"))
    assert before == run_fingerprint(tuned, stores, to_be_taken(tuned, stores[0]))
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    shutil.copytree(other / "checkpoints" / "6", source / "checkpoints" / "6")
    train(tuned, tmp_path / "run", "")
    assert tiny.losses(tmp_path / "run") == losses
    # What begins with the newer one is another run, whose losses and evaluations are its own.
    train(tuned, tmp_path / "later", "")
    assert tiny.losses(tmp_path / "later") != losses
    after = config_fingerprint(read_json(tmp_path / "later"))
    assert before != after == run_fingerprint(tuned, stores, to_be_taken(tuned, stores[0]))
    assert config_fingerprint(read_json(tmp_path / "run")) == before
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    shutil.rmtree(source / "checkpoints" / "4")
    (source / "checkpoints" / "6").rename(source / "checkpoints" / "4")
    with pytest.raises(UserError, match=f"{source}': holds other parameters than those that {tmp_path / 'run'} began"):
        train(tuned, tmp_path / "run", "")


def test_an_export_has_one_step_and_no_optimizer(config, start, tmp_path):
    with pytest.raises(
        UserError, match=r"RunConfig.init_optimizer: .* is an export, which holds the parameters of one"
    ):
        train(dataclasses.replace(config, init_from=str(start), init_optimizer=True), tmp_path / "run", "")


def test_other_stores_have_no_place_to_read_on_from(config, other, tmp_path):
    data = DataConfig(tiny.WINDOW, str(tiny.write_store(tmp_path / "store", 40)))
    with pytest.raises(UserError, match="reads other stores"):
        train(begun_from(other, config, init_data=True, data=data), tmp_path / "run", "")
