"""Training of some parameters: which these are, and that the others neither change nor cost anything."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from tests.training import tiny
from triarch.errors import UserError
from triarch.models import Execution, build
from triarch.models.network import flatten, parameters_of, specs, unflatten
from triarch.objectives.losses import loss_fn, scored_features
from triarch.planning.programs import abstract_batch
from triarch.readable import shortened
from triarch.training import CheckpointConfig, train
from triarch.training.config import validate
from triarch.training.inputs import open_inputs
from triarch.training.optimizers.frozen import trained_names
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant
from triarch.training.run import assemble

MODEL = tiny.model("encoder-decoder")
RATE = 0.01


def test_kinds_names_and_beginnings_are_patterns():
    known = specs(MODEL)
    everything = frozenset(known)
    assert trained_names(MODEL, (), ()) is None
    assert trained_names(MODEL, (), ("embedding",)) == everything - {"embedding/table"}
    assert trained_names(MODEL, ("encoder",), ()) == {name for name in known if name.startswith("encoder/")}
    assert trained_names(MODEL, ("kernel",), ("decoder/*",)) == {
        name for name, spec in known.items() if spec.kind == "kernel" and not name.startswith("decoder/")
    }
    assert trained_names(MODEL, ("*/query", "*/value"), ()) == {
        name for name in known if name.endswith(("/query", "/value"))
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"frozen": ("embeding",)},
            r"RunConfig.frozen: 'embeding' names no .* \(did you mean 'embedding'\?\)",
        ),
        ({"frozen": ("embedding", "tabel")}, r"RunConfig.frozen: 'tabel' .* \(did you mean 'table'\?\)"),
        ({"train_only": ("decoder/scaned/0",)}, r"RunConfig.train_only: .* \(did you mean 'decoder/scanned/0'\?\)"),
        ({"train_only": ("adapter",)}, "RunConfig.train_only: 'adapter' names no parameter of this network"),
        ({"train_only": ("encoder",), "frozen": ("encoder",)}, "leave no parameter to train"),
        ({"frozen": ("*",)}, "leave no parameter to train"),
    ],
)
def test_what_names_nothing_is_one_line(changes, message):
    config = tiny.run_config("store", "encoder-decoder", **changes)
    with pytest.raises(UserError, match=message):
        validate(config)


def by_hand(config, batches):
    """Steps with gradients of all parameters, of which optax throws those of frozen ones away."""
    model = build(config.model, config.execution, nnx.Rngs(params=config.seed))
    graph, _ = nnx.split(model)
    params = parameters_of(model)
    labels = unflatten({name: "frozen" if "embedding" in name else "trained" for name in flatten(params)})
    decays = unflatten({name: not name.endswith("scale") for name in flatten(params)})

    def only(mask):
        return jax.tree.map(lambda label, x: x if label == "trained" else optax.MaskedNode(), labels, mask)

    trained = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(RATE, 0.9, 0.95, weight_decay=0.1, mask=only(decays)),
    )
    transformation = optax.multi_transform({"trained": trained, "frozen": optax.set_to_zero()}, labels)
    state = transformation.init(params)

    @jax.jit
    def step(params, state, batch):
        def loss(params):
            leaves = [
                (path, variable.replace(flatten(params)["/".join(map(str, path))]))
                for path, variable in nnx.to_flat_state(nnx.state(model))
            ]
            total, _ = loss_fn(nnx.merge(graph, nnx.from_flat_state(leaves)), batch, z_loss=config.z_loss, chunk=0)
            return total / scored_features(batch)[1].sum()

        updates, state_after = transformation.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state_after

    for batch in batches:
        params, state = step(params, state, batch)
    return flatten(params)


@pytest.mark.slow
def test_steps_are_those_of_an_optimizer_that_ignores_frozen_gradients(store):
    optimizer = AdamW(Constant(RATE))
    config = tiny.run_config(store, "encoder-decoder", optimizer=optimizer, frozen=("embedding",), microbatches=2)
    run = assemble(config, open_inputs(config))
    state = run.initial_state()
    before = jax.tree.map(np.asarray, flatten(state.params))
    batches = [batch for batch, _ in zip(run.batches(0), range(4), strict=False)]
    for batch in batches:
        state, metrics = run.train_step(state, batch)
    assert float(metrics["grad_norm"]) > 0
    found, expected = flatten(state.params), by_hand(config, batches)
    for name, value in found.items():
        if name.startswith("embedding"):
            np.testing.assert_array_equal(value, before[name])
        else:
            assert np.abs(value - before[name]).max() > RATE
            # Adam divides gradients by their size: of the smallest ones, rounding is what is left.
            np.testing.assert_allclose(value, expected[name], rtol=1e-3, atol=1e-2 * RATE, err_msg=name)


def test_frozen_parameters_have_no_state_and_no_gradients(config):
    changed = dataclasses.replace(config, frozen=("embedding", "vector"))
    run = assemble(changed, open_inputs(changed))
    names = run.network.trained_names
    assert names == {name for name, spec in run.network.specs.items() if spec.kind == "kernel"}
    moments = run.target.opt_state[1][0]
    assert set(flatten(moments.mu)) == set(flatten(moments.nu)) == names
    assert set(flatten(run.target.params)) == set(run.network.specs)


def test_gradients_of_frozen_kernels_are_not_computed(config):
    config = dataclasses.replace(config, execution=Execution("float32", scan_layers=False))

    def flops(**changes):
        run = assemble(changed := dataclasses.replace(config, **changes), open_inputs(changed))
        batch = abstract_batch(run.config, run.batch_layout, packed=False)
        return run.train_step.lower(run.target, batch).cost_analysis()["flops"]

    sizes = sum(np.prod(spec.shape) for spec in specs(config.model).values() if spec.kind == "kernel")
    # A gradient is a product with every token; what an optimizer does for a parameter is some tens of operations more.
    products = 2 * config.batch_size * tiny.WINDOW * sizes
    assert products < flops() - flops(frozen=("kernel",)) < products + 50 * sizes


@pytest.mark.slow
def test_a_resumed_run_is_bit_equal_and_checkpoints_hold_all(config, tmp_path, capsys):
    config = dataclasses.replace(
        config, train_only=("decoder",), frozen=("*/query",), checkpoint=CheckpointConfig(every=4, keep_last=3)
    )
    train(config, tmp_path / "whole", "")
    count = sum(np.prod(spec.shape) for name, spec in specs(config.model).items() if is_trained(name))
    assert f"decoder-only, {shortened(count)} of {shortened(config.model.num_params())} parameters" in said(capsys)
    shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
    for step in (8, 12):
        shutil.rmtree(tmp_path / "resumed" / "checkpoints" / str(step))
    train(config, tmp_path / "resumed", "")
    whole, resumed = (restored(tmp_path / name, 12) for name in ("whole", "resumed"))
    assert set(whole) == set(specs(config.model))
    first = restored(tmp_path / "whole", 4)
    for name, value in whole.items():
        np.testing.assert_array_equal(value, resumed[name], err_msg=name)
        assert (value != first[name]).any() == is_trained(name), name


def is_trained(name):
    return name.startswith("decoder/") and not name.endswith("/query")


def said(capsys):
    return "".join(capsys.readouterr())


def restored(workdir, step):
    with ocp.StandardCheckpointer() as checkpointer:
        return flatten(checkpointer.restore(workdir.absolute() / "checkpoints" / str(step) / "params"))


def test_what_is_trained_cannot_change_on_the_way(config, tmp_path):
    train(dataclasses.replace(config, steps=6), tmp_path, "")
    with pytest.raises(UserError, match=r"frozen: \[\] -> \['embedding'\]"):
        train(dataclasses.replace(config, steps=6, frozen=("embedding",)), tmp_path, "")
    with pytest.raises(UserError, match="a run cannot change this on its way: frozen"):
        train(dataclasses.replace(config, steps=8, frozen=("embedding",)), tmp_path, "", may_change=True)
    assert jnp.isfinite(jnp.asarray(tiny.losses(tmp_path)[6]))
