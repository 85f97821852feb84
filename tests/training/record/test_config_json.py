"""The config of a run read back from its config.json: the same values, and one line for whatever is no config."""

import dataclasses
import json

import pytest

from tests.bad_input.case import DROP, changed
from tests.training import tiny
from triarch.cli.gin import files as gin_files
from triarch.data.mixture import MixturePhase, StoreMixture
from triarch.errors import UserError
from triarch.objectives import T5GEMMA2, UL2, SpanCorruption
from triarch.training import DataConfig
from triarch.training.optimizers.optax_chain import OptaxChain
from triarch.training.optimizers.schedules import SCHEDULES, Constant
from triarch.training.record.config_classes import config_classes, to_plain
from triarch.training.record.config_json import check_modules, read_config

MIXED = DataConfig(16, StoreMixture(("a", "b"), (MixturePhase(0, (1.0, 2.0)), MixturePhase(5, temperature=2.0))))


def written(tmp_path, config, **others):
    (tmp_path / "config.json").write_text(json.dumps(to_plain(config) | {"store_fingerprint": "x"} | others))
    return tmp_path


@pytest.mark.parametrize("objective", [SpanCorruption(), UL2, T5GEMMA2], ids=["plain", "ul2", "t5gemma2"])
def test_the_config_comes_back(objective, tmp_path):
    config = tiny.run_config("store", "encoder-decoder", objective=objective, data=MIXED)
    assert read_config(written(tmp_path, config, vocabulary={"special": {}}, mixture={})) == config


def test_steps_and_patterns_come_back(tmp_path):
    """Text with quotes and parentheses, from config.json and from gin."""
    steps = ("scale_by_adam(b1=0.9)", "add_decayed_weights(0.1, only=('kernel', \"table\"))")
    config = tiny.run_config("store", optimizer=OptaxChain(Constant(0.1), steps), frozen=("embedding", "*/query"))
    assert read_config(written(tmp_path, config)) == config
    (tmp_path / "config.gin").write_text(gin_files.render(config))
    gin_files.parse([str(tmp_path / "config.gin")], [])
    assert gin_files.build("RunConfig") == config


@pytest.mark.parametrize("name", ["redllm/8b", "ettin_encoder/150m", "llama3/1b", "t5gemma/2b", "bart/base"])
def test_published_configs_come_back(name, tmp_path):
    """With scaled rotary embeddings, rules of sharding and schedules of other kinds."""
    gin_files.parse([gin_files.recipe_file(*name.split("/")), f"models/{name}.gin"], [])
    config = gin_files.build("RunConfig")
    assert read_config(written(tmp_path, config)) == config


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("steps", "7", "RunConfig.steps: '7' is no value of that field"),
        ("steps", DROP, "RunConfig.steps is missing"),
        ("model.d_model", DROP, "ModelConfig.d_model is missing"),
        ("model.d_modl", 8, "ModelConfig has no field 'd_modl' (did you mean 'd_model'?)"),
        ("objective.class", "CausalLN", "no config class 'CausalLN' (did you mean 'CausalLM'?)"),
        ("objective.class", ["CausalLM"], "no config class ['CausalLM']"),
        ("objective.class", "AdamW", "RunConfig.objective: AdamW does not go there"),
        ("objective.class", "Cosine", "RunConfig.objective: Cosine does not go there"),
        ("objective", 5, "RunConfig.objective: '5' is no value of that field"),
        ("optimizer.learning_rate", {"class": "CausalLM"}, "AdamW.learning_rate: CausalLM does not go there"),
        ("objective.from", {"module": "os", "sha256": "x"}, "needs CausalLM of a module: give --module=os"),
    ],
)
def test_other_things(key, value, message, tmp_path):
    plain = changed(to_plain(tiny.run_config("store")), key, value)
    (tmp_path / "config.json").write_text(json.dumps(plain))
    with pytest.raises(UserError) as caught:
        read_config(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'config.json'}") and message in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "5", "{", '{"a": ' * 400 + "1" + "}" * 400, "[" * 100_000, "\x00"])
def test_no_config_at_all(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    for read in (read_config, check_modules):
        if read is check_modules and text.startswith('{"a"'):
            continue
        with pytest.raises(UserError) as caught:
            read(tmp_path)
        assert str(caught.value).startswith(str(tmp_path)) and len(str(caught.value)) < 400
    with pytest.raises(UserError, match="no such run folder"):
        read_config(tmp_path / "none")


@pytest.mark.parametrize("error", [ValueError("no such\nrate"), KeyError("b3"), ZeroDivisionError()])
def test_a_class_of_ones_own_may_raise_anything(error, tmp_path):
    config = tiny.run_config("store")

    @dataclasses.dataclass(frozen=True)
    class Touchy(type(config.optimizer)):
        def __post_init__(self):
            raise error

    folder = written(tmp_path, config)
    with pytest.raises(UserError, match=r"config\.json: Touchy: (no such|'b3'|ZeroDivisionError)$"):
        read_config(folder, config_classes() | {type(config.optimizer).__name__: Touchy})


def test_gin_and_runs_know_the_same_schedules():
    known = gin_files.configurables()
    assert SCHEDULES.items() <= config_classes().items() <= known.items()
