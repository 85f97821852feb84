"""An objective whose loss is not cross-entropy: its head is trained, and its sums are reported by their names."""

import dataclasses
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.training import tiny
from triarch import registry
from triarch.errors import UserError
from triarch.loading import load
from triarch.models import parameters
from triarch.models.network import flatten
from triarch.objectives.base import PLAIN, BoundObjective, Objective
from triarch.objectives.sums import Sums, WeightedSum
from triarch.training import CheckpointConfig, train
from triarch.training.config import validate
from triarch.training.inputs import open_inputs
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant
from triarch.training.run import assemble
from triarch.training.starting_point import open_starting_point


class Head(nnx.Module):
    def __init__(self, config, rngs):
        self.kernel = parameters.normal(rngs, (config.d_model, 1), 0.02, ("embed", None))


@dataclasses.dataclass(frozen=True)
class MeanToken:
    """Guesses the mean of a row's ids from its mean state."""

    splits_into_microbatches: bool = True

    name = "mean_token"
    layouts = ("windows",)
    measures = ("loss", "absolute_error")

    def lengths(self, architecture, window):
        return {"encoder": window}

    def bind(self, architecture, special, vocab_size, window, options=PLAIN):
        return BoundMeanToken(self.lengths(architecture, window), vocab_size)


@dataclasses.dataclass(frozen=True)
class BoundMeanToken:
    lengths: dict
    vocab_size: int

    num_scored = 1
    make_head = Head

    @property
    def features(self):
        def features(example, rng):
            tokens = np.asarray(example["tokens"], np.int32)
            return {"encoder_input_tokens": tokens, "label": np.float32(tokens.mean() / self.vocab_size)}

        return features

    def flops(self, model, convention):
        return model.flops(self.lengths["encoder"], 0, convention, 0)

    def weight(self, batch):
        return jnp.float32(len(batch["label"]))

    def loss(self, model, batch, key=None):
        guess = model.states(batch).mean(axis=1) @ model.head.kernel[...]
        error = guess[:, 0] - batch["label"]
        summed = functools.partial(WeightedSum, weight=self.weight(batch))
        size = 0.01 * jnp.sum(guess**2)
        measures = {"loss": summed(jnp.sum(error**2)), "absolute_error": summed(jnp.sum(jnp.abs(error)))}
        return jnp.sum(error**2) + size, Sums(measures, {"size": summed(size)})


@pytest.fixture(scope="module")
def own(store, cache):
    fields = dict(objective=MeanToken(), optimizer=AdamW(Constant(1e-2)), microbatches=2, compilation_cache=cache)
    return tiny.run_config(store, "encoder-only", **fields)


def test_the_toy_offers_what_is_asked_for():
    assert registry.missing_members(MeanToken, Objective) == []
    assert registry.missing_members(BoundMeanToken, BoundObjective) == []


@pytest.mark.slow
def test_sums_are_logged_by_name_and_measures_of_validation_too(own, tmp_path):
    best = CheckpointConfig(keep_best="validation_absolute_error", keep_best_mode="min")
    config = dataclasses.replace(own, eval_every=6, eval_batches=2, checkpoint=best)
    summary = train(config, tmp_path, "")
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all({"loss", "absolute_error", "size", "grad_norm"} <= line.keys() for line in lines)
    assert not any("accuracy" in name or "z_loss" in name for line in lines for name in line)
    assert {name for name in lines[5] if name.startswith("validation")} == {
        "validation_loss",
        "validation_absolute_error",
    }
    assert lines[-1]["loss"] < lines[0]["loss"] / 2
    assert summary["validation_absolute_error"] == lines[-1]["validation_absolute_error"]
    assert summary["best_step"] in (6, 12)


def test_the_head_is_a_parameter_like_others(own):
    run = assemble(own, open_inputs(own))
    state, batch = run.initial_state(), next(run.batches(0))
    assert state.params["head"]["kernel"].shape == (16, 1)
    assert run.network.specs["head/kernel"].axes == ("embed", None)
    states = np.asarray(run.network.merge(state.params).states(batch), np.float64)
    guess = states.mean(axis=1) @ np.asarray(state.params["head"]["kernel"], np.float64)
    error = guess[:, 0] - np.asarray(batch["encoder_input_tokens"]).mean(axis=1) / tiny.VOCABULARY
    before = np.asarray(state.params["head"]["kernel"])

    state, metrics = run.train_step(state, batch)

    assert float(metrics["loss"]) == pytest.approx(np.mean(error**2), rel=1e-5)
    assert float(metrics["absolute_error"]) == pytest.approx(np.mean(np.abs(error)), rel=1e-5)
    assert float(metrics["size"]) == pytest.approx(0.01 * np.mean(guess**2), rel=1e-4)
    assert not np.array_equal(state.params["head"]["kernel"], before)


@pytest.mark.slow
def test_it_begins_from_a_model_of_tokens_and_others_from_it(own, store, cache, tmp_path):
    tokens, first, second = (tmp_path / name for name in ("tokens", "first", "second"))
    plain = tiny.run_config(store, "encoder-only", steps=1, optimizer=own.optimizer, compilation_cache=cache)
    train(plain, tokens, "")
    train(dataclasses.replace(own, steps=1, init_from=str(tokens)), first, "")
    train(dataclasses.replace(plain, init_from=str(first)), second, "")
    assert "head/kernel" not in flatten(load(second).params)

    run, inputs = assemble(own, open_inputs(own)), open_inputs(own)
    fresh = jax.tree.map(np.asarray, run.initial_state().params)
    start = open_starting_point(dataclasses.replace(own, init_from=str(tokens)), inputs.stores[0])
    begun = run.initial_state(start).params
    np.testing.assert_array_equal(begun["head"]["kernel"], fresh["head"]["kernel"])
    np.testing.assert_array_equal(begun["embedding"]["table"], flatten(load(tokens).params)["embedding/table"])
    start = open_starting_point(dataclasses.replace(own, init_from=str(first)), inputs.stores[0])
    begun = run.initial_state(start).params
    assert not np.array_equal(begun["head"]["kernel"], fresh["head"]["kernel"])
    np.testing.assert_array_equal(begun["embedding"]["table"], flatten(load(first).params)["embedding/table"])


def test_it_resumes(own, tmp_path):
    config = dataclasses.replace(own, steps=8)
    train(config, tmp_path, "")
    whole = tiny.losses(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints" / "8")
    (tmp_path / "summary.json").unlink()
    train(config, tmp_path, "")
    assert tiny.losses(tmp_path) == whole


def test_one_that_compares_examples_is_not_split(own):
    whole = dataclasses.replace(own, objective=MeanToken(splits_into_microbatches=False))
    with pytest.raises(UserError, match="microbatches = 2: objective mean_token compares the examples of a batch"):
        validate(whole)
    validate(dataclasses.replace(whole, microbatches=1))


def test_a_best_metric_must_be_one_of_the_objective(own):
    checkpoint = CheckpointConfig(keep_best="validation_accuracy")
    with pytest.raises(UserError, match="validation_loss or validation_absolute_error"):
        validate(dataclasses.replace(own, eval_every=6, checkpoint=checkpoint))
