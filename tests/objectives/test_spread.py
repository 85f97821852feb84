"""The loss on eight devices: the dense formula's gradients, and sums over devices once, not once a chunk."""

import json

import pytest

from tests.training import tiny

_SCRIPT = """
import json
import jax
import jax.numpy as jnp
import numpy as np
from tests.objectives.test_cross_entropy import VOCAB, WIDTH, dense, example
from triarch.models.layers.embedding import Unembedding
from triarch.objectives.cross_entropy import cross_entropy
from triarch.objectives.spread import Spread
from triarch.planning import hlo
from triarch.planning.collectives import KINDS
from triarch.sharding import AxisRules, Constrainer, MeshConfig, make_mesh

hidden, unembedding, targets, weights = example(16, 12, scale=0.3, softcap=3.0)
_, sums, gradients = dense(hidden, unembedding, targets, weights, 1e-2)
wanted = [sums[0] + sums[1], *gradients]
for name, sizes in {"fsdp": (1, 8), "data": (4, 2), "sequence": (2, 2, 1, 2), "tensor": (2, 1, 1, 2, 2)}.items():
    constrain = Constrainer(AxisRules(), make_mesh(MeshConfig(*sizes)))

    def loss(hidden, kernel, bias):
        spread = Spread(constrain, narrow_sums=False)
        there = Unembedding(kernel, bias, unembedding.scale, unembedding.softcap)
        return cross_entropy(hidden, there, targets, weights, 1e-2, 2, spread)[0]

    whole, rows = (jax.NamedSharding(constrain.devices, constrain.spec(axes, hidden.shape[: len(axes)]))
                   for axes in ((None,), ("batch", "length")))
    home = constrain.at_home
    step = jax.jit(
        lambda h, k, b: jax.value_and_grad(loss, (0, 1, 2))(h, home(k, ("vocab", "embed")), b),
        in_shardings=(rows, whole, whole),
    ).lower(hidden, unembedding.kernel, unembedding.bias).compile()
    value, slopes = step(*(jax.device_put(x, s) for x, s in zip((hidden, unembedding.kernel, unembedding.bias),
                                                             (rows, whole, whole))))
    error = max(np.abs(np.asarray(a) - b).max() / max(1, np.abs(b).max()) for a, b in zip([value, *slopes], wanted))
    moved = [(times, max(array.size for array in one.arrays)) for one, _, times in hlo.parse(step.as_text()).executed()
             if one.opcode.removesuffix("-start") in KINDS]
    print(json.dumps({"mesh": name, "error": float(error), "moved": moved, "kernel": VOCAB * WIDTH}))
"""


@pytest.fixture(scope="module")
def results():
    process = tiny.python(_SCRIPT, devices=8)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return {line["mesh"]: line for line in map(json.loads, output.splitlines())}


def test_gradients_equal_the_dense_formula(results):
    assert list(results) == ["fsdp", "data", "sequence", "tensor"]
    assert all(result["error"] < 1e-6 for result in results.values())


def test_the_loop_over_chunks_sends_nothing(results):
    """Its gradient of the unembedding meets those of other devices once, after the loop; tensor parallelism apart,
    which splits each product and has to add up the parts."""
    for name, result in results.items():
        loops = [size for times, size in result["moved"] if times > 1]
        assert not loops or (name == "tensor" and max(loops) < result["kernel"])
        assert sum(size >= result["kernel"] / 2 for times, size in result["moved"] if times == 1)
