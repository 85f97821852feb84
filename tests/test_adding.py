"""A new law, objective, optimizer, corpus or verb is one file and a line: what docs/architecture.md shows, made so."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training import tiny
from triarch.cli.gin import files as gin_files

ROOT = Path(__file__).parents[1]
GUIDES = [(ROOT / "docs" / page).read_text() for page in ("laws.md", "extending.md")]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
# Of triarch's own files, which import others of their room, not the room.
ROOM_IMPORT = "from triarch.objectives import CausalLM, TokenObjective\n"
FILE_IMPORTS = """\
from triarch.objectives.causal_lm import CausalLM
from triarch.objectives.token_objective import TokenObjective
"""
PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from triarch.cli.main import main
for words in json.loads(sys.argv[2]):
    assert main(words) == 0
"""


def block_with(pattern, pages):
    blocks = [block for page in pages for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)]
    return next(block for block in blocks if re.search(pattern, block))


def as_a_file(block):
    """A class of the guides without what makes a module of it."""
    block = re.sub(r"^(import triarch|@triarch\.register_\w+)\n", "", block, flags=re.MULTILINE)
    return block.replace(ROOM_IMPORT, FILE_IMPORTS)


def changed(text, lines):
    """A file after a diff without numbers of lines: imports go below those that are there."""
    imports = "".join(f"{line[1:]}\n" for line in lines if line.startswith("+from "))
    rest = [line for line in lines if not line.startswith("+from ")]
    old, new = ("".join(f"{line[1:]}\n" for line in rest if line[0] in kinds) for kinds in (" -", " +"))
    assert text.count(old) == 1, f"docs/architecture.md shows as a registry's line what is none: {old}"
    text = text.replace(old, new)
    last = list(re.finditer(r"^from triarch.*\n", text, re.MULTILINE))[-1].end()
    return text[:last] + imports + text[last:]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The package with all five added."""
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (root / "gin_configs").symlink_to(ROOT / "gin_configs")
    (diff,) = re.findall(r"```diff\n(\+\+\+ src/triarch/scaling.*?)```", PAGE, re.DOTALL)
    added = re.findall(r"^\+\+\+ (\S+) +# (\w+)(.*)$", diff, re.MULTILINE)
    for file, name, where in added:
        assert not (root / file).exists()
        block = block_with(rf"class {name}\b|`triarch {name}`", GUIDES if "guide" in where else [PAGE])
        (root / file).write_text(as_a_file(block))
    registries = re.findall(r"^--- (\S+)\n(.*?)(?=^\+\+\+|\Z)", diff, re.MULTILINE | re.DOTALL)
    for file, lines in registries:
        (root / file).write_text(changed((root / file).read_text(), lines.splitlines()))
    assert len(added) == len(registries) == 5
    return root


def run(copy, *commands):
    words = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run([sys.executable, "-c", PROGRAM, copy / "src", words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_lines_shown_are_those_of_the_registries(copy):
    assert "ProductLaw" in (copy / "src/triarch/scaling/laws/registry.py").read_text()


@pytest.mark.slow
def test_a_law_a_corpus_and_a_verb(copy, tmp_path):
    rng = np.random.default_rng(0)
    params, tokens = 10 ** rng.uniform(7, 9, 30), 10 ** rng.uniform(9, 11, 30)
    loss = 1.8 + 2e4 * params**-0.2 * tokens**-0.3
    rows = [f"{n!r},{d!r},{y!r}" for n, d, y in zip(params.tolist(), tokens.tolist(), loss.tolist(), strict=True)]
    (tmp_path / "runs.csv").write_text("\n".join(["N,D,loss", *rows]))
    columns = ["--params_column=N", "--tokens_column=D", "--loss_column=loss"]
    shown = run(
        copy,
        ["fit", tmp_path / "runs.csv", "--law=product", *columns, "--bootstraps=0", f"--json={tmp_path / 'fit.json'}"],
        ["prepare", "--task=sums", f"--output={tmp_path / 'store'}", "--vocabulary=bytes", "--window=16"],
        ["count", "--gin_file=models/redllm/8b.gin", f"--json={tmp_path / 'count.json'}"],
        *(["describe", "--keys", name] for name in ("Lion", "LastTokens")),
    )
    found = json.loads((tmp_path / "fit.json").read_text())["parameters"]
    assert abs(found["alpha"] - 0.2) < 1e-3 and abs(found["beta"] - 0.3) < 1e-3
    assert (tmp_path / "store" / "manifest.json").exists()
    assert f"{json.loads((tmp_path / 'count.json').read_text())['num_params']:,}" in shown
    assert "Lion.beta1" in shown and "LastTokens.share" in shown


@pytest.mark.slow
def test_an_objective_and_an_optimizer(copy, tmp_path):
    store = tiny.write_store(tmp_path / "store")
    (tmp_path / "run.gin").write_text(gin_files.render(tiny.run_config(store)))
    own = ["--gin.RunConfig.objective=@LastTokens()", "--gin.RunConfig.optimizer=@Lion()"]
    values = ["--gin.LastTokens.share=0.25", "--gin.Lion.learning_rate=@Constant()", "--gin.Constant.peak=1e-3"]
    run(copy, ["train", f"--gin_file={tmp_path / 'run.gin'}", *own, *values, f"--workdir={tmp_path / 'run'}"])
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["objective"]["class"], config["optimizer"]["class"]) == ("LastTokens", "Lion")
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
