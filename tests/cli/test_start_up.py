"""What the command line imports before it answers: libraries that take a second are for what computes."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import jax
import pytest

from tests.training import tiny
from triarch.cli.verbs import describe
from triarch.models import Network
from triarch.training.optimizers.adafactor import Adafactor
from triarch.training.optimizers.optimizer import AdamW, build
from triarch.training.optimizers.schedules import Constant
from triarch.training.optimizers.stable_adamw import StableAdamW

_SLOW = {"flax", "grain", "jax", "matplotlib", "optax", "orbax", "pandas", "plotly", "pyarrow", "scipy", "tensorstore"}
_PROGRAM = """
import json, sys
from triarch.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print()
print(json.dumps(sorted(sys.modules)))
"""


def imported(*words):
    done = subprocess.run([sys.executable, "-c", _PROGRAM, *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("words", "most", "but"),
    [
        (["--help"], 25, set()),
        (["train", "--help"], 50, set()),
        (["fit", "--help"], 140, {"scipy"}),  # Which itself imports its parts when they are used.
        (["describe", "--gin_file=models/redllm/8b.gin"], 140, set()),
        (["describe", "--gin_file=models/ettin_encoder/150m.gin"], 140, set()),
    ],
    ids=["help", "train", "fit", "describe", "describe-encoder"],
)
def test_slow_imports_are_left_to_what_computes(words, most, but):
    names = imported(*words)
    assert not _SLOW & set(names) - but

    assert sum(name.split(".")[0] == "triarch" for name in names) <= most


@pytest.mark.parametrize(
    "optimizer",
    [
        AdamW(Constant(1e-3)),
        StableAdamW(Constant(1e-3)),
        Adafactor(Constant(1e-3)),
        Adafactor(Constant(1e-3), factored=True, min_dim_to_factor=16),
    ],
    ids=["adamw", "stable_adamw", "adafactor", "factored"],
)
def test_optimizer_memory_is_that_of_its_arrays(optimizer):
    config = tiny.run_config("", "encoder-decoder", optimizer=optimizer)
    network = Network(config.model, config.execution)
    params = jax.tree.map(lambda spec: spec.struct, network.trained_specs)
    state = jax.eval_shape(build(optimizer, config.steps, network.trained_specs).init, params)
    arrays = [math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state) if leaf.shape]
    described = describe.describe(config)["memory_bytes"]
    assert described["optimizer_state"] == sum(arrays)
    assert described["parameters"] == sum(4 * math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
