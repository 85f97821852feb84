"""Encoder-decoders that begin as decoder-only models (T5Gemma), against the formula written down in float64."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import triarch
from tests.interchange import exports
from tests.models.reference import Reference
from tests.training import tiny
from triarch.cli.main import main
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.models.network import Network, flatten
from triarch.objectives import PrefixLM
from triarch.training import train
from triarch.training.inputs import open_inputs
from triarch.training.run import assemble
from triarch.training.starting_point import open_starting_point

UNKNOWN = dataclasses.replace(exports.ORIGIN, vocabulary=None)
DECODER = tiny.model("decoder-only", norm_scale="one_plus_gain", norm_position="pre_and_post")
BOTH = dict(num_encoder_layers=3, shared_embeddings=False, decoder_positions="restart", cross_attention_rope=False)
SMALL = dataclasses.replace(DECODER, d_model=8, num_heads=2, num_decoder_layers=2)
CROSS = {"cross_attention": "attention", "cross_norm": "attention_norm", "post_cross_norm": "post_attention_norm"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny.write_store(tmp_path_factory.mktemp("store") / "store")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return exports.export(tmp_path_factory.mktemp("large"), DECODER, UNKNOWN)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return exports.export(tmp_path_factory.mktemp("small"), SMALL, UNKNOWN)


def adapted(store, network, start, **changes):
    given = dict(model=network, objective=PrefixLM(), init_from=str(start), z_loss=0.0, steps=6)
    return tiny.run_config(store, "encoder-decoder", **given | changes)


def by_hand(decoder, encoder, network, fresh):
    """Returns the values of the encoder-decoder by path: those of two decoders, named anew, and what stays fresh."""
    values = {}
    for path in map(lambda name: tuple(name.split("/")), flatten(fresh)):
        side, *rest = path
        if path == ("embedding", "encoder_table"):
            values[path] = encoder["embedding/table"]
        elif side == "encoder":
            values[path] = encoder["/".join(["decoder", *rest])]
        elif any(part in CROSS for part in path):
            like = "/".join(CROSS.get(part, part) for part in path)
            same = network.decoder_d_model in (None, network.d_model)
            values[path] = decoder[like] if same else flatten(fresh)["/".join(path)]
        else:
            values[path] = decoder["/".join(path)]
    return values


def loss_by_hand(values, network, store, config):
    """Returns the mean cross-entropy of the second halves of the first batch, in float64."""
    half, encoder, decoder = (
        tiny.WINDOW // 2,
        *(Reference(network.of_side(side), values) for side in ("encoder", "decoder")),
    )
    losses = []
    for row in first_batch(store, config):
        source, target = row[:half], row[half:]
        states = decoder.decode(np.concatenate([[1], target[:-1]]), encoder.encode(source), 0, 0)
        logits = np.stack([decoder.predict(state) for state in states])
        highest = logits.max(axis=-1, keepdims=True)
        log_z = highest[:, 0] + np.log(np.exp(logits - highest).sum(axis=-1))
        losses += list(log_z - logits[np.arange(half), target])
    return np.mean(losses)


def first_batch(store, config):
    inputs = open_inputs(config)
    batch = next(assemble(config, inputs).batches(0))
    return np.concatenate(
        [np.asarray(batch[f"{side}_{name}_tokens"]) for side, name in (("encoder", "input"), ("decoder", "target"))], 1
    )


def first_loss(config, workdir):
    train(config, workdir, "")
    return tiny.losses(workdir)[1]


@pytest.mark.slow
def test_balanced_sides_begin_as_the_formula_says(store, large, tmp_path, capsys):
    network = dataclasses.replace(DECODER, **BOTH)
    config = adapted(store, network, large)
    found = first_loss(config, tmp_path / "run")
    assert "made an encoder-decoder; cross-attention begins as its self-attention" in capsys.readouterr().err
    decoder = flatten(triarch.load(large).params)
    values = by_hand(decoder, decoder, network, triarch.load(tmp_path / "run").params)
    assert found == pytest.approx(loss_by_hand(values, network, store, config), rel=1e-5)


@pytest.mark.slow
def test_uneven_sides_train_cross_attention_alone_first(store, large, small, tmp_path, capsys):
    sizes = {"decoder_d_model": 8, "decoder_num_heads": 2, "num_decoder_layers": 2}
    network = dataclasses.replace(DECODER, **BOTH, **sizes)
    config = adapted(store, network, small, init_encoder_from=str(large), train_only=("*cross*",))
    found = first_loss(config, tmp_path / "crossing")
    assert f"the encoder from {large}; cross-attention begins afresh" in capsys.readouterr().err
    decoder, encoder = (flatten(triarch.load(folder).params) for folder in (small, large))
    values = by_hand(decoder, encoder, network, Network(network).init(config.seed))
    assert found == pytest.approx(loss_by_hand(values, network, store, config), rel=1e-5)
    after = flatten(triarch.load(tmp_path / "crossing").params)
    for name, value in after.items():
        same = np.array_equal(value, np.asarray(values[tuple(name.split("/"))]))
        assert same == ("cross" not in name), name
    # Then everything, from that run.
    rest = adapted(store, network, tmp_path / "crossing")
    train(rest, tmp_path / "rest", "")
    moved = flatten(triarch.load(tmp_path / "rest").params)
    assert not any(np.array_equal(value, after[name]) for name, value in moved.items())


@pytest.mark.slow
def test_an_imported_decoder_is_adapted_and_the_run_goes_on(store, tmp_path):
    """A Llama of a Hugging Face folder, its output matrix untied; a resumed run is the run that was not stopped."""
    there = tiny.model("decoder-only", tied_embeddings=False, num_kv_heads=2)
    export = exports.export(tmp_path, there, UNKNOWN)
    written = ["export", f"--workdir={export}", f"--output={tmp_path / 'hf'}", "--format=huggingface"]
    assert main([*written, "--family=llama"]) == 0
    assert main(["import", str(tmp_path / "hf"), f"--output={tmp_path / 'import'}"]) == 0
    network = dataclasses.replace(there, **BOTH | {"num_encoder_layers": there.num_decoder_layers})
    config = adapted(store, network, tmp_path / "import")
    whole = train(config, tmp_path / "whole", "")
    decoder = flatten(triarch.load(tmp_path / "import").params)
    values = by_hand(decoder, decoder, network, triarch.load(tmp_path / "whole").params)
    expected = loss_by_hand(values, network, store, config)
    assert tiny.losses(tmp_path / "whole")[1] == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(whole["loss"])


def test_what_does_not_fit_is_one_line(store, large, small, tmp_path):
    def message(network, start=large, **changes):
        with pytest.raises(UserError) as caught:
            open_starting_point(adapted(store, network, start, **changes), TokenStore.open(store))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    network = dataclasses.replace(DECODER, **BOTH)
    assert "has 3 layers, ModelConfig.num_encoder_layers = 2" in message(
        dataclasses.replace(network, num_encoder_layers=2)
    )
    assert "tensor 'decoder/scanned/0/attention/key' has shape" in message(dataclasses.replace(network, num_heads=2))
    assert "norm/scale" in message(dataclasses.replace(network, norm_scale="none"))
    assert "RunConfig.init_optimizer" in message(network, init_optimizer=True)
    assert "shared_embeddings = False" in message(
        dataclasses.replace(network, shared_embeddings=True), init_encoder_from=str(large)
    )
    assert "none" in message(network, init_encoder_from=str(tmp_path / "none"))
    both = exports.export(tmp_path, network, UNKNOWN)
    assert "expected decoder-only parameters" in message(network, init_encoder_from=str(both))
    assert "begins as a decoder alone" in message(network, both, init_encoder_from=str(large))
