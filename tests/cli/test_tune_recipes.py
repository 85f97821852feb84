"""The tuning recipes: the published numbers, and a laptop-sized run as their files describe it."""

from __future__ import annotations

import argparse
import json
import re
import shlex

import pytest

from triarch.cli.gin import files as gin_files
from triarch.cli.main import main
from triarch.models import Dropout
from triarch.training.optimizers.adafactor import Adafactor
from triarch.training.optimizers.schedules import Constant

RECIPES = {"redllm": "redllm", "decllm": "decllm", "decllm_biattn": "decllm"}


def recipe(name):
    files = [f"runs/tune/{name}.gin", f"models/{RECIPES[name.removesuffix('_packed')]}/1b.gin"]
    return gin_files.load_run(argparse.Namespace(gin_file=files, gin_bindings=[]))[0]


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_the_papers(name):
    """Section S of arXiv 2510.26622."""
    config = recipe(name)
    assert config.optimizer == Adafactor(Constant(0.001, warmup_steps=0), decay=0.8, factored=False, max_grad_norm=1.0)
    assert (config.batch_size, config.steps, config.z_loss, config.data.window) == (1024, 190_000, 0.0, 2560)
    assert config.dropout == Dropout(attention=0.05, feed_forward=0.05)
    assert config.objective.pair_lengths == {"inputs": 2048, "targets": 512}
    assert config.objective.bidirectional_prefix == (name == "decllm_biattn")
    assert config.checkpoint.keep_best == "validation_loss"
    packed = recipe(f"{name}_packed")
    assert packed.objective == config.objective
    assert packed.optimizer == config.optimizer


def laptop_flags(name):
    """The flags that a recipe's file advises on a laptop."""
    text = (gin_files.config_folder() / "runs" / "tune" / f"{name}.gin").read_text().partition("On a laptop")[2]
    return [flag for line in re.findall(r"^#   (--gin.*)$", text, re.MULTILINE) for flag in shlex.split(line)]


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_laptop_sized_run_from_a_pretrained_one(name, tmp_path):
    """Begins with a run's parameters and optimizer, keeps its best checkpoint, and that is what is loaded."""
    rows = [{"inputs": f"What follows {n}?", "targets": f"{n + 1} follows."} for n in range(400)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = ("prepare", "--task=files", f"--files={tmp_path / 'rows.jsonl'}", "--workers=1", "--vocabulary=bytes")
    lengths = ("--layout=pairs", "--inputs_field=inputs", "--max_inputs=192", "--max_targets=64")
    assert main([*files, "--text_field=inputs", "--window=64", f"--output={tmp_path / 'text'}"]) == 0
    assert main([*files, "--text_field=targets", *lengths, f"--output={tmp_path / 'pairs'}"]) == 0
    family = RECIPES[name]
    tiny = ["ModelConfig.vocab_size=384", "ModelConfig.d_model=32", "ModelConfig.d_ff=64", "ModelConfig.num_heads=1"]
    base = ["train", f"--gin_file=models/{family}/laptop_s.gin", *(f"--gin.{one}" for one in tiny)]
    base += ["--gin.RunConfig.tensorboard=False"]
    pretraining = ["RunConfig.steps=4", "RunConfig.batch_size=4", "DataConfig.window=64", "CheckpointConfig.every=4"]
    pretraining += ["Cosine.warmup_steps=0"]
    pretraining += [f"DataConfig.store='{tmp_path / 'text'}'"]
    assert main([*base, *(f"--gin.{one}" for one in pretraining), f"--workdir={tmp_path / 'first'}"]) == 0
    tuning = [f"DataConfig.store='{tmp_path / 'pairs'}'", f"RunConfig.init_from='{tmp_path / 'first'}'"]
    tuning += [
        "RunConfig.init_optimizer=True",
        "RunConfig.steps=8",
        "RunConfig.eval_every=4",
        "RunConfig.eval_batches=1",
    ]
    flags = [*laptop_flags(name), *(f"--gin.{one}" for one in tuning), "--gin.CheckpointConfig.every=4"]
    workdir = tmp_path / "tuned"
    assert main([*base, f"--gin_file=runs/tune/{name}.gin", *flags, f"--workdir={workdir}"]) == 0
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["validation_loss"] for line in lines if "validation_loss" in line}
    assert len(losses) == 2
    result = tmp_path / "loss.json"
    evaluate = ["evaluate", f"--model={workdir}", f"--in_domain={tmp_path / 'pairs'}", "--step=best"]
    assert main([*evaluate, "--scoring=native", f"--json={result}"]) == 0
    assert json.loads(result.read_text())["step"] == min(losses, key=losses.get)
