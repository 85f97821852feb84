"""A network as a function of its parameters: what it says of them, and how they come apart and together."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import tiny
from triarch.models import Network
from triarch.models.network import flatten, layer_place, named, parameters_of, patterns, specs, split, unflatten

CONFIGS = {
    "redllm": tiny.REDLLM,
    "ettin_encoder": tiny.ETTIN_ENCODER,
    "bert": tiny.BERT,
    "gpt2": tiny.GPT2,
    "t5": tiny.T5,
    "t5 with biases in each layer": dataclasses.replace(tiny.T5, relative_bias_per_layer=True),
}
# By the last part of a parameter's name.
KINDS = {
    "kernel": {"query", "key", "value", "output", "gate", "up", "down", "dense"},
    "table": {"table", "encoder_table", "positions", "types", "relative_bias"},
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_parameter_says_what_it_is(config):
    for name, spec in specs(config).items():
        last = name.split("/")[-1]
        kind = next((kind for kind, names in KINDS.items() if last in names), "vector")
        assert spec.kind == ("table" if name == "embedding/output" else kind), name
        assert spec.stacked == ("/scanned/" in name), name
        assert len(spec.shape) == len(spec.axes) == {"vector": 1}.get(spec.kind, 2) + spec.stacked, name
        assert spec.dtype == jnp.float32


@pytest.mark.parametrize("config", [tiny.REDLLM, tiny.ETTIN_ENCODER], ids=["redllm", "ettin_encoder"])
def test_taken_apart_and_put_together_it_is_the_same(config):
    batch = tiny.lay_out(config, [tiny.documents(config)[:1]]).batch
    network = Network(config, tiny.FLOAT32)
    params = unflatten({"/".join(map(str, path)): jnp.asarray(x) for path, x in tiny.parameters(config).items()})
    whole = tiny.fast_jit(lambda params, batch: network.merge(params)(batch))(params, batch)
    np.testing.assert_array_equal(whole, tiny.logits(config, batch))

    apart = network.unrolled()
    assert not any(spec.stacked for spec in apart.specs.values())
    unrolled = network.unroll(params)
    assert {name: x.shape for name, x in flatten(unrolled).items()} == {n: s.shape for n, s in apart.specs.items()}
    again = tiny.fast_jit(lambda params, batch: apart.merge(params)(batch))(unrolled, batch)
    np.testing.assert_allclose(again, whole, rtol=1e-5, atol=1e-5 * np.abs(whole).max())


def test_a_module_is_a_network_and_its_parameters():
    network = Network(tiny.DECLLM, tiny.FLOAT32)
    params = jax.tree.map(lambda spec: jnp.full(spec.shape, 2.0), unflatten(network.specs))
    other, found = split(network.merge(params))
    assert other.specs == network.specs == specs(tiny.DECLLM)
    assert list(flatten(found)) == list(network.specs)
    assert jax.tree.all(jax.tree.map(lambda x: bool((x == 2.0).all()), found))
    assert jax.tree.structure(parameters_of(network.merge(params))) == jax.tree.structure(network.init(0))


def test_what_is_trained_is_apart_from_the_rest():
    network = Network(tiny.REDLLM, trained={"embedding/table", "decoder/scanned/0/mlp/up"})
    tree = {name: number for number, name in enumerate(network.specs)}
    trained = network.trained(unflatten(tree))
    assert flatten(trained) == {name: tree[name] for name in network.trained_names}
    assert jax.tree.structure(network.trained_specs) == jax.tree.structure(trained)
    changed = network.completed(jax.tree.map(lambda x: -x - 1, trained), unflatten(tree))
    assert flatten(changed) == {name: -x - 1 if name in network.trained_names else x for name, x in tree.items()}
    assert Network(tiny.REDLLM).trained(tree) is tree


def test_every_layer_has_its_place():
    config = tiny.ETTIN_ENCODER
    shapes = specs(config)
    found = [layer_place(config, "encoder", layer) for layer in range(config.num_encoder_layers)]
    assert len(set(found)) == config.num_encoder_layers
    for (module, row), layer in zip(found, config.layer_specs("encoder"), strict=True):
        held = [spec for name, spec in shapes.items() if name.startswith(f"{module}/")]
        assert held and all(spec.stacked == (row is not None) for spec in held)
        assert row is None or all(row < spec.shape[0] for spec in held)
        assert (f"{module}/attention_norm/scale" in shapes) == layer.mixer_norm


def test_patterns():
    known = specs(tiny.BERT)
    assert named(known, "embedding") == {"embedding/table"}
    assert named(known, "embedding/table") == {"embedding/table"}
    assert named(known, "encoder*") == {name for name in known if name.startswith("encoder")}
    assert (
        named(known, "encoder") == {name for name in known if name.startswith("encoder/")} != named(known, "encoder*")
    )
    assert named(known, "*/bias") == {name for name in known if name.endswith("/bias")}
    assert named(known, "vector") == {name for name, spec in known.items() if len(spec.shape) - spec.stacked == 1}
    assert named(known, "embed") == named(known, "query") == named(known, "adapter") == frozenset()
    assert {"kernel", "encoder", "encoder/scanned/0", "embedding/table"} <= set(patterns(known))
