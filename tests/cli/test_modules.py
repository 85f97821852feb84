"""`--module`: classes of a user's own in every verb, on runs and exports; what is said where the module is missing."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import triarch
from tests.training import tiny
from triarch import registry
from triarch.cli import modules
from triarch.cli.gin import files as gin_files
from triarch.cli.main import main
from triarch.errors import UserError
from triarch.objectives import CausalLM, SpecialTokens

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
OWN = [
    *("--gin.RunConfig.objective=@LastTokens()", "--gin.LastTokens.share=0.25"),
    *("--gin.RunConfig.optimizer=@Lion()", "--gin.Lion.learning_rate=@Halving()"),
    *("--gin.Halving.peak=1e-3", "--gin.Halving.every=4"),
]


@pytest.fixture(autouse=True)
def forget():
    """Each test begins and ends as a process without modules."""
    as_new_process()
    yield
    as_new_process()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store, a run described in gin, and the examples of the documentation as a module."""
    folder = tmp_path_factory.mktemp("modules")
    store = tiny.write_store(folder / "store")
    (folder / "run.gin").write_text(gin_files.render(tiny.run_config(store)))
    (folder / "documented.py").write_text("\n\n".join(EXAMPLES))
    return folder


@pytest.fixture(scope="module")
def run(folder):
    """A run under all three of the documented classes, trained with the module and then without it."""
    train = ["train", f"--gin_file={folder / 'run.gin'}", *OWN, f"--workdir={folder / 'run'}"]
    assert main([*train, f"--module={folder / 'documented.py'}"]) == 0
    return folder / "run"


def error_of(capsys, *argv):
    assert main([str(argument) for argument in argv]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and len(error) < 500, error
    return error


def as_new_process():
    sys.path[:] = [folder for folder in sys.path if "pytest-of-" not in folder]
    registry._REGISTERED.clear()
    registry._say_changed.cache_clear()
    modules._FROM_FILES.clear()
    for name in {"documented", "entry", "own_package", "own_package.schedules", "objectives", *SOURCES}:
        sys.modules.pop(name, None)


def test_a_run_of_own_classes(run, folder, capsys):
    as_new_process()
    module, store = f"--module={folder / 'documented.py'}", folder / "store"
    config = json.loads((run / "config.json").read_text())
    assert (config["objective"]["class"], config["objective"]["share"]) == ("LastTokens", 0.25)
    origin = {"module": "documented", "sha256": modules.sha256(folder / "documented.py")}
    assert config["objective"]["from"] == config["optimizer"]["from"] == origin
    rates = [json.loads(line)["learning_rate"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert np.allclose(rates, [1e-3 * 0.5 ** (step // 4) for step in range(12)], rtol=1e-6)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["scored_tokens"] == 12 * 8 * 4

    evaluate = ["evaluate", f"--model={run}", f"--in_domain={store}", "--scoring=native", "--max_windows=4"]
    assert error_of(capsys, *evaluate).endswith(
        f"error: {run} needs LastTokens of a module: give --module=documented, or the path of its file\n"
    )
    assert main([*evaluate, module, f"--json={folder / 'of_run.json'}"]) == 0
    as_new_process()
    with pytest.raises(UserError, match="needs LastTokens of a module"):
        triarch.load(run)
    native = json.loads((folder / "of_run.json").read_text())["evaluations"][0]
    assert native["num_tokens"] == 4 * 4
    export = folder / "export"
    assert main(["export", f"--workdir={run}", f"--output={export}", module]) == 0
    capsys.readouterr()
    as_new_process()
    of_export = ["evaluate", f"--model={export}", *evaluate[2:]]
    assert f"{export} needs LastTokens of a module" in error_of(capsys, *of_export)
    assert main([*of_export, module, f"--json={folder / 'of_export.json'}"]) == 0
    again = json.loads((folder / "of_export.json").read_text())["evaluations"][0]
    assert again["nats_per_token"] == native["nats_per_token"]


def test_going_on_and_describing(run, folder, capsys):
    as_new_process()
    train = ["train", f"--gin_file={folder / 'run.gin'}", *OWN, f"--workdir={run}"]
    assert f"{run} needs LastTokens of a module: give --module=documented" in error_of(capsys, *train)
    from_run = ["describe", f"--gin_file={run / 'config.gin'}"]
    assert "no config class 'LastTokens'" in error_of(capsys, *from_run)
    changed = folder / "changed" / "documented.py"
    changed.parent.mkdir(exist_ok=True)
    changed.write_text((folder / "documented.py").read_text() + "# A remark.\n")
    assert main([*from_run, f"--module={folder / 'documented.py'}"]) == 0
    as_new_process()
    capsys.readouterr()
    before = (run / "config.json").read_text()
    assert main([*train, f"--module={changed}"]) == 0
    said = capsys.readouterr().err
    assert f"triarch: {run}: the module documented has changed since LastTokens was recorded" in said
    (run / "config.json").write_text(before)


def test_keys_of_own_classes(folder, capsys):
    assert main(["describe", "--keys", "LastTokens", f"--module={folder / 'documented.py'}"]) == 0
    assert "LastTokens.share  = 0.5  (a number)\n      of the window's tokens" in capsys.readouterr().out
    assert main(["describe", "--keys", "RunConfig"]) == 0
    assert "@LastTokens()" in capsys.readouterr().out


def test_the_documented_objective_scores_the_end(folder):
    modules.import_modules([str(folder / "documented.py")])
    objective = registry.registered("objective")["LastTokens"](0.25)
    special = SpecialTokens(0, 1, 2, 3)
    example = {"tokens": np.arange(4, 20, dtype=np.int32)}
    made, causal = (
        own.transform("decoder-only", special, 32, 16)(example, np.random.default_rng(0))
        for own in (objective, CausalLM())
    )
    assert made["decoder_loss_weights"].tolist() == [0.0] * 12 + [1.0] * 4
    assert all(np.array_equal(made[name], causal[name]) for name in causal if name != "decoder_loss_weights")


SOURCES = {
    "raises": ("x = 1\nraise ValueError('no\\nluck')\n", r"raises.py line 2: ValueError: no luck$"),
    "syntax": ("x = (\n", r"syntax.py line 1: SyntaxError: '\(' was never closed$"),
    "leaves": ("import sys\nsys.exit(3)\n", r"leaves.py line 2: SystemExit: 3$"),
    "needs": ("import not_there_at_all\n", r"needs.py line 1: ModuleNotFoundError: No module named"),
    "calls": (
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n  def __post_init__(self): int('x')\n\nA()\n",
        r"calls.py line 4: ValueError: invalid literal for int\(\) with base 10: 'x'$",
    ),
    "library": ("import json\njson.loads('{')\n", r"library.py line 2: JSONDecodeError: Expecting"),
    "plain": ("import triarch\n@triarch.register_objective\nclass A: pass\n", "plain.A: expected a frozen dataclass"),
    "lacks": (
        "import dataclasses, triarch\n@triarch.register_schedule\n@dataclasses.dataclass(frozen=True)\n"
        "class A:\n  peak_rate = 1\n",
        "lacks.A: for a class of kind schedule it lacks __call__, validate",
    ),
    "older": (
        "import dataclasses, triarch\n@triarch.register_optimizer\n@dataclasses.dataclass(frozen=True)\n"
        "class A:\n  learning_rate = max_grad_norm = validate = None\n"
        "  def transformation(self, learning_rate): pass\n",
        r"older.A.transformation: expected the arguments \(self, learning_rate, specs\)$",
    ),
    "taken": (
        "import triarch\nfrom triarch.objectives import CausalLM as Own\n"
        "triarch.register_objective(type('PrefixLM', (Own,), {}))\n",
        "PrefixLM: triarch has a class of that name: choose another",
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_modules_that_fail(name, tmp_path, capsys, monkeypatch):
    source, message = SOURCES[name]
    (tmp_path / f"{name}.py").write_text(source)
    error = error_of(capsys, "describe", "--keys", "RunConfig", f"--module={tmp_path / name}.py")
    assert re.search(message, error.strip()), error
    monkeypatch.chdir(tmp_path)
    assert re.search(message, error_of(capsys, "describe", "--keys", "RunConfig", f"--module={name}").strip())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("objectves", "--module=objectves: no such module on PYTHONPATH or in the current folder (did you mean 'objec"),
        ("objectves.py", "--module=objectves.py: no such .py file (did you mean 'objectives.py'?)"),
        ("a b", "--module=a b: expected a dotted name"),
        ("", "--module=: expected a value"),
        ("./json.py", "--module=./json.py: another Python module is called 'json': rename the file"),
        ("objectives.missing", "--module=objectives.missing: "),
    ],
)
def test_modules_that_are_not_there(name, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in ("objectives.py", "json.py"):
        (tmp_path / file).write_text("")
    assert message in error_of(capsys, "describe", "--keys", "RunConfig", f"--module={name}")


def test_a_module_beside_its_parts_and_by_dotted_name(tmp_path, monkeypatch):
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "schedules.py").write_text(EXAMPLES[2])
    (tmp_path / "entry.py").write_text("from own_package import schedules\n")
    modules.import_modules([str(tmp_path / "entry.py")])
    assert registry.origin(registry.registered()["Halving"])["module"] == "own_package.schedules"
    modules.import_modules([str(tmp_path / "entry.py")])  # Imported once.


def test_a_mixer_of_a_module_is_chosen_in_gin(folder):
    modules.import_modules([str(folder / "documented.py")])
    flags = ["ModelConfig.mixer=@Fading()", "Fading.rate=0.5", "ModelConfig.attention_layers=(1,)"]
    gin_files.parse([str(folder / "run.gin")], flags)
    model = gin_files.build("RunConfig").model
    model.validate()
    names = [spec.mixer.name for spec in model.layer_specs("decoder")]
    assert model.mixer.rate == 0.5 and names == ["fading", "attention", "fading"]


@pytest.mark.slow
def test_tasks_of_a_module_can_be_prepared(tmp_path, capsys):
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": f"words {n}"}) + "\n" for n in range(400)))
    (tmp_path / "own_tasks.py").write_text(
        "from triarch.prepare.corpora.files import Files\nfrom triarch.tasks.registry import corpus_task\n"
        "from triarch.tokenizers import ByteTokenizer\nfrom triarch.tasks.vocabularies import seqio_vocabulary\n"
        f"corpus_task('own_text', Files(({str(tmp_path / 'text.jsonl')!r},)), seqio_vocabulary(ByteTokenizer()))\n"
    )
    prepare = ["prepare", "--task=own_text", f"--output={tmp_path / 'store'}", "--window=16", "--vocabulary=bytes"]
    assert main([*prepare, f"--module={tmp_path / 'own_tasks.py'}"]) == 0
    assert json.loads((tmp_path / "store" / "manifest.json").read_text())["task"] == "own_text"


def test_nothing_is_imported_unless_it_is_named(folder, tmp_path, monkeypatch, capsys):
    """A study that asks for a module, in the folder where it lies."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil_part.py").write_text("open('ran', 'w').close()\n")
    study = (Path(__file__).parents[2] / "experiments/isoflop_laptop/study.gin").absolute()
    (tmp_path / "study.gin").write_text(f"include '{study}'\nStudy.modules = ('evil_part.py',)\n")
    for verb in (["sweep", "--study=study.gin", "--output=out"], ["describe", "--gin_file=study.gin"]):
        error = error_of(capsys, *verb)
        assert "Study.modules asks for evil_part.py; a gin file imports nothing by itself: give --module=evil" in error
    assert not (tmp_path / "ran").exists() and not (tmp_path / "out").exists()
