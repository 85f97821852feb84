"""The published phases of Ettin (arXiv 2507.11412), and what describe and plan say of each."""

import argparse
import json

import pytest

from triarch.cli import main
from triarch.cli.gin.files import load_run, render
from triarch.training.config import validate
from triarch.training.phases.stages import of_phase, stages

# Peak of the first phase, tokens of all, local rotary base of a decoder's last phase.
SIZES = {
    "17m": (3e-3, 2e12, 10_000),
    "32m": (3e-3, 2e12, 10_000),
    "68m": (3e-3, 2e12, 10_000),
    "150m": (8e-4, 2e12, 160_000),
    "400m": (5e-4, 2e12, 10_000),
    "1b": (5e-4, 2e12 / 3, 160_000),
}


def load(name, *bindings):
    return load_run(argparse.Namespace(gin_file=[f"runs/ettin/{name}.gin"], gin_bindings=list(bindings)))


def tokens(config):
    return sum((one.end - one.first_step) * one.config.batch_size * one.config.data.window for one in stages(config))


@pytest.mark.parametrize("side", ["encoder", "decoder"])
@pytest.mark.parametrize("size", SIZES)
def test_the_phases_of_a_pair_are_the_published_ones(side, size):
    config, _ = load(f"{side}_{size}")
    validate(config)
    peak, total, local = SIZES[size]
    assert tokens(config) == pytest.approx(total, rel=1e-3)
    phases = [of_phase(config, name) for name in ("pretraining", "extension", "decay")]
    assert [one.data.window for one in phases] == [1024, 7999, 7999]
    assert [one.model.rope_base for one in phases] == [10_000, 160_000, 160_000]
    bases = [one.model.local_rope_base or one.model.rope_base for one in phases]
    assert bases == [10_000, 160_000, local if side == "decoder" else 160_000]
    assert [one.optimizer.learning_rate.peak for one in phases] == [peak, peak, peak / 2]
    if side == "encoder":
        assert [one.objective.rate for one in phases] == [0.3, 0.3, 0.15]
    last = stages(config)[-1]
    assert float(last.config.optimizer.learning_rate(last.end, 1)) == pytest.approx(0.01 * peak, rel=1e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["encoder_from_decoder", "decoder_from_encoder"])
def test_each_is_made_into_the_other_by_the_published_recipe(name, size):
    config, _ = load(f"{name}_{size}")
    validate(config)
    assert tokens(config) == pytest.approx(5e10 / (3 if size == "1b" else 1), rel=1e-3)
    assert config.seed == 210 and not config.init_optimizer
    assert config.objective.name == ("mntp" if name.startswith("encoder") else "causal_lm")
    assert config.optimizer.learning_rate.peak == SIZES[size][0] / 2


def test_a_chain_is_written_and_read_again(tmp_path):
    config, text = load("decoder_17m")
    path = tmp_path / "again.gin"
    path.write_text(text)
    again, _ = load_run(argparse.Namespace(gin_file=[str(path)], gin_bindings=["decay/Phase.tokens=60_000_000_000"]))
    assert "decay/Phase.tokens = 50000000000" in render(config)
    assert again.phases[:2] == config.phases[:2] and again.phases[2].tokens == 60_000_000_000


def test_describe_tells_each_phase(tmp_path, capsys):
    flags = ["describe", "--gin_file=runs/ettin/encoder_17m.gin", f"--json={tmp_path / 'out.json'}"]
    assert main.main(flags) == 0
    table = [line.split()[:6] for line in capsys.readouterr().out.splitlines()]
    assert ["extension", "masked_lm", "7,999", "encoder", "4,608", "6,783"] in table
    found = json.loads((tmp_path / "out.json").read_text())
    assert list(found["phases"]) == ["pretraining", "extension", "decay"]
    assert found["steps"] == sum(one["steps"] for one in found["phases"].values())
    assert main.main([*flags, "--phase=decay"]) == 0
    assert "1,357 steps of 4,608 sequences" in capsys.readouterr().out
    assert main.main([*flags, "--phase=decoy"]) == 1
    assert "--phase=decoy: no such phase (did you mean 'decay'?)" in capsys.readouterr().err
    assert main.main(["plan", "--gin_file=runs/ettin/encoder_17m.gin", "--topology=v5p:2x2x1"]) == 1
    assert "choose one with --phase (pretraining, extension, decay)" in capsys.readouterr().err
