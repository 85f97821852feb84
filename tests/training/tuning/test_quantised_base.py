"""A base in few bits: the codes against the published table in float64, and adapters beside it against its values."""

import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training import tiny
from triarch.cli.verbs.describe import describe
from triarch.interchange import Origin, write_export
from triarch.loading import load, open_stored
from triarch.models import LoRA, Network
from triarch.models.adapters.network import AdaptedNetwork
from triarch.models.adapters.quantised import BLOCK, NF4, quantise
from triarch.models.network import flatten
from triarch.training import train

TARGETS = ("*/query", "*/down")


def model():
    return tiny.model("decoder-only", d_model=64, d_ff=128, num_heads=4, head_dim=16)


def test_nf4_is_the_table_of_qlora():
    """Appendix E of arXiv 2305.14314: quantiles of both halves of the normal distribution, scaled to 1."""
    quantile, offset = statistics.NormalDist().inv_cdf, 0.9677083
    upper = [quantile(p) for p in np.linspace(offset, 0.5, 9)[:-1]]
    lower = [-quantile(p) for p in np.linspace(offset, 0.5, 8)[:-1]]
    expected = np.sort([*upper, 0.0, *lower]) / max(upper)
    np.testing.assert_allclose(NF4, expected, atol=1e-6)


@pytest.mark.parametrize("base", ["int8", "nf4"])
def test_codes_are_the_nearest_there_are(base):
    rng = np.random.default_rng(0)
    kernels = rng.normal(size=(2, 2 * BLOCK, 3)).astype(np.float32)
    kernels[0, :BLOCK, 1] = 0
    levels = np.asarray(NF4) if base == "nf4" else np.arange(-127, 128) / 127
    expected = np.empty(kernels.shape, np.float64)
    for layer in range(2):
        for block in range(2):
            rows = slice(block * BLOCK, (block + 1) * BLOCK)
            for column in range(3):
                values = kernels[layer, rows, column].astype(np.float64)
                scale = np.abs(values).max()
                nearest = np.abs(values[:, None] / (scale or 1) - levels).argmin(axis=1)
                expected[layer, rows, column] = levels[nearest] * scale
    held = quantise(jnp.asarray(kernels), base)
    np.testing.assert_allclose(held.values(), expected, atol=1e-6)
    assert held.codes.nbytes == kernels.size // (2 if base == "nf4" else 1)


@pytest.mark.parametrize("base", [pytest.param("int8", marks=pytest.mark.slow), "nf4"])
def test_adapters_stand_beside_what_the_codes_mean(base):
    config, lora = model(), LoRA(rank=2, alpha=4.0, targets=TARGETS, base=base)
    plain, network = Network(config), AdaptedNetwork(config, lora)
    batch = {"decoder_input_tokens": np.random.default_rng(0).integers(4, 32, (2, 8))}
    weights = np.random.default_rng(3).normal(size=(2, 8, 32))
    fresh = jax.jit(lambda: network.init(1))()
    trained = jax.tree.map(lambda x: x + 0.02, network.trained(fresh))
    params = network.completed(trained, network.of_base(jax.jit(lambda: plain.init(0))()))
    meant = network.folded(params)

    @jax.jit
    def of_network(trained):
        return jnp.sum(network.merge(network.completed(trained, params))(batch) * weights)

    @jax.jit
    def of_sums(sums):
        return jnp.sum(plain.merge(sums)(batch) * weights)

    np.testing.assert_allclose(of_network(trained), of_sums(meant), rtol=1e-4, atol=1e-4)
    found, slopes = flatten(jax.grad(of_network)(trained)), flatten(jax.grad(of_sums)(meant))
    for name in lora.adapted(plain.specs):
        down, up = (flatten(trained)[f"adapter/{name}/{part}"] for part in ("down", "up"))
        np.testing.assert_allclose(found[f"adapter/{name}/down"], 2 * slopes[name] @ up.mT, rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(found[f"adapter/{name}/up"], 2 * down.mT @ slopes[name], rtol=2e-3, atol=2e-3)


@pytest.mark.slow
def test_a_run_beside_four_bits_loads_and_exports_what_it_trained(store, tmp_path):
    network = Network(model())
    write_export(tmp_path / "base", network.merge(jax.jit(lambda: network.init(0))()), Origin())
    lora = LoRA(rank=2, alpha=4.0, targets=TARGETS, base="nf4")
    config = tiny.run_config(store, model=model(), adapter=lora, init_from=str(tmp_path / "base"), steps=6)
    train(config, tmp_path / "run", "")
    loaded, stored = flatten(load(tmp_path / "run").params), open_stored(tmp_path / "run")
    before = flatten(load(tmp_path / "base").params)
    for name, value in loaded.items():
        parts = np.concatenate(list(stored.leaf(name).parts()))
        np.testing.assert_allclose(parts, value, atol=1e-6, err_msg=name)
        is_held = network.specs[name].kind == "kernel"
        error = np.abs(value - before[name]).max()
        # Half of the widest gap between levels is 0.15 of a block's largest number.
        assert (0 < error < 0.2 * np.abs(before[name]).max()) if is_held else error == 0
    held = sum(np.prod(spec.shape) for spec in network.specs.values() if spec.kind == "kernel")
    others = config.model.num_params() - held
    told = describe(config)["memory_bytes"]
    adapters = told["gradients"]
    assert told["parameters"] == held / 2 + 4 * held / BLOCK + 4 * others + adapters
    assert adapters == 4 * 3 * 2 * ((64 + 64) + (128 + 64))
    assert told["optimizer_state"] == 2 * adapters
