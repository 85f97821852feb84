"""gin files of strangers: nothing in them runs, reads other files or fills the memory, and each gets one short line."""

import random
import shutil

import pytest

from tests.interchange.exports import network
from tests.training import tiny
from triarch.cli.gin import files as gin_files
from triarch.cli.gin.files import config_folder
from triarch.cli.main import main
from triarch.errors import UserError
from triarch.interchange import Origin, write_export
from triarch.prepare.corpora.files import Files
from triarch.prepare.pipeline import VocabularyChoice, prepare
from triarch.training.record.fingerprint import write_folder

IMPORTS = "import statements are not allowed in gin files; name modules with --module=MODULE"
# What each tries to run writes the file "ran" beside it; "{ran}" is its path.
ATTACKS = {
    "dynamic": "from __gin__ import dynamic_registration\nimport subprocess\nRunConfig.seed = @subprocess.getoutput()\n"
    "subprocess.getoutput.cmd = 'touch {ran}'\n",
    "import": "\nimport evil\n",
    "from": "from evil import thing\n",
    "import as": "import os.path as path\n",
    "in a block": "RunConfig:\n  seed = 1\nimport evil\n",
    "builtin": "RunConfig.seed = @gin.singleton()\ngin.singleton.constructor = @CausalLM\n",
    "constant": "RunConfig.seed = %gin.REQUIRED\n",
    "call": "RunConfig.seed = @os.system()\n",
    "expression": "RunConfig.seed = __import__('os').system('touch {ran}')\n",
    "include of a secret": "include '{secret}'\n",
    "include above": "include '../secret.gin'\n",
    "include of itself": "include 'mine.gin'\n",
    "loop": "RunConfig.objective = @Mixture()\nMixture.objectives = (@Mixture(),)\nMixture.weights = (1.0,)\n",
    "macro loop": "RunConfig.seed = %a\na = %b\nb = %a\n",
    "doubling": "RunConfig.seed = %m60\nm0 = (1, 1)\n"
    + "".join(f"m{i} = (%m{i - 1}, %m{i - 1})\n" for i in range(1, 61)),
    "doubling references": "RunConfig.objective = @s30/Mixture()\n"
    + "".join(f"s{i}/Mixture.objectives = (@s{i - 1}/Mixture(), @s{i - 1}/Mixture())\n" for i in range(1, 31))
    + "s0/Mixture.objectives = (@CausalLM(),)\nMixture.weights = (1.0,)\n",
    "nested": f"RunConfig.seed = {'(' * 5000}1{')' * 5000}\n",
    "open bracket": "RunConfig.seed = (1,\n",
    "long": f"RunConfig.seed = {'9' * 5000}\n",
    "long name": f"RunConfig.{'x' * 5000} = 1\n",
    "long class": f"{'X' * 5000}.x = 1\n",
    "long value": f"RunConfig.seed = '{'x' * 5000}'\n",
    "nul": "RunConfig.seed = 1\0\n",
    "huge": "# " + "x" * (1 << 21),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny.write_store(tmp_path_factory.mktemp("gin") / "store")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder as training begins it, on a store that knows its documents."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text("\n".join(f"line {number}" for number in range(40)))
    corpus = Files((str(folder / "text.txt"),))
    store = prepare(corpus, "text", folder / "store", VocabularyChoice("bytes"), tiny.WINDOW, 0, 1)
    model = tiny.model("decoder-only", vocab_size=260)
    config = tiny.run_config(folder / "store", model=model, steps=12, batch_size=1)
    write_folder(folder / "run", config, gin_files.render(config), [store])
    return folder / "run"


@pytest.fixture
def files(tmp_path):
    """A folder for one attack: `mine.gin` is to be written; beside and above it lies what it is after."""
    (tmp_path / "secret.gin").write_text("root:x:0:0\n")
    (tmp_path / "secret").write_text("root:x:0:0\n")
    folder = tmp_path / "from_a_stranger"
    folder.mkdir()
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w').close()\n")
    return folder


def attack(name, files):
    return ATTACKS[name].format(ran=files / "ran", secret=files.parent / "secret")


def one_short_line(capsys, *argv):
    """Runs a verb, which must fail in one line; returns the line."""
    assert main([str(argument) for argument in argv]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and len(error) < 700, error
    return error


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("file", ["mine.gin", "config.gin", "model.gin"])
def test_files_that_are_named(name, file, files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    (files / file).write_text(attack(name, files).replace("mine.gin", file))
    error = one_short_line(capsys, "describe", f"--gin_file={files / file}", "--gin_file=models/decllm/150m.gin",
                           "--gin_file=runs/decllm.gin", "--gin_file=" + file)  # fmt: skip
    assert file in error or "secret.gin" in error or "Mixture" in error or "RunConfig" in error
    assert "root:" not in error and not (files / "ran").exists()
    if "import" in name or name in ("dynamic", "from", "in a block"):
        line = ATTACKS[name].replace("from ", "import ").split("import ")[0].count("\n") + 1
        assert f"{file} line {line}: {IMPORTS}" in error


@pytest.mark.parametrize("name", ["dynamic", "import", "builtin", "include of a secret", "doubling", "nested"])
def test_every_verb_that_takes_gin(name, files, store, capsys):
    (files / "mine.gin").write_text(attack(name, files))
    mine = f"--gin_file={files / 'mine.gin'}"
    train = ["--gin_file=models/decllm/150m.gin", "--gin_file=runs/decllm.gin", mine]
    commands = [
        ("train", *train, f"--workdir={files / 'run'}"),
        ("describe", *train),
        ("order", *train, "--steps=0"),
        ("inspect", store, mine, "--architecture=decoder-only"),
        ("sweep", f"--study={files / 'mine.gin'}", f"--output={files / 'study'}"),
    ]
    for command in commands:
        if command[0] in ("sweep", "inspect") and name == "doubling":
            continue  # They build no run.
        one_short_line(capsys, *command)
        assert not (files / "ran").exists()
    assert not (files / "run").exists() and not (files / "study").exists()


@pytest.mark.parametrize("name", ATTACKS)
def test_the_gin_of_a_run_folder_is_not_read(name, run, files, tmp_path, capsys):
    folder = shutil.copytree(run, tmp_path / "run")
    assert main(["order", str(folder), "--steps=0"]) == 0
    expected = capsys.readouterr().out
    (folder / "config.gin").write_text(attack(name, files))
    assert main(["order", str(folder), "--steps=0"]) == 0
    assert capsys.readouterr().out == expected and not (files / "ran").exists()


def test_the_gin_of_an_export_is_not_read(tmp_path, store, files, capsys):
    model = network(tiny.model("decoder-only"))
    special = {"pad": 0, "bos": 1, "eos": 2, "mask": 3}
    vocabulary = {"kind": "bytes", "size": tiny.VOCABULARY, "fingerprint": "tiny", "special": special}
    write_export(tmp_path / "export", model, Origin({"class": "CausalLM"}, vocabulary, 1, {"run": "tiny"}))
    (tmp_path / "export" / "model.gin").write_text(attack("dynamic", files))
    command = ["evaluate", f"--model={tmp_path / 'export'}", f"--in_domain={store}", "--max_windows=2"]
    assert main(command) == 0, capsys.readouterr().err
    assert not (files / "ran").exists()


@pytest.mark.parametrize(
    "flag",
    [
        "RunConfig.seed=1\nimport evil",
        "import evil\nRunConfig.seed=1",
        "RunConfig.seed=@gin.singleton()",
        "RunConfig.seed=@subprocess.getoutput()",
        "RunConfig.seed=%gin.REQUIRED",
        "include 'x.gin'=1",
        "RunConfig.seed=(1,",
        f"RunConfig.seed={'9' * 5000}",
        f"RunConfig.seed={'(' * 5000}",
        f"{'x' * 5000}=1",
        "=1",
        "RunConfig.seed=",
    ],
)
def test_flags(flag, capsys, files, monkeypatch):
    monkeypatch.chdir(files)
    one_short_line(capsys, "describe", "--gin_file=models/decllm/150m.gin", f"--gin.{flag}")
    assert not (files / "ran").exists()


def test_includes_that_are_allowed(tmp_path, monkeypatch):
    """Beside the file and below gin_configs from any file; elsewhere from files that the user named."""
    for name, text in {
        "named/mine.gin": "include 'part.gin'\ninclude '../above.gin'\ninclude '{tmp}/named/part.gin'\n"
        "include 'objectives/prefix_lm.gin'\ninclude 'here.gin'\n",
        "named/part.gin": "include 'deeper/part.gin'\nRunConfig.steps = 3\n",
        "named/deeper/part.gin": "include 'objectives/causal_lm.gin'\nRunConfig.batch_size = 5\n",
        "above.gin": "RunConfig.seed = 7\n",
        "cwd/here.gin": "RunConfig.log_every = 9\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.format(tmp=tmp_path))
    monkeypatch.chdir(tmp_path / "cwd")
    gin_files.parse([str(tmp_path / "named" / "mine.gin")], [])
    bound = [gin_files.build_field(f"RunConfig.{name}") for name in ("steps", "batch_size", "seed", "log_every")]
    assert bound == [3, 5, 7, 9]
    assert gin_files.build_field("RunConfig.objective").name == "prefix_lm"


@pytest.mark.parametrize("name", ["../above.gin", "{tmp}/above.gin", "link.gin", "here.gin"])
def test_includes_that_an_included_file_may_not_make(name, tmp_path, monkeypatch):
    (tmp_path / "above.gin").write_text("RunConfig.seed = 7\n")
    folder = tmp_path / "named"
    folder.mkdir()
    (folder / "link.gin").symlink_to(tmp_path / "above.gin")
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / "here.gin").write_text("RunConfig.log_every = 9\n")
    monkeypatch.chdir(tmp_path / "cwd")
    (folder / "part.gin").write_text(f"include '{name.format(tmp=tmp_path)}'\n")
    (folder / "mine.gin").write_text("include 'part.gin'\n")
    with pytest.raises(UserError, match=r"part\.gin line 1: (include '.*' leaves its folder|no gin file)"):
        gin_files.parse([str(folder / "mine.gin")], [])


@pytest.mark.parametrize(("number", "message"), [(30, "more than 20 deep"), (2, "a loop of includes")])
def test_includes_without_end(number, message, tmp_path):
    for index in range(number):
        (tmp_path / f"{index}.gin").write_text(f"include '{(index + 1) % number}.gin'\n")
    with pytest.raises(UserError, match=message) as caught:
        gin_files.parse([str(tmp_path / "0.gin")], [])
    assert len(str(caught.value)) < 400


def test_includes_that_double(tmp_path):
    for index in range(15):
        (tmp_path / f"{index}.gin").write_text(f"include '{index + 1}.gin'\n" * 2)
    (tmp_path / "15.gin").write_text("RunConfig.seed = 1\n")
    with pytest.raises(UserError, match="includes more than 200 files"):
        gin_files.parse([str(tmp_path / "0.gin")], [])


def test_files_that_take_long(tmp_path):
    """Of 10,000 strings one behind the other gin's parser would make one in 20 s, in a file of 40 KB."""
    path = tmp_path / "mine.gin"
    for text in ("A.b = " + "'a' " * 10_000, "A.b = [\n" + "'a'  # A comment.\n" * 10_000 + "]\n"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"line \d+: More than 32 strings stand one behind the other\.") as caught:
            gin_files.parse([str(path)], [])
        assert len(str(caught.value)) < 400
    path.write_text("RunConfig.init_from = (" + "'a'\n" * 32 + ")\nRunConfig.seed = 3\n")
    gin_files.parse([str(path)], [])
    path.write_text("RunConfig.seed = 1\n" * 14_000)
    with pytest.raises(UserError, match=r"mine\.gin: gin files of more than 262,144 bytes in all are not read"):
        gin_files.parse([str(path)], [])
    (tmp_path / "part.gin").write_text("#" * 2000 + "\n")
    path.write_text("include 'part.gin'\n" * 150)
    with pytest.raises(UserError, match=r"part\.gin: gin files of more than 262,144 bytes in all"):
        gin_files.parse([str(path)], [])


def test_lines_of_other_files_are_not_shown(tmp_path):
    """A file that is no gin by its name, a link, and an included file: where the mistake is, not what stands there."""
    secret = "password is hunter2\n"
    (tmp_path / "plain.txt").write_text(secret)
    (tmp_path / "included.gin").write_text(secret)
    (tmp_path / "link.gin").symlink_to(tmp_path / "plain.txt")
    (tmp_path / "mine.gin").write_text("include 'included.gin'\n")
    for name in ("plain.txt", "link.gin", "mine.gin"):
        with pytest.raises(UserError, match="line 1: ") as caught:
            gin_files.parse([str(tmp_path / name)], [])
        assert "hunter2" not in str(caught.value)
    (tmp_path / "mine.gin").write_text(secret)
    with pytest.raises(UserError, match=r"line 1: .*hunter2"):
        gin_files.parse([str(tmp_path / "mine.gin")], [])


def test_mangled_files(tmp_path):
    """Whatever becomes of a gin file, it is read or refused in one line."""
    rng = random.Random(0)
    texts = [file.read_text() for file in sorted(config_folder().rglob("*.gin"))]
    pieces = ["@", "%", "(", "]", "{", ":", "=", "/", "'", '"""', "\n", "\t", "\\", "include ", "import ", "1e999",
              "\f", "@Mixture()", "%a.b", "\ufeff", "b''", "\u2028"]  # fmt: skip
    for _ in range(150):
        text = list(rng.choice(texts))
        for _ in range(rng.randint(1, 5)):
            start = rng.randrange(len(text) + 1)
            text[start : start + rng.choice([0, 0, 5])] = rng.choice(pieces)
        (tmp_path / "mine.gin").write_text("".join(text))
        try:
            gin_files.parse([str(tmp_path / "mine.gin")], [])
        except UserError as error:
            assert "\n" not in str(error) and len(str(error)) < 700


def test_every_file_of_triarch_can_be_read():
    files = sorted(config_folder().rglob("*.gin"))
    assert len(files) > 100
    for file in files:
        gin_files.parse([str(file)], [])
