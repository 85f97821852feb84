"""An installed wheel at work, from outside the checkout: run by `make wheel-test`, on its own."""

from __future__ import annotations

import importlib.resources
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import triarch
from triarch.cli.gin.files import config_folder
from triarch.cli.main import main

PACKAGE = Path(triarch.__file__).parent
CHECKOUT = os.environ.get("TRIARCH_CHECKOUT")


def test_the_package_is_the_installed_one():
    assert CHECKOUT is None or not PACKAGE.is_relative_to(CHECKOUT)
    assert config_folder() == PACKAGE / "gin_configs"
    assert (PACKAGE / "py.typed").is_file()


def test_the_command_is_installed():
    command = Path(sys.executable).with_name("triarch")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"triarch {triarch.__version__}\n"


@pytest.mark.parametrize("model", ["redllm/8b", "decllm/1b", "ettin_encoder/150m", "t5/small", "llama3/8b"])
def test_recipes_are_there(model, capsys):
    assert main(["describe", f"--gin_file=models/{model}.gin"]) == 0
    assert "parameters" in capsys.readouterr().out


def test_a_law_is_fitted_and_drawn(tmp_path):
    sizes = [1e6, 2e6, 4e6, 8e6, 16e6]
    (tmp_path / "runs.csv").write_text("N,loss\n" + "".join(f"{n},{1.7 + 30 * n**-0.2}\n" for n in sizes))
    flags = ["--law=power", "--x_column=N", "--loss_column=loss", "--bootstraps=0", "--held_out=0"]
    assert main(["fit", str(tmp_path / "runs.csv"), *flags, f"--output={tmp_path / 'fit'}"]) == 0
    assert json.loads((tmp_path / "fit" / "fit.json").read_text())["parameters"]["alpha"] == pytest.approx(
        0.2, abs=1e-2
    )
    assert list((tmp_path / "fit").glob("*.svg"))


def test_templates_tasks_and_compiler_flags_are_there():
    package = importlib.resources.files("triarch")
    assert "<html" in (package / "report" / "templates" / "report.html.j2").read_text()
    assert (package / "evaluation" / "few_shot" / "tasks" / "copa.yaml").is_file()
    assert "xla_tpu" in (package / "tpu_scripts" / "xla_flags.txt").read_text()


def test_a_run_from_text_to_text(tmp_path):
    store = triarch.make_store([f"{n} and {n} make {2 * n}." for n in range(200)], tmp_path / "store", window=32)
    config = triarch.run_config(
        "models/decllm/tiny_s.gin",
        bindings={
            "ModelConfig.vocab_size": 260,
            "DataConfig.store": store,
            "DataConfig.window": 32,
            "RunConfig.steps": 3,
            "RunConfig.batch_size": 4,
            "RunConfig.optimizer": "@AdamW()",
            "AdamW.learning_rate": "@Constant()",
            "Constant.peak": 1e-3,
        },
    )
    assert triarch.train(config, tmp_path / "run")["status"] == "complete"
    model = triarch.load(tmp_path / "run")
    assert triarch.score(model, "1 and 1 make 2.").num_tokens > 10
    assert isinstance(triarch.generate(model, "1 and", max_new_tokens=3), str)
    assert main(["export", f"--workdir={tmp_path / 'run'}", "--format=orbax", f"--output={tmp_path / 'export'}"]) == 0
