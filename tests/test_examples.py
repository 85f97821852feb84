"""Every example in help, README and docs: its flags parse, its files exist, and those that are cheap run."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import keyword
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.interchange.huggingface import folders
from tests.tokenizers import huggingface
from tests.training import tiny
from triarch.cli.gin import files as gin_files
from triarch.cli.main import VERBS, main
from triarch.prepare.corpora.files import Files
from triarch.prepare.pipeline import VocabularyChoice, prepare
from triarch.tokenizers import given_tokenizer
from triarch.training import CheckpointConfig, DataConfig, train
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
# What commands before make, and what a user has.
_MADE = ("exports/", "stores/", "hf/")
_USERS = ("study.gin", "/shared/study.gin", "/mnt/triarch/study.gin")


def module_of(verb):
    return importlib.import_module(f"triarch.cli.verbs.{verb}{'_' if keyword.iskeyword(verb) else ''}")


def commands(text):
    """Yields the words of each `triarch` command in a shell text, comments and what is piped left out."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in shlex_parts(line):
            if part[:1] == ["triarch"] and len(part) > 1 and part[1] in VERBS:
                yield part[1:]


def shlex_parts(line):
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&")
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:
        return
    part = []
    for word in words:
        if set(word) <= set("|;&"):
            yield part
            part = []
        else:
            part.append(word)
    yield part


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def found():
    for verb in VERBS:
        for words in commands(module_of(verb).EXAMPLE):
            yield f"help of {verb}", words
    for page in PAGES:
        for words in commands("\n".join(blocks(page, "sh"))):
            yield page.name, words


EXAMPLES = list(found())


def test_there_are_examples_of_every_verb():
    of_help = {source.removeprefix("help of ") for source, _ in EXAMPLES if source.startswith("help of ")}
    assert of_help == set(VERBS)
    assert sum(source == "README.md" for source, _ in EXAMPLES) > 4
    assert sum(source == "quickstart.md" for source, _ in EXAMPLES) > 20


@pytest.mark.parametrize(
    ("source", "words"), EXAMPLES, ids=[f"{source}: {' '.join(words)[:60]}" for source, words in EXAMPLES]
)
def test_flags_parse_and_files_exist(monkeypatch, source, words):
    parsed = []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(module_of(words[0]), "run", lambda args: parsed.append(args))
    # Modules of a user's own are not here; the pages that show some have tests of their own.
    monkeypatch.setattr("triarch.cli.main.import_modules", lambda names: None)
    if any("gs://" in word for word in words):
        monkeypatch.setattr("triarch.cli.remote._stage", lambda *staging: None)
        monkeypatch.setattr("triarch.cli.outputs.check_file", lambda *checking: None)
    assert main(words) == 0
    (args,) = parsed
    files = [*getattr(args, "gin_file", []), *([args.study] if words[0] == "sweep" else [])]
    files = [str(file) for file in files]
    made = [file for file in files if file.startswith(_MADE) or file.endswith("config.gin") or file in _USERS]
    for file in set(files) - set(made):
        gin_files.find(file)
    if words[0] == "train" and not made and not args.module:
        config(tuple(files), tuple(args.gin_bindings))


@functools.cache
def config(files, bindings):
    """Builds the run of a `train` example and checks it; of one that names no gin, there is nothing to build."""
    from triarch.training.config import validate

    if files:
        gin_files.parse(list(files), list(bindings))
        validate(gin_files.build("RunConfig"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What docs call runs/first, stores/code, hf/llama and runs/study, as small as can be."""
    folder = tmp_path_factory.mktemp("examples")
    lines = (json.dumps({"text": f"def main({n}):\n    return {n * n}"}) for n in range(300))
    (folder / "code.jsonl").write_text("\n".join(lines))
    corpus = Files((str(folder / "code.jsonl"),))
    store = prepare(corpus, "test", folder / "stores" / "code", VocabularyChoice("bytes"), 32, 0.1, 1)
    run = tiny.run_config(
        "",
        model=tiny.model("decoder-only", vocab_size=260),
        data=DataConfig(32, str(store.path)),
        optimizer=AdamW(Constant(1e-3)),
        steps=8,
        checkpoint=CheckpointConfig(every=4),
    )
    train(run, folder / "runs" / "first", "")
    write_llama(folder / "hf" / "llama")
    (folder / "runs" / "study").mkdir()
    (folder / "runs" / "study" / "results.csv").write_text(
        "run,family,num_params,final_train_loss\nredllm_xs,redllm,1000,3.5\ndecllm_xs,decllm,1000,3.4\n"
    )
    return folder


def write_llama(path):
    huggingface.write_folder(path, "llama3")
    size = given_tokenizer(path).info.size
    tensors = folders.llama_tensors(folders.BFLOAT16)
    rng = np.random.default_rng(1)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = (0.1 * rng.normal(size=(size, folders.WIDTH))).astype(folders.BFLOAT16)
    folders.write(path, folders.LLAMA | {"vocab_size": size}, tensors)


@pytest.mark.slow
def test_the_python_of_the_docs_runs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {}
    for block in blocks(ROOT / "docs" / "python.md", "python"):
        exec(compile(block, "docs/python.md", "exec"), names)
    assert names["states"]["decoder"].shape[-1] == 16


@pytest.mark.slow
def test_runs_that_are_there_go_on_as_the_docs_say(folder, monkeypatch, tmp_path, capsys):
    """The commands on runs/first, with the steps that this one has."""
    monkeypatch.chdir(folder)
    for words in (
        ["train", "--workdir=runs/first"],
        ["order", "runs/first", "--steps=5:7"],
        ["train", "--workdir=runs/first", "--continue_with=RunConfig.steps=10", "--profile=8:10"],
        ["order", "runs/first", "--steps=7:9"],
        ["inspect", "stores/code", "--split=validation", "--examples=1"],
    ):
        assert main(words) == 0, capsys.readouterr().err
    assert list((folder / "runs" / "first" / "profile").glob("plugins/profile/*/perfetto_trace.json.gz"))
    output = capsys.readouterr()
    assert "trace written to runs/first/profile/plugins/profile" in output.err
    assert main(["train", "--workdir=runs/first", "--continue_with=RunConfig.steps=12", "--profile=8:9"]) == 1
    assert "--profile=8:9: the run makes steps 10 to 11 now" in capsys.readouterr().err
    assert main(["train", "--workdir=runs/first", "--profile=9:8"]) == 1


@pytest.mark.parametrize("words", [words for source, words in EXAMPLES if source == "help of describe"][:3])
def test_describe_runs(monkeypatch, words, capsys):
    monkeypatch.chdir(ROOT)
    assert main(words) == 0
    assert capsys.readouterr().out


def test_settings_that_docs_name_are_there():
    classes = gin_files.configurables()
    named = {
        match for page in PAGES for match in re.findall(r"(?:--gin\.|--continue_with=)(\w+)\.(\w+)=", page.read_text())
    }
    assert len(named) > 20
    own = {name for page in PAGES for name in re.findall(r"^class (\w+)", page.read_text(), re.MULTILINE)}
    for name, field in named:
        if name in own:  # A page's own class, which its own test trains with.
            continue
        assert field in {one.name for one in dataclasses.fields(classes[name])}, f"{name}.{field}"


def test_the_page_about_nan_is_where_the_error_says():
    assert (ROOT / "docs" / "nan.md").is_file()
    assert "docs/nan.md" in (ROOT / "README.md").read_text()
    assert "docs/nan.md" in (ROOT / "src" / "triarch" / "training" / "logs" / "reporter.py").read_text()
    assert sys.version_info >= (3, 11)
