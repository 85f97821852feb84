"""Chains of optax's transformations by name: what they compute, and what is said of names that are not there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.optimizers.test_optimizers import SHAPES, STEPS, problem, run, specs_of
from triarch.errors import UserError
from triarch.training.checkpoints import Checkpoints
from triarch.training.config import CheckpointConfig
from triarch.training.optimizers import optimizer as optimizers
from triarch.training.optimizers.adafactor import Adafactor
from triarch.training.optimizers.muon import Muon
from triarch.training.optimizers.optax_chain import TRANSFORMATIONS, OptaxChain
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant, Cosine
from triarch.training.state import TrainState

# Of those that have no default.
REQUIRED = {
    "add_decayed_weights": "0.1",
    "clip": "1.0",
    "clip_by_global_norm": "1.0",
    "ema": "0.9",
    "scale": "2.0",
    "scale_by_rprop": "0.1",
    "trace": "0.9",
    "adaptive_grad_clip": "0.1",
    "clip_by_block_rms": "1.0",
}


@pytest.mark.parametrize(
    ("steps", "same"),
    [
        (
            ("scale_by_adam(b1=0.8, b2=0.95, eps=1e-6)", "add_decayed_weights(0.1)"),
            AdamW(Cosine(0.05), 0.8, 0.95, 1e-6, weight_decay=0.1),
        ),
        (
            (
                "scale_by_factored_rms(min_dim_size_to_factor=3)",
                "clip_by_block_rms(1.0)",
                "scale_by_param_block_rms(min_scale=1e-3)",
            ),
            Adafactor(Cosine(0.05), factored=True, min_dim_to_factor=3),
        ),
    ],
    ids=["AdamW", "Adafactor"],
)
def test_named_parts_make_the_optimizers_there_are(steps, same):
    params, grads = problem(4)
    found = run(OptaxChain(Cosine(0.05), steps), params, grads)
    expected = run(same, params, grads)
    for name in SHAPES:
        assert np.abs(np.asarray(found[name]) - params[name]).max() > 1e-5
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_step_of_some_kinds_leaves_others_as_they_are():
    params, grads = problem(5)
    chain = OptaxChain(Constant(1.0), ("scale(0.0)", "scale_by_sign(only='vector')"), max_grad_norm=None)
    for name, value in run(chain, params, grads).items():
        np.testing.assert_array_equal(value, np.float32(params[name]))
    chain = OptaxChain(Constant(0.5), ("scale_by_sign(only=('vector',))", "scale(0.0, only='kernel')"))
    found = run(chain, params, grads[:1])
    np.testing.assert_allclose(found["bias"], params["bias"] - 0.5 * np.sign(grads[0]["bias"]), rtol=1e-6)
    np.testing.assert_array_equal(found["matrix"], np.float32(params["matrix"]))


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_every_transformation_can_be_named(name):
    optimizers.validate(OptaxChain(Constant(0.1), (f"{name}({REQUIRED.get(name, '')})",)), STEPS)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("scale_by_adma", r"no transformation 'scale_by_adma' \(did you mean 'scale_by_adamax'\?\)"),
        ("scale_by_adam(b3=0.9)", r"scale_by_adam has no argument 'b3' \(did you mean 'b2'\?\)"),
        ("scale_by_adam(b1='x')", "unsupported operand"),
        ("scale_by_lion(mode='x')", "Unknown lion mode: x"),
        ("clip", "missing a required argument: 'max_delta'"),
        ("clip(1.0, 2.0)", "too many positional arguments"),
        ("scale_by_adam(only='kernle')", r"no kind 'kernle' \(did you mean 'kernel'\?\)"),
        ("scale_by_learning_rate(0.1)", "OptaxChain.learning_rate is applied last"),
        ("scale_by_adam(b1=max(0.5, 0.9))", "expected a name with literal arguments"),
        ("scale(__import__('os').getpid())", "expected a name with literal arguments"),
        ("optax.scale(1.0)", "expected a name with literal arguments"),
        ("scale(", "expected a name with literal arguments"),
        ("scale(**{'step_size': 1.0})", "expected a name with literal arguments"),
        ("scale(" + "(" * 5000, "expected a name with literal arguments"),
    ],
)
def test_bad_steps_are_one_line(step, message):
    with pytest.raises(UserError, match=rf"^OptaxChain\.transformations: .*{message}") as raised:
        optimizers.validate(OptaxChain(Constant(0.1), ("scale_by_adam", step)), STEPS)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 700


def test_a_chain_needs_a_step():
    with pytest.raises(UserError, match="expected at least one"):
        optimizers.validate(OptaxChain(Constant(0.1), ()), STEPS)


def test_states_of_steps_are_of_what_they_are_applied_to():
    params, _ = problem()
    chain = OptaxChain(Constant(0.1), ("scale_by_adam(only='vector')",), max_grad_norm=None)
    state = optimizers.build(chain, STEPS, specs_of(params)).init(params)
    assert sorted(leaf.shape for leaf in jax.tree.leaves(state) if leaf.ndim) == [SHAPES["bias"]] * 2


@pytest.mark.parametrize(
    "optimizer",
    [
        Muon(Constant(0.1)),
        OptaxChain(
            Constant(0.1), ("scale_by_adam(only='kernel')", "scale_by_sm3(only=('vector', 'table'))", "trace(0.9)")
        ),
    ],
    ids=["Muon", "OptaxChain"],
)
def test_states_come_back_from_checkpoints(optimizer, tmp_path):
    """Also where parts of the parameters are masked out."""
    params, _ = problem()
    params = jax.tree.map(jnp.float32, params)
    transformation = optimizers.build(optimizer, STEPS, specs_of(params))
    opt_state = transformation.update(params, transformation.init(params), params)[1]
    state = TrainState(jnp.int32(1), params, opt_state)
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    checkpoints = Checkpoints(tmp_path / "checkpoints", CheckpointConfig())
    checkpoints.save(state, 1)
    checkpoints.wait()
    restored = checkpoints.restore(1, target)
    checkpoints.close()
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
