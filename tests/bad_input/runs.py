"""Run folders that are damaged, incomplete, or something else."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tests.bad_input.case import Case, bad_json, case, damaged, json_values

CONFIG = "run/config.json"
EXPORT = "export --workdir=run --output=e"
VALUES = (
    ("model", (None, 7, [], "decoder", {})),
    ("model.d_model", (0, -16, "16", None, 17, 16.0, 10**15, True)),
    ("model.d_ff", (0, "32", 33, 10**15)),
    ("model.vocab_size", (0, -1, 321, None, 10**15)),
    ("model.num_heads", (0, 3, "2", 10**9)),
    ("model.num_decoder_layers", (0, -1, 2, 10**6, "1")),
    ("model.norm", ("rms", None, 7)),
    ("model.rope_base", (0, -1, "10000", None, float("inf"), float("nan"))),
    ("model.rope_scaling", (7, {"factor": 2}, {"class": "RopeScaling"}, [])),
    ("model.hidden_size", (16,)),
    ("vocabulary", (7, [], "bytes")),
    ("objective", (7, "CausalLM", [])),
)
CHANGED = (
    ("RunConfig.seed", "1"),
    ("RunConfig.batch_size", "8"),
    ("ModelConfig.d_model", "32"),
    ("ModelConfig.num_decoder_layers", "2"),
    ("Constant.peak", "2e-3"),
    ("RunConfig.objective", "@PrefixLM()"),
)
FLAGS = (
    ("export --workdir=rnu --output=e", "rnu", "run"),
    ("export --workdir=store --output=e", "store", "neither"),
    ("export --workdir=text.txt --output=e", "text.txt", ""),
    ("export --workdir=run --output=e --step=1", "1", "2"),
    ("export --workdir=run --output=e --step=-2", "-2", ""),
    ("export --workdir=run --output=e --step=99999999999999999999", "99999999999999999999", ""),
    ("export --workdir=run --output=e --format=torch", "torch", ""),
    ("export --workdir=run --output=e --format=orbx", "orbx", "orbax"),
    ("export --workdir=run --output=e --dtype=float64", "float64", ""),
    ("export --workdir=run --output=e --dtype=bf16", "bf16", ""),
    ("export --workdir=run --output=e --family=llama", "--family", ""),
    ("export --workdir=run --output=e --format=huggingface --family=lama", "lama", "llama"),
    ("export --workdir=run --output=e --format=huggingface --family=bert", "Bert", ""),
    ("export --workdir=run --output=e --format=huggingface --max_shard_size=big", "--max_shard_size", ""),
    ("export --workdir=run --output=e --format=huggingface --max_shard_size=0", "--max_shard_size", ""),
    ("export --workdir=run --output=e --format=huggingface --max_shard_size=-1GB", "--max_shard_size", ""),
    ("export --workdir=run --output=run", "run", "exists"),
    ("export --workdir=run --output=store --overwrite", "store", ""),
    ("order run --steps=2", "2", ""),
    ("order run --steps=0:3", "3", ""),
    ("order run --steps=1:1", "1:1", ""),
    ("order run --steps=2:1", "2:1", ""),
    ("order run --steps=-1", "-1", ""),
    ("order run --steps=all", "all", ""),
    ("order run --steps=0,1", "0,1", ""),
    ("order run --steps=''", "--steps", ""),
    ("order run --steps=0 --host=2/2", "--host", ""),
    ("order run --steps=0 --host=0/3", "--host", ""),
    ("order run --steps=0 --host=0/0", "--host", ""),
    ("order run --steps=0 --host=first", "--host", ""),
    ("order run --steps=0 --output=order.txt", "order.txt", ""),
    ("order run --steps=0 --output=missing/order.csv", "missing", ""),
    ("order store --steps=0", "store", ""),
    ("order nowhere --steps=0", "nowhere", ""),
    ("order --steps=0", "", ""),
    ("evaluate --model=run --in_domain=stoer", "stoer", "store"),
    ("evaluate --model=rnu --in_domain=store", "rnu", "run"),
    ("evaluate --model=run --in_domain=run", "run", "manifest.json"),
    ("evaluate --model=run --in_domain=store --split=tset", "tset", ""),
    ("evaluate --model=run --in_domain=store --scoring=nativ", "nativ", "native"),
    ("evaluate --model=run --in_domain=store --max_windows=some", "--max_windows", ""),
    ("evaluate --model=run --in_domain=store --max_windows=0", "max_windows", ""),
    ("evaluate --model=run --in_domain=store --batch_size=0", "batch_size", ""),
    ("evaluate --model=run --in_domain=store --step=latest", "--step", ""),
    ("evaluate --model=run --in_domain=store --step=7", "7", "2"),
    ("evaluate --model=run --in_domain=store --pseudo_positions=-1", "--pseudo_positions", ""),
    ("evaluate --model=run --in_domain=store --output=out", "--output", ""),
    ("evaluate --model=run --model=run --in_domain=store", "--model", ""),
    ("evaluate --model=run --suite=nowhere", "nowhere", ""),
    ("evaluate --model=run --suite=run", "run", ""),
    ("evaluate --model=run --suite=store --in_domain=store", "--suite", ""),
    ("evaluate --model=run --in_domain=store --num_fewshot=2", "--num_fewshot", ""),
    ("evaluate --model=run --in_domain=store --task_data=.", "--task_data", ""),
    ("extrapolate --model=run --store=store --output=x --lengths=long", "--lengths", ""),
    ("extrapolate --model=run --store=store --output=x --lengths=0", "--lengths", ""),
    ("extrapolate --model=run --store=store --output=x --trained_length=0", "--trained_length", ""),
    ("extrapolate --model=run --store=store --output=x --batch_size=0", "--batch_size", ""),
    ("extrapolate --model=run --output=x", "--store", ""),
    ("attention --model=run --store=nowhere --output=x", "nowhere", ""),
    ("attention --model=run --store=store --output=x --layers=9", "--layers", ""),
    ("attention --model=run --store=store --output=x --heads=x", "--heads", ""),
    ("attention --model=run --store=store --output=x --length=0", "--length", ""),
    ("attention --model=run --store=store --output=x --example=-1", "--example", ""),
    ("train --gin_file=run.gin --workdir=run --num_processes=0", "--num_processes", ""),
    ("train --gin_file=run.gin --workdir=run --process_id=1", "--", ""),
    (
        "train --gin_file=run.gin --workdir=run --num_processes=2 --process_id=2 --coordinator=localhost:1",
        "--process",
        "",
    ),
    ("train --gin_file=run.gin --workdir=run --num_processes=2 --process_id=0", "--coordinator", ""),
    ("train --gin_file=run.gin --workdir=run --coordinator=nowhere", "--coordinator", ""),
    ("train --gin_file=run.gin --workdir=run --startup_timeout=0", "--startup_timeout", ""),
    ("train --gin_file=run.gin --workdir=run --heartbeat_timeout=nan", "--heartbeat_timeout", ""),
    ("train --gin_file=run.gin --workdir=run --stall_timeout=-1", "--stall_timeout", ""),
    ("train --gin_file=run.gin --workdir=", "--workdir", ""),
    ("train --gin_file=run.gin --workdir=text.txt", "text.txt", ""),
    ("train --gin_file=run.gin --workdir=text.txt/run", "text.txt", ""),
    ("train --gin_file=run.gin --workdir=store", "store", ""),
    ("train --gin_file=run.gin --workdir=new --gin.DataConfig.store=nowhere", "nowhere", ""),
    ("train --gin_file=run.gin --workdir=new --gin.DataConfig.store=None", "DataConfig.store", ""),
    ("train --gin_file=run.gin --workdir=new --gin.DataConfig.window=64", "64", "32"),
    ("train --gin_file=run.gin --workdir=new --gin.ModelConfig.vocab_size=100", "100", "260"),
    ("train --gin_file=run.gin --workdir=new --gin.DataConfig.train_split=tarin", "tarin", "train"),
    ("train --gin_file=run.gin --workdir=new --gin.RunConfig.init_from=nowhere", "nowhere", ""),
    ("train --gin_file=run.gin --workdir=new --gin.RunConfig.init_from=store", "store", ""),
    ("train --gin_file=run.gin --workdir=new --gin.MeshConfig.tensor=3", "3", ""),
    ("train --gin_file=run.gin --workdir=new --gin.RunConfig.batch_size=0", "batch_size", ""),
)


def cases() -> Iterator[Case]:
    """Yields the cases."""
    for command, *says in FLAGS:
        yield case(f"run: {command}", command, *says, takes="run store run.gin text.txt")
    for name, value in CHANGED:
        command = f"train --gin_file=run.gin --workdir=run --gin.{name}={value}"
        yield case(f"run resumed under {name} = {value}", command, "run", takes="run store run.gin")
    lacking = ("model", "model.vocab_size", "model.head_dim", "objective")
    yield from json_values("run config.json", CONFIG, EXPORT, "run", takes="run", values=VALUES)
    yield from json_values("run config.json", CONFIG, EXPORT, "config.json", takes="run", lacking=lacking)
    yield from bad_json("run config.json", CONFIG, EXPORT, "config.json", takes="run")
    yield from damaged("run config.json", CONFIG, EXPORT, "config.json", takes="run")
    train = "train --gin_file=run.gin --workdir=run"
    yield from bad_json("run resumed, config.json", CONFIG, train, "run", takes="run store run.gin")
    for place in ("checkpoints", "checkpoints/2", "config.json"):
        gone = lambda folder, place=place: folder.remove(f"run/{place}")  # noqa: E731
        yield case(f"run without {place}", EXPORT, "run", takes="run", make=gone)
    metrics = "run with a folder as metrics.jsonl"
    yield case(metrics, train, "metrics.jsonl", takes="run store run.gin", make=_metrics_folder)
    yield case("run whose checkpoint is cut", EXPORT, "checkpoint", takes="run", make=_cut_largest)


def _cut_largest(folder) -> None:
    files = [file for file in (folder.path / "run" / "checkpoints" / "2" / "params").rglob("*") if file.is_file()]
    largest = max(files, key=lambda file: file.stat().st_size)
    folder.edit(os.path.relpath(largest, folder.path), lambda content: content[:-100])


def _metrics_folder(folder) -> None:
    folder.remove("run/metrics.jsonl")
    (folder.path / "run" / "metrics.jsonl").mkdir()
