"""Dropout in training: resumption, microbatches and devices change none of it, and evaluations have none."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from tests.training import tiny
from triarch.models import Dropout
from triarch.planning.programs import abstract_batch
from triarch.training import train
from triarch.training.inputs import open_inputs
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant
from triarch.training.record.config_classes import to_plain
from triarch.training.record.fingerprint import config_fingerprint
from triarch.training.run import assemble

RATES = Dropout(0.1, 0.2, 0.1, 0.1, attention_weights=0.1, inner=0.1)


def after(config, steps=2):
    run = assemble(config, open_inputs(config))
    state = run.initial_state()
    batches = run.batches(0)
    for _ in range(steps):
        batch = next(batches)
        state, metrics = run.train_step(state, batch)
    return run, state, metrics, batch


@pytest.mark.slow
def test_microbatches_leave_out_the_same(config):
    whole = dataclasses.replace(config, dropout=RATES, optimizer=AdamW(Constant(1e-2), epsilon=1e-3))
    _, state, metrics, _ = after(whole)
    _, state4, metrics4, _ = after(dataclasses.replace(whole, microbatches=4))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6), state.params, state4.params)
    assert float(metrics4["loss"]) == pytest.approx(float(metrics["loss"]), rel=2e-6)


@pytest.mark.slow
def test_evaluations_leave_nothing_out(config):
    run, state, metrics, batch = after(dataclasses.replace(config, dropout=RATES), steps=1)
    plain, _, without, _ = after(config, steps=1)
    assert float(metrics["loss"]) != float(without["loss"])
    found, expected = (jax.tree.map(float, one.eval_step(state.params, batch)) for one in (run, plain))
    assert found == expected


def test_a_resumed_run_leaves_out_what_the_whole_one_did(config, tmp_path):
    config = dataclasses.replace(config, dropout=RATES, steps=8)
    train(config, tmp_path, "")
    whole = tiny.losses(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints" / "8")
    (tmp_path / "summary.json").unlink()
    train(config, tmp_path, "")
    assert tiny.losses(tmp_path) == whole


def test_no_dropout_is_no_other_run_than_before(config):
    plain = to_plain(config)
    older = {name: value for name, value in plain.items() if name != "dropout"}
    assert config_fingerprint(plain) == config_fingerprint(older)
    assert config_fingerprint(to_plain(dataclasses.replace(config, dropout=RATES))) != config_fingerprint(older)


_SCRIPT = """
import json, sys
import jax
from tests.training import tiny
from triarch.models import Dropout
from triarch.sharding import MeshConfig
from triarch.training.inputs import open_inputs
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.run import assemble
from triarch.training.optimizers.schedules import Constant

for mesh, devices, microbatches in (
    (MeshConfig(), 1, 1), (MeshConfig(2, 2, 2), 8, 2), (MeshConfig(1, 2, 2, sequence=2), 8, 1)
):
    config = tiny.run_config(
        sys.argv[1], "encoder-decoder", optimizer=AdamW(Constant(1e-2), epsilon=1e-3), mesh=mesh, batch_size=16,
        microbatches=microbatches, dropout=Dropout(0.1, 0.2, 0.1, 0.1, attention_weights=0.1, inner=0.1),
    )
    run = assemble(config, open_inputs(config), jax.devices()[:devices])
    state, losses = run.initial_state(), []
    for _, batch in zip(range(3), run.batches(0)):
        state, metrics = run.train_step(state, batch)
        losses.append([float(metrics["loss"]), float(metrics["grad_norm"])])
    print(json.dumps(losses))
"""


@pytest.mark.slow
def test_devices_leave_out_the_same(store):
    process = tiny.python(_SCRIPT, store, devices=8, optimise=False)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    reference, *others = map(json.loads, output.splitlines())
    for losses in others:
        assert losses == [pytest.approx(pair, rel=2e-5) for pair in reference]


def test_the_update_can_be_compiled_ahead_of_time(config):
    run = assemble(dataclasses.replace(config, dropout=RATES), open_inputs(config))
    text = run.train_step.lower(run.target, abstract_batch(config, run.batch_layout, packed=False)).as_text()
    plain = assemble(config, open_inputs(config))
    without = plain.train_step.lower(plain.target, abstract_batch(config, plain.batch_layout, packed=False)).as_text()
    assert "threefry" in text
    assert "threefry" not in without
