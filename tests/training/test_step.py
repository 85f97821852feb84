"""The update against a plain computation of the same loss, and microbatches against the whole batch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from tests.training import tiny
from triarch.models import Execution, Network, build
from triarch.sharding import AxisRules, Constrainer
from triarch.training.inputs import open_inputs
from triarch.training.optimizers import optimizer as optimizers
from triarch.training.optimizers.adafactor import Adafactor
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant, Cosine
from triarch.training.run import assemble
from triarch.training.state import abstract_state
from triarch.training.step import all_finite


def weighted(run):
    """The first batch with loss weights that differ from row to row."""
    batch = dict(next(run.batches(0)))
    rng = np.random.default_rng(1)
    for name in batch:
        if name.endswith("loss_weights"):
            batch[name] = jnp.asarray(rng.uniform(0, 2, batch[name].shape) * (rng.random(batch[name].shape) < 0.7))
            batch[name] = batch[name].astype(jnp.float32)
    return batch


def naive_loss(model, batch, z_loss):
    logits = model(batch)
    log_z = jax.scipy.special.logsumexp(logits, axis=-1)
    picked = jnp.take_along_axis(logits, batch["decoder_target_tokens"][..., None], axis=-1)[..., 0]
    weights = batch["decoder_loss_weights"]
    return (weights * (log_z - picked + z_loss * log_z**2)).sum() / weights.sum()


def test_update_follows_the_gradient_of_the_mean(config):
    config = dataclasses.replace(config, z_loss=0.01)
    run = assemble(config, open_inputs(config))
    batch = weighted(run)
    state = run.initial_state()
    loss, grads = jax.jit(jax.value_and_grad(lambda p: naive_loss(run.network.merge(p), batch, 0.01)))(state.params)
    norm = np.sqrt(sum((np.asarray(g, np.float64) ** 2).sum() for g in jax.tree.leaves(grads)))
    logits = np.asarray(jax.jit(lambda p: run.network.merge(p)(batch))(state.params))
    weights = np.asarray(batch["decoder_loss_weights"])
    right = (logits.argmax(-1) == np.asarray(batch["decoder_target_tokens"])) * weights

    state, metrics = run.train_step(state, batch)

    assert float(metrics["loss"] + metrics["z_loss"]) == pytest.approx(float(loss), rel=1e-6)
    assert float(metrics["grad_norm"]) == pytest.approx(norm, rel=1e-5)
    assert float(metrics["accuracy"]) == pytest.approx(right.sum() / weights.sum(), abs=1e-7)
    assert float(metrics["learning_rate"]) == 0.0
    assert int(state.step) == 1
    _, metrics = run.train_step(state, batch)
    assert float(metrics["learning_rate"]) == pytest.approx(3e-3 / 5)


@pytest.mark.slow
def test_microbatches_sum_to_the_whole_batch(config):
    """With unequal weights a mean of means would differ."""
    optimizer = AdamW(Constant(1e-2), epsilon=1e-3)
    results = []
    for microbatches in (1, 4):
        changed = dataclasses.replace(config, microbatches=microbatches, optimizer=optimizer)
        run = assemble(changed, open_inputs(changed))
        batch = weighted(run)
        evaluation = run.eval_step(run.initial_state().params, batch)
        state, metrics = run.train_step(run.initial_state(), batch)
        results.append((state.params, metrics, evaluation))
    (params, metrics, evaluation), (params4, metrics4, evaluation4) = results
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6), params, params4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6), metrics, metrics4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6), evaluation, evaluation4)
    measured = evaluation.measures["loss"]
    assert float(measured.total / measured.weight) == pytest.approx(float(metrics["loss"]), rel=1e-6)


def test_a_batch_without_weights_changes_nothing(config):
    optimizer = AdamW(Constant(1e-2), weight_decay=0.0)
    changed = dataclasses.replace(config, optimizer=optimizer)
    run = assemble(changed, open_inputs(changed))
    batch = dict(next(run.batches(0)))
    batch["decoder_loss_weights"] = jnp.zeros_like(batch["decoder_loss_weights"])
    before = jax.tree.map(np.asarray, run.initial_state().params)
    state, metrics = run.train_step(run.initial_state(), batch)
    assert float(metrics["loss"]) == 0.0
    jax.tree.map(np.testing.assert_array_equal, before, state.params)


@pytest.mark.parametrize("architecture", list(tiny.LAYERS))
def test_overfits_one_batch(architecture, store, cache):
    # A rate that falls lets the loss settle instead of bouncing about its end.
    optimizer = AdamW(Cosine(1e-2, warmup_steps=5), weight_decay=0.0)
    config = tiny.run_config(store, architecture, optimizer=optimizer, steps=250, compilation_cache=cache)
    run = assemble(config, open_inputs(config))
    batch = dict(next(run.batches(0)))
    if architecture == "decoder-only":
        # Nothing stands before the first token, so nothing can tell which row's it is.
        batch["decoder_loss_weights"] = batch["decoder_loss_weights"].at[:, 0].set(0.0)
    state = run.initial_state()
    for step in range(250):
        state, metrics = run.train_step(state, batch)
        if step == 0:
            assert float(metrics["loss"]) == pytest.approx(np.log(tiny.VOCABULARY), rel=0.02)
    assert float(metrics["loss"]) < 0.05
    assert float(metrics["accuracy"]) > 0.95


def test_parameters_are_those_of_build(config):
    """`merge` puts every parameter where `init` took it from."""
    run = assemble(config, open_inputs(config))
    batch = next(run.batches(0))
    direct = build(config.model, config.execution, nnx.Rngs(params=config.seed))
    ours = run.network.merge(run.initial_state().params)
    np.testing.assert_allclose(nnx.jit(ours)(batch), nnx.jit(direct)(batch), rtol=1e-5, atol=1e-5)
    assert sum(leaf.size for leaf in jax.tree.leaves(run.target.params)) == config.model.num_params()


def test_factored_statistics_are_split_as_their_parameters():
    mesh = jax.sharding.AbstractMesh((2, 4, 2), ("data", "fsdp", "tensor"))
    config = tiny.model("decoder-only")
    network = Network(config, Execution().on("cpu"), Constrainer(AxisRules(), mesh))
    optimizer = optimizers.build(
        Adafactor(Constant(0.1), factored=True, min_dim_to_factor=4), 10, network.trained_specs
    )
    state = abstract_state(network, optimizer, AxisRules(), mesh)
    params = state.params["decoder"]["scanned"]["0"]
    statistics = state.opt_state[1].statistics["decoder"]["scanned"]["0"]
    found = 0
    for (path, spec), stats in zip(
        jax.tree_util.tree_leaves_with_path(jax.tree.map(lambda leaf: leaf.sharding.spec, params)),
        jax.tree.leaves(statistics, is_leaf=lambda node: isinstance(node, dict) and bool(node.keys() & {"v", "v_row"})),
        strict=True,
    ):
        if "v" in stats:
            assert stats["v"].sharding.spec == spec
            continue
        found += 1
        kept = sorted(str(axis) for axis in spec if axis is not None)
        split = [axis for name in ("v_row", "v_column") for axis in stats[name].sharding.spec if axis is not None]
        assert set(map(str, split)) == set(kept), path
    assert found > 3
    assert state.step.sharding.spec == PartitionSpec()


def test_all_finite_sees_a_single_nan():
    params = {"a": jnp.ones((3, 3)), "b": jnp.ones(4)}
    assert bool(all_finite(params))
    assert not bool(all_finite(params | {"b": jnp.ones(4).at[2].set(jnp.nan)}))
    assert not bool(all_finite(params | {"a": jnp.ones((3, 3)).at[1, 1].set(-jnp.inf)}))
