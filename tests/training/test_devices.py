"""The same losses on one device and on eight, whatever the mesh."""

import json

import pytest

from tests.training import tiny

_SCRIPT = """
import dataclasses, json, sys
import jax
import numpy as np
from tests.training import tiny
from triarch.models import Execution
from triarch.sharding import MeshConfig
from triarch.training.optimizers.adafactor import Adafactor
from triarch.training.inputs import open_inputs
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.run import assemble
from triarch.training.optimizers.schedules import Constant
from triarch.training.optimizers.stable_adamw import StableAdamW

OPTIMIZERS = {
    "encoder-only": StableAdamW(Constant(1e-2), epsilon=1e-3),
    "decoder-only": AdamW(Constant(1e-2), epsilon=1e-3),
    "encoder-decoder": Adafactor(Constant(1e-2), factored=True, min_dim_to_factor=8),
}
MESHES = {
    "one": (MeshConfig(), 1, 1),
    "all": (MeshConfig(2, 2, 2), 8, 1),
    "fsdp": (MeshConfig(1, 8, 1), 8, 1),
    "data": (MeshConfig(8, 1, 1), 8, 2),
    "sequence": (MeshConfig(1, 2, 2, sequence=2), 8, 1),
    "gathered": (MeshConfig(2, 2, 2), 8, 1),
    "parts": (MeshConfig(1, 4, 2), 8, 2),
}
EXECUTIONS = {
    "gathered": Execution(gather="layer"),
    "parts": Execution(gather="layer", remat="full", feed_forward_parts=4),
}

store, architecture, *names = sys.argv[1:]
for name in names:
    mesh, devices, microbatches = MESHES[name]
    config = tiny.run_config(
        store, architecture, optimizer=OPTIMIZERS[architecture], mesh=mesh, microbatches=microbatches, batch_size=16,
        execution=EXECUTIONS.get(name, Execution()),
    )
    run = assemble(config, open_inputs(config), jax.devices()[:devices])
    state = run.initial_state()
    held = [sum(leaf.addressable_shards[0].data.size for leaf in jax.tree.leaves(part)) for part in state[1:]]
    whole = [sum(leaf.size for leaf in jax.tree.leaves(part)) for part in state[1:]]
    losses = []
    for _, batch in zip(range(4), run.batches(0)):
        state, metrics = run.train_step(state, batch)
        losses.append([float(metrics["loss"]), float(metrics["grad_norm"])])
    loss = run.eval_step(state.params, batch).measures["loss"]
    losses.append([float(loss.total / loss.weight), 0.0])
    layout = jax.tree.leaves(jax.tree.map(lambda leaf, want: leaf.sharding == want.sharding, state, run.target))
    print(json.dumps({"mesh": name, "losses": losses, "share": np.divide(held, whole).tolist(), "kept": all(layout)}))
"""

_MESHES = {
    "encoder-only": ["one", "all", "sequence"],
    "decoder-only": ["one", "all", "fsdp", "data", "parts"],
    "encoder-decoder": ["one", "all", "gathered"],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "architecture",
    ["decoder-only", *(pytest.param(name, marks=pytest.mark.slow) for name in ("encoder-decoder", "encoder-only"))],
)
def test_losses_do_not_depend_on_the_mesh(store, architecture):
    process = tiny.python(_SCRIPT, store, architecture, *_MESHES[architecture], devices=8, optimise=False)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    results = {line["mesh"]: line for line in map(json.loads, output.splitlines())}
    assert list(results) == _MESHES[architecture]
    reference = results["one"]["losses"]
    assert reference[0][0] > reference[-1][0]
    for result in results.values():
        assert result["losses"] == [pytest.approx(pair, rel=2e-5) for pair in reference]
        assert result["kept"], "the step must hand the state back where it found it"
    assert results["one"]["share"] == [1.0, 1.0]
    for name, most in (("all", 0.4), ("fsdp", 0.2)):
        if name in results:
            params, statistics = results[name]["share"]
            assert params < most
            # Means over a split dimension are as large on every device.
            assert statistics < (0.6 if architecture == "encoder-decoder" else most)
