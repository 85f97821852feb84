"""Muon: kernels by orthogonal updates, the rest by AdamW; against numpy in float64 and optax on what is not stacked."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from jax.sharding import PartitionSpec

from tests.training import tiny
from triarch.models import Execution, Network
from triarch.models.network import ParameterSpec
from triarch.sharding import AxisRules, Constrainer
from triarch.training.optimizers import optimizer as optimizers
from triarch.training.optimizers.muon import Muon
from triarch.training.optimizers.schedules import Constant
from triarch.training.state import abstract_state

SPECS = {
    "wide": ParameterSpec((6, 10), ("embed", "mlp"), "kernel"),
    "tall": ParameterSpec((9, 4), ("mlp", "embed"), "kernel"),
    "table": ParameterSpec((12, 6), ("vocab", "embed"), "table"),
    "bias": ParameterSpec((7,), ("embed",), "vector"),
}
RATE, DECAY = 0.05, 0.1


def problem(steps=5):
    rng = np.random.default_rng(0)
    params = {name: rng.normal(size=spec.shape) for name, spec in SPECS.items()}
    return params, [{name: rng.normal(size=spec.shape) for name, spec in SPECS.items()} for _ in range(steps)]


def run(transformation, params, grads):
    params = {name: jnp.asarray(value, jnp.float32) for name, value in params.items()}
    state = transformation.init(params)
    update = jax.jit(transformation.update)
    for grad in grads:
        updates, state = update({n: jnp.asarray(grad[n], jnp.float32) for n in params}, state, params)
        params = optax.apply_updates(params, updates)
    return params


def orthogonal(matrix, iterations=5):
    """Newton-Schulz by the polynomial of Jordan et al."""
    x = matrix / np.linalg.norm(matrix)
    for _ in range(iterations):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x


@pytest.mark.parametrize("rms", [0.2, None])
def test_kernels_are_muons(rms):
    params, grads = problem()
    muon = Muon(Constant(RATE), weight_decay=DECAY, update_rms=rms, max_grad_norm=None)
    ours = run(optimizers.build(muon, 10, SPECS), params, grads)
    for name in ("wide", "tall"):
        expected, momentum = params[name], 0.0
        rows, columns = expected.shape
        scale = np.sqrt(max(1, columns / rows)) if rms is None else rms * np.sqrt(max(rows, columns))
        for t, grad in enumerate(grads, 1):
            momentum = 0.95 * momentum + 0.05 * grad[name]
            ahead = 0.95 * momentum / (1 - 0.95 ** (t + 1)) + 0.05 * grad[name] / (1 - 0.95**t)
            expected = expected - RATE * (scale * orthogonal(ahead) + DECAY * expected)
        # The polynomials multiply rounding by up to 3.44 an iteration.
        np.testing.assert_allclose(ours[name], expected, rtol=1e-3, atol=1e-4)


def test_all_others_are_adamws():
    params, grads = problem()
    muon = Muon(Constant(RATE), weight_decay=DECAY, adam_rate=0.5, max_grad_norm=None)
    ours = run(optimizers.build(muon, 10, SPECS), params, grads)
    others = {name: params[name] for name in ("table", "bias")}
    adamw = optax.adamw(RATE / 2, 0.9, 0.95, weight_decay=DECAY, mask={"table": True, "bias": False})
    for name, expected in run(adamw, others, grads).items():
        np.testing.assert_allclose(ours[name], expected, rtol=1e-6, atol=1e-7)


def test_what_is_not_stacked_is_trained_as_by_optax_alone():
    params, grads = problem()
    kernels = {name: params[name] for name in ("wide", "tall", "bias")}
    specs = {name: SPECS[name] for name in kernels}
    # Looking ahead, optax's does so for vectors too.
    muon = Muon(Constant(RATE), nesterov=False, max_grad_norm=None)
    ours = run(optimizers.build(muon, 10, specs), kernels, grads)
    alone = optax.contrib.muon(RATE, weight_decay=0.1, adam_b2=0.95, consistent_rms=0.2, nesterov=False)
    for name, expected in run(alone, kernels, grads).items():
        np.testing.assert_allclose(ours[name], expected, rtol=1e-5, atol=1e-6)


def test_its_state_is_split_as_its_parameters():
    mesh = jax.sharding.AbstractMesh((2, 4, 2), ("data", "fsdp", "tensor"))
    network = Network(tiny.model("encoder-decoder"), Execution().on("cpu"), Constrainer(AxisRules(), mesh))
    specs = network.trained_specs
    muon = optimizers.build(Muon(Constant(RATE)), 10, specs)
    state = abstract_state(network, muon, AxisRules(), mesh)
    states = state.opt_state[1].inner_states
    momentum = states["muon"].inner_state.inner_states["muon"].inner_state[0].mu
    moments = states["adam"].inner_state[0]
    up = ("decoder", "scanned", "0", "mlp", "up")
    for tree in (state.params, momentum):
        for key in up:
            tree = tree[key]
        assert tree.sharding.spec == PartitionSpec(None, "fsdp", "tensor")
    for tree in (state.params, moments.mu, moments.nu):
        assert tree["embedding"]["table"].sharding.spec == PartitionSpec("tensor", "fsdp")
    # One momentum of kernels, two moments of all others, and the coefficients of Newton-Schulz.
    sizes = [(leaf.size, spec.kind) for leaf, spec in zip(*map(jax.tree.leaves, (state.params, specs)), strict=True)]
    expected = sum(size * (1 if kind == "kernel" else 2) for size, kind in sizes) + 3
    assert sum(leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim) == expected
