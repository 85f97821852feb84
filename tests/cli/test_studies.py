"""Studies as files: whatever their folder is called, with sizes and settings beside them, modules and flags."""

import json
import shlex

import pytest

from triarch.cli.gin.statements import read_flag
from triarch.cli.main import main
from triarch.cli.studies import load_study
from triarch.errors import UserError
from triarch.sweeps.stages import run_stages

STUDY = """
Study.title = 'T'
Study.question = 'Q?'
Study.families = ('decllm',)
Study.labels = ('DecLLM',)
Study.sizes = ('nano', '150m')
Study.settings = 'settings.gin'
Study.window = 16
Study.corpora = (@Corpus(),)
Corpus.task = 'stdlib_code'
"""
SETTINGS = "RunConfig.steps = 3\nRunConfig.batch_size = 2\nDataConfig.window = 16\nCosine.warmup_steps = 1\n"
NANO = """
ModelConfig:
  vocab_size = 300
  d_model = 16
  d_ff = 32
  num_heads = 2
  head_dim = 8
  num_decoder_layers = 1
"""


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "studies"
    (folder / "decllm").mkdir(parents=True)
    (folder / "study.gin").write_text(STUDY)
    (folder / "settings.gin").write_text(SETTINGS)
    (folder / "decllm" / "nano.gin").write_text(NANO)
    return folder / "study.gin"


@pytest.mark.parametrize(
    "name",
    ["my study", "a+b@c", "größe", "2024", "9e9", "True", "None", "it's", '"', "#1", "%x", "@x", "(", "a\\b", "a,b"],
)
def test_any_name_reaches_every_command(name, study, tmp_path):
    loaded, runs = load_study([str(study)], [])
    output = tmp_path / name
    train = run_stages(loaded, runs[0], output)[0]
    bindings = [read_flag(word.removeprefix("--gin.")) for word in train.arguments if word.startswith("--gin.")]
    values = {binding.key: binding.value for binding in bindings}
    assert values["DataConfig.store"] == str(output / "stores" / "stdlib_code")
    assert values["RunConfig.compilation_cache"] == str(output / "compilation_cache")
    assert shlex.split(train.command) == ["triarch", *train.arguments]


def test_sizes_and_settings_beside_the_study(study):
    _, (nano, published) = load_study([str(study)], [])
    assert (nano.name, nano.config.model.d_model, nano.config.steps) == ("decllm_nano", 16, 3)
    assert nano.gin_files == (
        "runs/decllm.gin",
        str(study.parent / "decllm/nano.gin"),
        str(study.parent / "settings.gin"),
    )
    assert published.gin_files[1] == "models/decllm/150m.gin"


def test_flags_and_modules_of_a_sweep(study, tmp_path, capsys):
    commands = tmp_path / "commands.sh"
    (tmp_path / "mine.py").write_text("")
    sweep = ["sweep", f"--study={study}", f"--output={tmp_path / 'out'}", f"--commands={commands}"]
    module = f"--module={tmp_path / 'mine.py'}"
    assert main([*sweep, "--gin.Study.sizes=('nano',)", "--gin.Study.seeds=(1, 2)", module]) == 0
    lines = commands.read_text().splitlines()
    assert [sum(f"decllm_nano_s{seed}" in line for line in lines) for seed in (1, 2)] == [1, 1]
    words = [shlex.split(command) for line in lines for command in line.split(" && ")]
    assert [command[1] for command in words] == ["prepare", *["train", "evaluate", "export"] * 2]
    assert all(module in command for command in words)
    for flag, message in {
        "--gin.Study.szes=1": "Study has no field 'szes' (did you mean 'sizes'?)",
        "--gin.RunConfig.steps=5": "RunConfig.steps has no effect",
        "--gin.seeds=(1,)": "seeds names no config class (did you mean 'Study.seeds'",
    }.items():
        capsys.readouterr()
        assert main([*sweep, flag]) == 1
        assert message in capsys.readouterr().err


def test_settings_without_effect_on_any_run(study, capsys):
    """A line for what serves no family; none for what serves one of them."""
    settings = study.parent / "settings.gin"
    settings.write_text(SETTINGS + "Rsqrt.base = 2.0\nStableAdamW.weight_decay = 0.1\n")
    load_study([str(study)], [])
    assert capsys.readouterr().err == (
        f"triarch: {settings} line 5: Rsqrt.base has no effect: nothing here is @Rsqrt() (refer to it with @Rsqrt()); "
        "and 1 more without effect\n"
    )
    settings.write_text(SETTINGS + "PrefixLM.split = 'uniform'\n")
    flags = ["Study.families=('decllm', 'redllm')", "Study.labels=('D', 'R')", "Study.sizes=('150m',)"]
    load_study([str(study)], flags)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_a_sweep_in_a_folder_of_any_name_with_a_module(study, tmp_path):
    """By worker processes, which take the module up too."""
    (tmp_path / "mine.py").write_text(
        "import dataclasses, triarch\nfrom triarch.objectives import CausalLM\n@triarch.register_objective\n"
        "@dataclasses.dataclass(frozen=True)\nclass MyLM(CausalLM):\n    name = 'my_lm'\n"
    )
    (study.parent / "settings.gin").write_text(SETTINGS + "RunConfig.objective = @MyLM()\n")
    study.write_text(STUDY + "Study.modules = ('mine.py',)\nStudy.vocabulary = 'bytes'\nStudy.max_windows = 2\n")
    output = tmp_path / "2 größen+@x's"
    sweep = ["sweep", f"--study={study}", f"--output={output}", "--gin.Study.sizes=('nano',)"]
    assert main([*sweep, f"--module={tmp_path / 'mine.py'}"]) == 0
    config = json.loads((output / "runs" / "decllm_nano" / "config.json").read_text())
    assert config["objective"]["from"]["module"] == "mine"


@pytest.mark.parametrize("name", ["a" * 300 + ".gin", "a/" * 3000 + "b.gin"])
def test_settings_of_a_name_that_no_file_has(name, study):
    with pytest.raises(UserError, match=r"no gin file a"):
        load_study([str(study)], [f"Study.settings={name!r}"])
