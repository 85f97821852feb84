"""A network of experts on one device and on eight, whose experts live apart: the same losses."""

import json

import pytest

from tests.training import tiny
from triarch.errors import UserError
from triarch.sharding import AxisRules, MeshConfig, check_split

_SCRIPT = """
import json, sys
import jax
from tests.training import tiny
from triarch.models import Execution
from triarch.models.layers.experts import Experts
from triarch.sharding import MeshConfig
from triarch.training.inputs import open_inputs
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant
from triarch.training.run import assemble

MESHES = {
    "one": (MeshConfig(), 1, Execution()),
    "experts": (MeshConfig(data=2, expert=4), 8, Execution()),
    "all": (MeshConfig(data=1, fsdp=2, expert=2, tensor=2), 8, Execution(gather="layer")),
}
store, architecture, limit = sys.argv[1:]
experts = Experts(4, 2, capacity_factor=1.0 if limit == "limited" else None, router_z_loss=1e-3)
for name, (mesh, devices, execution) in MESHES.items():
    config = tiny.run_config(
        store, architecture, model=tiny.model(architecture, feed_forward=experts), mesh=mesh, batch_size=16,
        optimizer=AdamW(Constant(1e-2), epsilon=1e-3), execution=execution,
    )
    run = assemble(config, open_inputs(config), jax.devices()[:devices])
    state = run.initial_state()
    held = max(
        leaf.addressable_shards[0].data.size / leaf.size for leaf in jax.tree.leaves(state.params) if leaf.ndim == 4
    )
    losses = []
    for _, batch in zip(range(4), run.batches(0)):
        state, metrics = run.train_step(state, batch)
        losses.append([float(metrics[key]) for key in ("loss", "balance_loss", "grad_norm")])
    abstract = run.train_step.lower(run.target, batch).compile().as_text() if name == "experts" else ""
    print(json.dumps({"mesh": name, "losses": losses, "held": held, "sent": abstract.count("all-to-all(")}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "limit"), [("decoder-only", "none"), ("encoder-decoder", "limited")])
def test_losses_do_not_depend_on_where_experts_live(store, architecture, limit):
    process = tiny.python(_SCRIPT, store, architecture, limit, devices=8, optimise=False)
    output, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors
    one, experts, every = map(json.loads, output.splitlines())
    assert one["losses"][0][0] > one["losses"][-1][0]
    for other in (experts, every):
        for found, expected in zip(other["losses"], one["losses"], strict=True):
            assert found == pytest.approx(expected, rel=2e-4), other["mesh"]
    assert (one["held"], experts["held"]) == (1, 1 / 4)
    assert (experts["sent"] > 0) == (limit == "limited")


def test_an_axis_that_does_not_divide_the_experts_is_one_line():
    class Mesh:
        shape = MeshConfig(data=1, expert=3).sizes(3)

    with pytest.raises(UserError, match="mesh axis expert=3 does not divide experts = 8: choose expert among"):
        check_split(AxisRules(), Mesh(), {"experts": 8})
