"""Configs and stores that do not fit are refused with one line, before a device is touched."""

import dataclasses

import pytest

from tests.training import tiny
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.objectives import CausalLM, MaskedLM, Mixture, PrefixLM, SpanCorruption, Supervised
from triarch.sharding import MeshConfig
from triarch.training import CheckpointConfig, DataConfig, train
from triarch.training.config import validate
from triarch.training.inputs import open_inputs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "RunConfig.steps = 0"),
        ({"batch_size": 2.5}, "RunConfig.batch_size = 2.5"),
        ({"microbatches": 3}, "batch_size 8 is not divisible by microbatches = 3"),
        ({"seed": -1}, "RunConfig.seed = -1"),
        ({"z_loss": -0.1}, "RunConfig.z_loss"),
        ({"eval_every": 0}, "RunConfig.eval_every = 0"),
        ({"loss_chunk": -1}, "RunConfig.loss_chunk = -1"),
        ({"checkpoint": CheckpointConfig(every=0)}, "CheckpointConfig.every = 0"),
        ({"checkpoint": CheckpointConfig(keep_every=-5)}, "CheckpointConfig.keep_every = -5"),
        ({"mesh": MeshConfig(data=-2)}, "MeshConfig.data = -2"),
        ({"model": tiny.model("decoder-only", num_kv_heads=3)}, "ModelConfig.num_kv_heads"),
    ],
)
def test_values_out_of_range_are_named(config, changes, message):
    validate(config)
    with pytest.raises(UserError, match=message):
        validate(dataclasses.replace(config, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": DataConfig(tiny.WINDOW)}, "DataConfig.store is not set"),
        ({"data": DataConfig(tiny.WINDOW, "/nowhere/store")}, "/nowhere/store: no such token store"),
        ({"model": tiny.model("decoder-only", vocab_size=16)}, "its vocabulary has 32 tokens, but .* vocab_size is 16"),
        ({"objective": MaskedLM()}, "masked_lm trains encoder-only models"),
    ],
)
def test_data_that_does_not_fit_is_refused(config, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        train(dataclasses.replace(config, **changes), tmp_path / "run", "")
    assert not (tmp_path / "run").exists()


def test_window_and_splits_are_checked(config):
    store = config.data.store
    with pytest.raises(UserError, match=r"windows are 16 tokens long, but DataConfig.window is 8"):
        open_inputs(dataclasses.replace(config, data=DataConfig(8, store)))
    misspelt = dataclasses.replace(config, data=DataConfig(tiny.WINDOW, store, validation_split="validaton"))
    open_inputs(misspelt)
    with pytest.raises(UserError, match="did you mean 'validation'"):
        open_inputs(dataclasses.replace(misspelt, eval_every=5))


@pytest.mark.parametrize(
    ("layout", "objective", "reads"),
    [
        ("packed", SpanCorruption(), "windows"),
        ("packed", PrefixLM(append_eos=True), "windows"),
        ("packed", Mixture((CausalLM(), SpanCorruption()), (1, 1)), "windows"),
        ("pairs", CausalLM(), "windows or packed"),
        ("windows", Supervised(), "pairs or packed_pairs"),
        ("packed_pairs", PrefixLM(), "windows or packed"),
        ("pairs", Mixture((CausalLM(), Supervised()), (1, 1)), "no layout: its objectives have none in common"),
    ],
)
def test_a_layout_that_the_objective_does_not_read(config, monkeypatch, layout, objective, reads):
    store = TokenStore.open(config.data.store)
    other = dataclasses.replace(store, manifest=dataclasses.replace(store.manifest, layout=layout))
    monkeypatch.setattr(TokenStore, "open", lambda path: other)
    message = f"its layout is '{layout}', but objective {objective.name} reads {reads}: prepare the store with another"
    with pytest.raises(UserError, match=message):
        open_inputs(dataclasses.replace(config, objective=objective))


@pytest.mark.parametrize("layout", ["pairs", "packed_pairs"])
def test_lengths_of_pairs_are_the_stores(config, monkeypatch, layout):
    store = TokenStore.open(config.data.store)
    manifest = dataclasses.replace(store.manifest, layout=layout, lengths={"inputs": 10, "targets": 6})
    monkeypatch.setattr(TokenStore, "open", lambda path: dataclasses.replace(store, manifest=manifest))
    open_inputs(dataclasses.replace(config, objective=Supervised(10, 6)))
    with pytest.raises(
        UserError,
        match=r"its inputs have at most 10 tokens and targets 6, but objective supervised expects that inputs have at "
        r"most 8 tokens and targets 8: set its inputs_length",
    ):
        open_inputs(dataclasses.replace(config, objective=Supervised(8, 8)))


def test_sentinels_are_asked_for_before_a_run(config):
    corrupted = dataclasses.replace(config, objective=SpanCorruption())
    with pytest.raises(UserError, match=r"windows of 16 tokens needs 1 sentinel tokens, and the store's .* has 0"):
        open_inputs(corrupted)


def test_a_file_in_place_of_the_folder(config, tmp_path):
    (tmp_path / "run").write_text("not a folder")
    with pytest.raises(UserError, match="expected a folder"):
        train(config, tmp_path / "run", "")


def test_an_unreadable_record_of_the_config(config, tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json: not JSON"):
        train(config, tmp_path, "")
