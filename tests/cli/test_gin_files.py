"""gin files and flags: the published sizes, the round trip to text, and one line for every mistake."""

import argparse
import dataclasses
import os
from pathlib import Path

import pytest

from triarch.cli.gin import files as gin_files
from triarch.cli.verbs.describe import describe
from triarch.errors import UserError
from triarch.objectives import (
    MNTP,
    T5GEMMA2,
    UL2,
    CausalLM,
    Classify,
    Contrast,
    MarginMSE,
    MaskedLM,
    Mixture,
    PrefixLM,
    SpanCorruption,
    Supervised,
)

GOLDEN = Path(__file__).parent / "golden"

# Parameters: arXiv 2510.26622, figure 2 (RedLLM, DecLLM; gains of norms neither counted there nor learned here), and
# the released checkpoints of arXiv 2507.11412 with their heads (Ettin; encoder and decoder have one shape).
PUBLISHED = {
    "decllm/150m": 167_772_160,
    "decllm/1b": 1_140_850_688,
    "decllm/2b": 2_181_038_080,
    "decllm/4b": 3_724_541_952,
    "decllm/8b": 8_724_152_320,
    "redllm/150m": 146_800_640,
    "redllm/1b": 1_124_073_472,
    "redllm/2b": 2_207_252_480,
    "redllm/4b": 3_498_049_536,
    "redllm/8b": 8_589_934_592,
    **{
        f"ettin_{side}/{size}": count
        for side in ("encoder", "decoder")
        for size, count in {
            "17m": 16_913_600,
            "32m": 32_081_344,
            "68m": 68_457_664,
            "150m": 149_655_232,
            "400m": 395_881_664,
            "1b": 1_031_314_112,
        }.items()
    },
}
# Forward FLOPs of a sequence of 2048 tokens, to the four digits that the plotted totals (x 400,000 x 2048) resolve.
PAPER_FLOPS = {
    "decllm/150m": 9.62e11,
    "decllm/1b": 5.50e12,
    "decllm/2b": 1.014e13,
    "decllm/4b": 1.690e13,
    "decllm/8b": 3.848e13,
    "redllm/150m": 4.77e11,
    "redllm/1b": 2.76e12,
    "redllm/2b": 5.15e12,
    "redllm/4b": 7.96e12,
    "redllm/8b": 1.886e13,
}


def load(*files, bindings=()):
    return gin_files.load_run(argparse.Namespace(gin_file=list(files), gin_bindings=list(bindings)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name):
    described = describe(load(f"models/{name}.gin")[0])
    assert described["num_params"] == PUBLISHED[name]
    # The state as it would really be allocated, float32.
    assert described["memory_bytes"]["parameters"] == 4 * PUBLISHED[name]
    if name in PAPER_FLOPS:
        assert described["flops_per_sequence"]["paper"] == pytest.approx(PAPER_FLOPS[name], rel=2e-3)


def test_a_model_file_alone_takes_its_familys_recipe():
    config, _ = load("models/redllm/1b.gin")
    assert (config.steps, config.batch_size, config.data.window) == (400_000, 2048, 2048)
    assert config.objective.name == "prefix_lm"
    assert float(config.optimizer.learning_rate(2000, config.steps)) == pytest.approx(0.01)
    assert float(config.optimizer.learning_rate(400_000, config.steps)) == pytest.approx(0.001)


def test_ettin_recipe_follows_the_size():
    small, _ = load("models/ettin_encoder/17m.gin")
    large, _ = load("models/ettin_encoder/1b.gin")
    assert (small.optimizer.learning_rate.peak, large.optimizer.learning_rate.peak) == (3e-3, 5e-4)
    assert (small.optimizer.weight_decay, large.optimizer.weight_decay) == (3e-4, 5e-5)


@pytest.mark.parametrize("name", ["redllm/8b", "decllm/8b", "ettin_encoder/150m", "ettin_decoder/150m"])
def test_resolved_config_is_what_it_was(name):
    """A changed default shows up here: look at the difference, then run with UPDATE_GOLDEN=1 to accept it."""
    _, text = load(f"models/{name}.gin")
    golden = GOLDEN / f"{name.replace('/', '_')}.gin"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_text_builds_the_same_config(tmp_path):
    config, text = load("models/ettin_decoder/68m.gin", bindings=["RunConfig.seed=7", "Execution.remat=full"])
    assert (config.seed, config.execution.remat) == (7, "full")
    (tmp_path / "config.gin").write_text(text)
    again, text_again = load(str(tmp_path / "config.gin"))
    assert again == config
    assert text_again == text


@pytest.mark.parametrize("name", ["ul2", "t5gemma2"])
def test_text_names_many_values_of_one_class(tmp_path, name):
    config, text = load("models/redllm/150m.gin", "runs/redllm.gin", f"objectives/{name}.gin")
    assert config.objective == {"ul2": UL2, "t5gemma2": T5GEMMA2}[name]
    (tmp_path / "config.gin").write_text(text)
    again, text_again = load(str(tmp_path / "config.gin"))
    assert again == config
    assert text_again == text


def test_text_of_values_within_values(tmp_path):
    config, _ = load("models/decllm/150m.gin")
    inner = Mixture((PrefixLM(0.25), CausalLM()), (1.0, 2.0))
    config = dataclasses.replace(config, objective=Mixture((inner, PrefixLM(0.75), PrefixLM(0.25)), (1.0, 1.0, 3.0)))
    (tmp_path / "config.gin").write_text(gin_files.render(config))
    assert load(str(tmp_path / "config.gin"))[0] == config


OBJECTIVE_FILES = {
    "causal_lm": CausalLM(),
    "classify": Classify(),
    "contrast": Contrast(64, 256, 1, chunk=64),
    "margin_mse": MarginMSE(64, 256, 1),
    "masked_lm": MaskedLM(0.3),
    "mntp": MNTP(0.15),
    "prefix_lm": PrefixLM(0.5),
    "prefix_lm_t5": PrefixLM(split="uniform", append_eos=True),
    "span_corruption": SpanCorruption(0.15, 3.0),
    "supervised": Supervised(2048, 512),
    "t5gemma2": T5GEMMA2,
    "ul2": UL2,
}


def test_every_objective_has_a_file():
    folder = gin_files.config_folder() / "objectives"
    assert sorted(OBJECTIVE_FILES) == sorted(path.stem for path in folder.glob("*.gin"))


@pytest.mark.parametrize("name", OBJECTIVE_FILES)
def test_objectives_by_file(name):
    """In place of a recipe's own, for a model of an architecture that it trains."""
    family = {"masked_lm": "ettin_encoder", "mntp": "ettin_encoder", "causal_lm": "decllm"}.get(name, "redllm")
    files = (f"runs/{family}.gin", f"models/{family}/150m.gin", f"objectives/{name}.gin")
    bindings = ["Constant.peak=0.1", "StableAdamW.weight_decay=0.0"] if family == "ettin_encoder" else []
    config, _ = load(*files, bindings=bindings)
    assert config.objective == OBJECTIVE_FILES[name]
    described = describe(config)
    assert described["scored_tokens_per_sequence"] > 0
    if family == "redllm":
        on_decoder, _ = load("runs/decllm.gin", "models/decllm/150m.gin", f"objectives/{name}.gin")
        assert on_decoder.objective == config.objective
        assert describe(on_decoder)["scored_tokens_per_sequence"] == described["scored_tokens_per_sequence"]


@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        (["ModelConfig.d_modl=8"], "--gin flags: ModelConfig has no field 'd_modl' (did you mean 'd_model'?)"),
        (["ModlConfig.d_model=8"], "--gin flags: no config class 'ModlConfig' (did you mean 'ModelConfig'?)"),
        (["ModelConfig.d_model=8.5"], "ModelConfig.d_model = 8.5: expected a whole number from 1 to 262,144"),
        (["ModelConfig.d_model=wide"], "ModelConfig.d_model = 'wide': expected a whole number from 1 to 262,144"),
        (["RunConfig.objective=@PrefixLM()"], None),
        (
            ["RunConfig.objective=@PrefxLM()"],
            "--gin flags: no config class 'PrefxLM' (did you mean 'PrefixLM'?)",
        ),
        (["RunConfig.seed"], "--gin.RunConfig.seed: expected --gin.NAME=VALUE"),
    ],
)
def test_mistakes_in_flags(bindings, message):
    if message is None:
        load("models/decllm/1b.gin", bindings=bindings)
        return
    with pytest.raises(UserError) as caught:
        load("models/decllm/1b.gin", bindings=bindings)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "ModelConfig.d_model = 8\nModelConfig.dff = 8\n",
            "{file} line 2: ModelConfig has no field 'dff' (did you mean",
        ),
        ("\nModelConfig.d_model = \n", "{file} line 2: Unable to parse value. 'ModelConfig.d_model ='"),
        ("include 'models/redllm/famly.gin'\n", "{file} line 1: no gin file models/redllm/famly.gin (did you mean"),
        ("ModelConfig.d_model = 8\n", "{file}: sets no RunConfig.model, and is no model file with a recipe"),
        ("RunConfig.model = @ModelConfig()\n", "no value for "),
    ],
)
def test_mistakes_in_files(tmp_path, text, message):
    file = tmp_path / "mine.gin"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        load(str(file))
    assert str(caught.value).startswith(message.format(file=file))
    assert "\n" not in str(caught.value)


def test_missing_file():
    with pytest.raises(UserError, match=r"no gin file models/redllm/9b\.gin \(did you mean 'models/redllm/"):
        load("models/redllm/9b.gin")
    for name in ("", "x" * 5000, "a\0b", "\u00fc"):
        with pytest.raises(UserError, match="no gin file") as caught:
            load(name)
        assert len(str(caught.value)) < 300
    for name in (".", "/dev/null"):
        with pytest.raises(UserError, match="is no regular file, expected a gin file"):
            load(name)


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("steps=7", "steps names no config class (did you mean 'RunConfig.steps' or 'Phase.steps' or 'Size.steps'?)"),
        (
            "batch_size=2",
            "batch_size names no config class (did you mean 'RunConfig.batch_size' or 'Phase.batch_size' or "
            "'Size.batch_size'?)",
        ),
        ("peak=2", "peak names no config class (did you mean 'Constant.peak' or 'Cosine.peak' or 'Trapezoid.peak'?)"),
        ("RunConfig=3", "RunConfig names no field: expected RunConfig.FIELD = VALUE"),
        ("stepz=7", "stepz names no config class, and no %stepz refers to it (did you mean 'steps'?)"),
        (
            "a/steps=7",
            "a/steps names no config class (did you mean 'RunConfig.steps' or 'Phase.steps' or 'Size.steps'?)",
        ),
        ("TRAIN_STEPS=7", "TRAIN_STEPS is T5X's, and nothing here uses it; set RunConfig.steps"),
        ("MIXTURE_OR_TASK_MODULE='a.b'", "MIXTURE_OR_TASK_MODULE is T5X's, and nothing here uses it; give --module"),
        ("train.train_steps=7", "no config class 'train' (set RunConfig.steps, RunConfig.eval_every and --workdir)"),
        ("utils.DatasetConfig.batch_size=7", "no config class 'utils.DatasetConfig' (set RunConfig.batch_size"),
        ("RunConfig.steps=%STEPZ", "no macro %STEPZ"),
    ],
)
def test_bindings_without_their_class(binding, message, tmp_path):
    with pytest.raises(UserError) as caught:
        load("models/decllm/150m.gin", bindings=[binding])
    assert str(caught.value).startswith(f"--gin flags: {message}")
    if binding.startswith("stepz"):
        return  # A macro in a file may serve other files.
    file = tmp_path / "mine.gin"
    file.write_text(binding.replace("=", " = "))
    with pytest.raises(UserError) as caught:
        load("runs/decllm.gin", "models/decllm/150m.gin", str(file))
    assert str(caught.value).startswith(f"{file} line 1: {message}")


def test_macros_and_scopes(tmp_path):
    """As gin has them: the last value of a macro holds, an inner scope sees the outer one's bindings, not its own."""
    (tmp_path / "mine.gin").write_text(
        "STEPS = 7\nLOG = 3\nWEIGHTS = (1.0, %W)\nW = 2.0\n"
        "RunConfig.steps = %STEPS\nRunConfig.seed = %STEPS\nRunConfig.log_every = %LOG\n"
        "RunConfig.objective = @Mixture()\nMixture.objectives = (@a/PrefixLM(), @triarch.PrefixLM())\n"
        "Mixture.weights = %WEIGHTS\nPrefixLM.split = 'uniform'\nPrefixLM.append_eos = True\n"
        "a/PrefixLM:\n  append_eos = False\n\n"
    )
    config, _ = load("runs/decllm.gin", "models/decllm/150m.gin", str(tmp_path / "mine.gin"), bindings=["STEPS=2000"])
    assert (config.steps, config.seed, config.log_every) == (2000, 2000, 3)
    parts = (PrefixLM(split="uniform"), PrefixLM(split="uniform", append_eos=True))
    assert config.objective == Mixture(parts, (1.0, 2.0))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("runs/a", "runs/a"),
        ("my study/a", "my study/a"),
        ("2024_runs/a+b@c", "2024_runs/a+b@c"),
        ("üben", "üben"),
        ("a#b", "a#b"),
        ("gs://bucket/x", "gs://bucket/x"),
        ("'5'", "5"),
        ('"it\'s"', "it's"),
        ("None", None),
        ("~/x", "~/x"),
        ("-", "-"),
        ("a, b", "a, b"),
    ],
)
def test_text_in_flags(text, value):
    config, _ = load("models/decllm/150m.gin", bindings=[f"DataConfig.store={text}"])
    assert config.data.store == value


def test_infinity_is_no_number_of_a_config():
    """A run's config.json could not say it, and nobody could resume the run."""
    with pytest.raises(UserError, match=r"RunConfig.z_loss = inf: expected a number"):
        load("models/decllm/150m.gin", bindings=["RunConfig.z_loss=1e999"])


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("Constant.warmup_steps=9", "Constant.warmup_steps has no effect: nothing here is @Constant() "
         "(did you mean 'Cosine.warmup_steps'?)"),
        ("AdamW.beta1=0.5", "AdamW.beta1 has no effect: nothing here is @AdamW() (refer to it with @AdamW())"),
        ("b/Cosine.peak=0.5", "b/Cosine.peak has no effect: nothing here is @b/Cosine() (did you mean 'Cosine.peak'?)"),
        ("Study.title=x", "Study.title has no effect"),
    ],
)  # fmt: skip
def test_bindings_without_effect(binding, message, tmp_path, capsys):
    with pytest.raises(UserError) as caught:
        load("models/decllm/150m.gin", bindings=[binding])
    assert str(caught.value).startswith(f"--gin flags: {message}")
    file = tmp_path / "mine.gin"
    name, value = binding.split("=")
    file.write_text(f"{name} = {value if value[0].isdigit() else repr(value)}\n")
    load("runs/decllm.gin", "models/decllm/150m.gin", str(file))
    assert capsys.readouterr().err.startswith(f"triarch: {file} line 1: {message}")


def test_recipes_and_scopes_in_use_are_not_remarked_on(tmp_path, capsys):
    """A recipe's own bindings are quietly overridden; of the user's, a scope counts where it is referred to."""
    file = tmp_path / "mine.gin"
    file.write_text(
        "include 'optimizers/ettin.gin'\nRunConfig.objective = @a/PrefixLM()\na/PrefixLM.split = 'uniform'\n"
        "RunConfig.optimizer = @AdamW()\nAdamW.learning_rate = @Constant()\nConstant.peak = 0.5\n"
    )
    load("runs/decllm.gin", "models/decllm/150m.gin", str(file))
    assert capsys.readouterr().err == ""
