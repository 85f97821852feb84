"""Verbs whose flags name buckets: a run that is trained, resumed, exported, evaluated and listed there."""

import json

import fsspec
import pytest

from triarch.cli.main import main
from triarch.remote import Objects

SETTINGS = """
include 'runs/decllm.gin'
include 'models/decllm/tiny_s.gin'
ModelConfig.vocab_size = 260
ModelConfig.d_model = 16
ModelConfig.d_ff = 32
ModelConfig.num_heads = 1
ModelConfig.head_dim = 16
Execution.scan_layers = False
RunConfig.steps = 4
RunConfig.batch_size = 2
RunConfig.log_every = 2
RunConfig.tensorboard = False
RunConfig.optimizer = @AdamW()
AdamW.learning_rate = @Cosine()
Cosine.peak = 1e-2
Cosine.warmup_steps = 2
DataConfig.window = 32
DataConfig.store = 'URL/stores/text'
CheckpointConfig.every = 2
"""


SEVERAL = ("--num_processes=2", "--process_id=0", "--coordinator=h:1")


def prepare(url, folder, call):
    """Makes a store below `url`, and the gin file of a run that reads it, by `call` of a command's arguments."""
    (folder / "text").mkdir()
    for index in range(30):
        (folder / "text" / f"{index}.txt").write_text(f"the cat {index} sat on the mat. " * 10)
    (folder / "run.gin").write_text(SETTINGS.replace("URL", url))
    text = ("--task=files", f"--files={folder / 'text'}", "--vocabulary=bytes", "--window=32")
    call("prepare", *text, "--validation_fraction=0.2", f"--output={url}/stores/text")


def journey(url, folder, call):
    """Prepares, trains, resumes, exports and evaluates below `url`."""
    prepare(url, folder, call)
    call("train", f"--gin_file={folder / 'run.gin'}", f"--workdir={url}/runs/first", f"--json={url}/trained.json")
    call("train", f"--workdir={url}/runs/first", "--continue_with=RunConfig.steps=6")
    call("export", f"--workdir={url}/runs/first", "--format=orbax", f"--output={url}/exports/first")
    corpus = f"--in_domain={url}/stores/text@validation"
    for model in ("runs/first", "exports/first"):
        call("evaluate", f"--model={url}/{model}", corpus, "--max_windows=2", f"--json={url}/{model}.json")
    bucket = Objects(url)
    run, export = (json.loads(bucket.read(f"{model}.json")) for model in ("runs/first", "exports/first"))
    assert run["evaluations"][0]["nats_per_token"] == export["evaluations"][0]["nats_per_token"]
    assert json.loads(bucket.read("trained.json"))["steps"] == 4
    there = bucket.sizes("runs/first")
    assert {"config.json", "config.gin", "metrics.jsonl", "summary.json"} <= {name.split("/")[2] for name in there}
    assert not any("claims" in name for name in there)
    lines = [json.loads(line) for line in bucket.read("runs/first/metrics.jsonl").splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 4, 6]
    return bucket


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIARCH_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    fsspec.filesystem("memory").store.clear()


@pytest.mark.slow
def test_a_run_in_a_bucket(cache, tmp_path, capsys):
    def call(*argv):
        assert main(list(argv)) == 0, capsys.readouterr().err

    journey("memory://bucket/work", tmp_path, call)
    assert not list(cache.glob("runs/*"))


def test_one_line_where_a_verb_takes_no_bucket(cache, tmp_path, capsys):
    for argv, said in (
        (["train", "--gin_file=gs://b/run.gin", "--workdir=w"], "--gin_file=gs://b/run.gin: `triarch train` takes no"),
        (["sweep", "--study=s.gin", "--output=memory://b/out"], "--output=memory://b/out: sweeps run on a folder"),
        (["train", "--workdir=nowhere://b/w"], "nowhere://b/w: Protocol not known"),
        (["evaluate", "--model=memory://b/m", "--in_domain=s"], "memory://b/m: nothing is there"),
        (["inspect", "memory://b/store"], "memory://b/store: no manifest.json there"),
        (
            ["train", "--workdir=memory://b/w", *SEVERAL],
            "a run of several processes needs a folder",
        ),
        (["train", "--workdir=memory://b/w"], "holds no run to resume"),
        # Texts may hold what looks like one.
        (["generate", "--model=none", "--prompt=see https://example.org/x"], "none: no such run or export"),
    ):
        assert main(argv) == 1
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1, error
    assert not any("/b/w/" in name for name in fsspec.filesystem("memory").store)
