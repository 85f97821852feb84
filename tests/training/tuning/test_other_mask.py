"""A decoder made an encoder, and an encoder a decoder: the same parameters under the other mask."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from tests.models.reference import Reference
from tests.training import tiny
from triarch.errors import UserError
from triarch.interchange import write_export
from triarch.loading import load
from triarch.models.network import flatten
from triarch.objectives import MNTP, CausalLM
from triarch.training import train
from triarch.training.inputs import open_inputs
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant

SIDES = {"encoder-only": "encoder", "decoder-only": "decoder"}


@pytest.fixture(scope="module")
def runs(store, cache, tmp_path_factory):
    """Runs of two steps of a decoder and of an encoder, with windows and global layers as Ettin has them."""
    found = {}
    for architecture in SIDES:
        config = tiny.run_config(store, architecture, steps=2, optimizer=AdamW(Constant(3e-3)), compilation_cache=cache)
        model = dataclasses.replace(config.model, sliding_window=4, global_every=2, prediction_head=True)
        found[architecture] = tmp_path_factory.mktemp(architecture) / "run"
        train(dataclasses.replace(config, model=model), found[architecture], "")
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(SIDES)))
@pytest.mark.parametrize("export", [False, True])
def test_the_parameters_are_the_same_ones_under_the_other_mask(store, cache, runs, tmp_path, before, after, export):
    there = load(runs[before])
    source = runs[before]
    if export:
        source = tmp_path / "export"
        write_export(source, there.model, there.origin)
    objective = MNTP() if after == "encoder-only" else CausalLM()
    layers = dict(zip(("num_encoder_layers", "num_decoder_layers"), tiny.LAYERS[after], strict=True))
    model = dataclasses.replace(there.config, **layers)
    # A rate at which an update changes nothing: the first checkpoint holds what was taken.
    still = AdamW(Constant(1e-30), weight_decay=0.0)
    config = tiny.run_config(store, after, model=model, objective=objective, steps=1, optimizer=still, z_loss=0.0)
    config = dataclasses.replace(config, init_from=str(source), compilation_cache=cache)
    train(config, tmp_path / "run", "")
    here = load(tmp_path / "run")
    old, new = (
        {name.replace(f"{side}_input", "input").replace(f"{side}/", "stack/"): value for name, value in flat.items()}
        for side, flat in ((SIDES[before], flatten(there.params)), (SIDES[after], flatten(here.params)))
    )
    assert old.keys() == new.keys() and len(old) > 5
    for name, value in old.items():
        np.testing.assert_array_equal(np.asarray(new[name]), np.asarray(value), err_msg=name)
    tokens = open_inputs(config).training().batch(0)[f"{SIDES[after]}_input_tokens"][:2]
    values = {
        tuple(int(part) if part.isdigit() else part for part in name.split("/")): np.asarray(value)
        for name, value in flatten(here.params).items()
    }
    segments = {f"{SIDES[after]}_segment_ids": np.ones_like(tokens)}
    logits = np.asarray(here.logits({f"{SIDES[after]}_input_tokens": tokens, **segments}))
    for row, found in zip(tokens, logits, strict=True):
        np.testing.assert_allclose(found, Reference(here.config, values).logits(None, row), atol=2e-5)
    assert len(jax.tree.leaves(here.params)) == len(old)


def test_more_than_parameters_is_not_taken(store, runs, tmp_path):
    model = dataclasses.replace(load(runs["decoder-only"]).config, num_encoder_layers=3, num_decoder_layers=0)
    config = tiny.run_config(store, "encoder-only", model=model, objective=MNTP())
    config = dataclasses.replace(config, init_from=str(runs["decoder-only"]))
    with pytest.raises(UserError, match=r"RunConfig.init_optimizer: .* is decoder-only, this run is encoder-only"):
        train(dataclasses.replace(config, init_optimizer=True), tmp_path / "one", "")
    wider = dataclasses.replace(model, d_ff=64)
    with pytest.raises(UserError, match=r"has shape \[.*\], its config makes it \["):
        train(dataclasses.replace(config, model=wider), tmp_path / "two", "")
