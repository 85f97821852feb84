"""Distillation: the formula in numpy, finite differences, and runs that go on without keeping the teacher."""

from __future__ import annotations

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import triarch
from tests.interchange import exports
from tests.models import tiny as models
from tests.training import tiny
from triarch.errors import UserError
from triarch.interchange import orbax_folder
from triarch.models.network import Network, flatten, unflatten
from triarch.objectives import CausalLM, Distill, LossOptions, PrefixLM, SpecialTokens
from triarch.training import train

WINDOW = 12
SPECIAL = SpecialTokens.placeholders(61, WINDOW)
UNKNOWN = dataclasses.replace(exports.ORIGIN, vocabulary=None)
# Of the student's vocabulary, in all else another network.
TEACHER = dataclasses.replace(models.DECLLM, d_model=12, num_decoder_layers=2)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return exports.export(tmp_path_factory.mktemp("teacher"), TEACHER, UNKNOWN)


def bound(student, objective, folder, z_loss=0.0, **options):
    distill = Distill(objective, str(folder), **options)
    return distill.bind(student.architecture, SPECIAL, 61, WINDOW, LossOptions(z_loss, chunk=3))


def batch_of(objective):
    rows = [
        objective.features({"tokens": np.random.default_rng(row).integers(4, 61, WINDOW)}, np.random.default_rng(row))
        for row in range(3)
    ]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def values_of(student, network):
    """Returns parameters of a student with its teacher beside it."""
    own = {"/".join(map(str, path)): value for path, value in models.parameters(student).items()}
    beside = {"/".join(["head/network", *map(str, path)]): x for path, x in models.parameters(TEACHER).items()}
    assert {**own, **beside}.keys() == network.specs.keys()
    return {name: jnp.asarray(value) for name, value in {**own, **beside}.items()}


def log_softmax(x):
    x = np.asarray(x, np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize(
    ("student", "inner"),
    [(models.DECLLM, CausalLM()), (models.REDLLM, PrefixLM(split="uniform"))],
    ids=["as the teacher", "an encoder-decoder"],
)
def test_the_loss_is_the_formula(student, inner, teacher):
    temperature, weight = 2.0, 0.75
    objective = bound(student, inner, teacher, temperature=temperature, weight=weight)
    batch, network = batch_of(objective), Network(student, models.FLOAT32, make_head=objective.make_head)
    params = unflatten(values_of(student, network))
    total, sums = models.fast_jit(lambda p, b: objective.loss(network.merge(p), b))(params, batch)
    own = exports.logits(student, {name: x for name, x in batch.items() if not name.startswith("teacher_")})
    alike = student.architecture == "decoder-only"
    theirs = batch if alike else {n.removeprefix("teacher_"): x for n, x in batch.items() if n.startswith("teacher_")}
    wanted = exports.logits(TEACHER, theirs)
    divergence = entropy = count = 0.0
    for row in range(3):
        places, others = (np.flatnonzero(b["decoder_loss_weights"][row]) for b in (batch, theirs))
        np.testing.assert_array_equal(
            batch["decoder_target_tokens"][row, places], theirs["decoder_target_tokens"][row, others]
        )
        p, q = (log_softmax(x / temperature) for x in (wanted[row, others], own[row, places]))
        divergence += (np.exp(p) * (p - q)).sum()
        entropy -= log_softmax(own[row, places])[range(len(places)), batch["decoder_target_tokens"][row, places]].sum()
        count += len(places)
    assert float(total) == pytest.approx(weight * temperature**2 * divergence + (1 - weight) * entropy, rel=1e-5)
    assert float(sums.measures["teacher_kl"].total) == pytest.approx(divergence, rel=1e-5)
    assert float(sums.measures["loss"].total) == pytest.approx(entropy, rel=1e-5)
    assert float(sums.measures["loss"].weight) == count == float(objective.weight(batch))


def test_the_gradient_is_that_of_finite_differences(teacher):
    objective = bound(models.DECLLM, CausalLM(), teacher, z_loss=1e-2, temperature=1.5, weight=0.6)
    with jax.enable_x64(True):
        network = Network(models.DECLLM, models.FLOAT64, make_head=objective.make_head)
        values = values_of(models.DECLLM, network)
        own = {n: jnp.asarray(v, jnp.float64) for n, v in values.items() if not n.startswith("head/")}
        head = {name: value for name, value in values.items() if name.startswith("head/")}
        batch = batch_of(objective)

        def loss(own):
            return objective.loss(network.merge(unflatten(own | head)), batch)[0]

        value, slopes = models.fast_jit(loss), models.fast_jit(jax.grad(loss))(own)
        for name in ("embedding/table", "decoder/scanned/0/attention/query", "decoder/scanned/0/mlp/down"):
            direction = np.random.default_rng(1).normal(size=own[name].shape)
            step = 1e-5
            ahead, behind = (value(own | {name: own[name] + sign * step * direction}) for sign in (1, -1))
            expected = float(ahead - behind) / (2 * step)
            assert float(jnp.sum(slopes[name] * direction)) == pytest.approx(expected, rel=1e-5), name


@pytest.mark.slow
def test_the_teacher_has_no_gradient(teacher):
    objective = bound(models.DECLLM, CausalLM(), teacher)
    network = Network(models.DECLLM, models.FLOAT32, make_head=objective.make_head)
    params, batch = unflatten(values_of(models.DECLLM, network)), batch_of(objective)
    slopes = models.fast_jit(jax.grad(lambda p: objective.loss(network.merge(p), batch)[0]))(params)
    for name, slope in flatten(slopes).items():
        assert bool(jnp.any(slope)) != name.startswith("head/"), name


@pytest.mark.slow
def test_a_run_goes_on_bit_for_bit_and_keeps_no_teacher(tmp_path):
    store = tiny.write_store(tmp_path / "store")
    train(tiny.run_config(store, "decoder-only"), tmp_path / "teacher", "")
    objective = Distill(PrefixLM(), str(tmp_path / "teacher"), weight=0.5)
    config = tiny.run_config(store, "encoder-decoder", objective=objective, eval_every=6)
    whole = train(config, tmp_path / "whole", "")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "12")
    again = train(config, tmp_path / "cut", "")
    assert again["loss"] == whole["loss"]
    folders = [tmp_path / name / "checkpoints" / "12" / "params" for name in ("whole", "cut")]
    names = orbax_folder.shapes(folders[0])
    assert not any(name.startswith("head/") for name in names)
    first, second = (flatten(triarch.load(tmp_path / name).params) for name in ("whole", "cut"))
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])
    # Another teacher in its place is another run.
    train(tiny.run_config(store, "decoder-only", seed=1), tmp_path / "other", "")
    shutil.rmtree(tmp_path / "teacher")
    (tmp_path / "other").rename(tmp_path / "teacher")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "12")
    with pytest.raises(UserError, match="holds other parameters"):
        train(config, tmp_path / "cut", "")


def test_what_does_not_go_is_one_line(teacher, tmp_path):
    store = tiny.write_store(tmp_path / "store")

    def message(objective, **changes):
        with pytest.raises(UserError) as caught:
            train(tiny.run_config(store, "decoder-only", objective=objective, **changes), tmp_path / "run", "")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no run or export is there" in message(Distill(CausalLM(), str(tmp_path / "none")))
    assert "predicts 61 tokens, the run's network 32" in message(Distill(CausalLM(), str(teacher)))
    foreign = dataclasses.replace(exports.ORIGIN, vocabulary=exports.VOCABULARY | {"size": 32})
    same_size = exports.export(tmp_path, tiny.model("decoder-only"), foreign)
    assert "its vocabulary is not that of" in message(Distill(CausalLM(), str(same_size)))
    assert "Distill.weight = 0" in message(Distill(CausalLM(), str(same_size), weight=0))
    assert "Distill.temperature = -1" in message(Distill(CausalLM(), str(same_size), temperature=-1.0))
    assert not (tmp_path / "run").exists()
