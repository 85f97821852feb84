"""Adapters: what they compute, that they alone are trained and kept, and that a run of them is a run as any."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

import triarch
from tests.training import tiny
from triarch.cli.main import main
from triarch.errors import UserError
from triarch.interchange import Origin, write_export
from triarch.loading import load, open_stored
from triarch.models import Dropout, Execution, LoRA, Network
from triarch.models.adapters.network import AdaptedNetwork
from triarch.models.network import flatten, unflatten
from triarch.planning.programs import abstract_batch
from triarch.training import CheckpointConfig, train
from triarch.training.config import validate
from triarch.training.inputs import open_inputs
from triarch.training.run import assemble

LORA = LoRA(rank=2, alpha=4.0, targets=("*/query", "*/value", "*/mlp"))


def batch_of(architecture, rows=3):
    rng = np.random.default_rng(0)
    sides = {"encoder-only": ("encoder",), "decoder-only": ("decoder",)}.get(architecture, ("encoder", "decoder"))
    return {f"{side}_input_tokens": rng.integers(4, 32, (rows, 8)) for side in sides}


def base_export(path, architecture, seed=3):
    network = Network(tiny.model(architecture))
    write_export(path, network.merge(jax.jit(lambda: network.init(seed))()), Origin())
    return path


@pytest.fixture
def base(tmp_path):
    return base_export(tmp_path / "base", "decoder-only")


def adapted_config(store, base, architecture="decoder-only", **changes):
    given = dict(adapter=LORA, init_from=str(base), checkpoint=CheckpointConfig(every=4, keep_last=3))
    return tiny.run_config(store, architecture, **given | changes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "scan_layers"), [("encoder-only", True), ("decoder-only", False), ("encoder-decoder", True)]
)
def test_products_without_the_sum_are_those_of_the_sum(architecture, scan_layers):
    config, batch = tiny.model(architecture), batch_of(architecture)
    plain = Network(config, Execution(scan_layers=scan_layers))
    network = AdaptedNetwork(config, LORA, Execution(scan_layers=scan_layers))
    plain_logits, logits = (jax.jit(lambda params, one=one: one.merge(params)(batch)) for one in (plain, network))
    base = jax.jit(lambda: plain.init(0))()
    fresh = network.completed(network.of_base(base), jax.jit(lambda: network.init(1))())
    np.testing.assert_array_equal(logits(fresh), plain_logits(base))
    rng = np.random.default_rng(1)
    noisy = {
        name: rng.normal(0, 0.2, x.shape) if name.startswith("adapter/") and name.endswith("/up") else x
        for name, x in flatten(fresh).items()
    }
    sums = {name: np.asarray(value, np.float64) for name, value in flatten(base).items()}
    for name in LORA.adapted(plain.specs):
        down, up = (np.asarray(noisy[f"adapter/{name}/{part}"], np.float64) for part in ("down", "up"))
        sums[name] = sums[name] + 2 * (down @ up)
    expected = plain_logits(unflatten({n: x.astype(np.float32) for n, x in sums.items()}))
    params = unflatten({name: jnp.float32(value) for name, value in noisy.items()})
    assert np.abs(expected - plain_logits(base)).max() > 0.1
    np.testing.assert_allclose(logits(params), expected, atol=2e-5)
    np.testing.assert_allclose(plain_logits(network.folded(params)), expected, atol=2e-5)


def test_gradients_are_those_of_the_chain_rule():
    """W + s A B: of A it is s G B^T, of B s A^T G, with G that of W."""
    config, batch = tiny.model("decoder-only"), batch_of("decoder-only")
    plain, network = Network(config), AdaptedNetwork(config, LORA)
    weights = np.random.default_rng(3).normal(size=(3, 8, 32))
    params = jax.tree.map(lambda x: x + 0.01, jax.jit(lambda: network.init(1))())

    def gradient(of, params):
        return flatten(jax.jit(jax.grad(lambda params: jnp.sum(of.merge(params)(batch) * weights)))(params))

    of_sums, found = gradient(plain, network.folded(params)), gradient(network, params)
    values = flatten(params)
    for name in LORA.adapted(plain.specs):
        down, up = values[f"adapter/{name}/down"], values[f"adapter/{name}/up"]
        expected = 2 * of_sums[name] @ up.mT, 2 * down.mT @ of_sums[name]
        for part, one in zip(("down", "up"), expected, strict=True):
            np.testing.assert_allclose(found[f"adapter/{name}/{part}"], one, rtol=2e-3, atol=2e-4, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "architecture",
    ["decoder-only", *(pytest.param(one, marks=pytest.mark.slow) for one in ("encoder-only", "encoder-decoder"))],
)
def test_a_run_keeps_adapters_alone_resumes_bit_equal_and_loads_as_any(architecture, store, tmp_path, capsys):
    base = base_export(tmp_path / "base", architecture)
    config = adapted_config(store, base, architecture, dropout=Dropout(adapter=0.2, feed_forward=0.1))
    train(config, tmp_path / "run", "")
    shutil.copytree(tmp_path / "run", tmp_path / "resumed")
    for step in (8, 12):
        shutil.rmtree(tmp_path / "resumed" / "checkpoints" / str(step))
    train(config, tmp_path / "resumed", "")
    whole, resumed = (restored(tmp_path / name, 12) for name in ("run", "resumed"))
    assert set(whole) == {f"adapter/{n}/{p}" for n in LORA.adapted(Network(config.model).specs) for p in ("down", "up")}
    for name, value in whole.items():
        np.testing.assert_array_equal(value, resumed[name], err_msg=name)
        assert np.abs(value).max() > 0
    loaded, before = triarch.load(tmp_path / "run"), flatten(load(base).params)
    expected = {
        name: value + 2 * (whole[f"adapter/{name}/down"] @ whole[f"adapter/{name}/up"]) if f"adapter/{name}/up" in whole
        else value
        for name, value in before.items()
    }  # fmt: skip
    stored = open_stored(tmp_path / "run")
    for name, value in flatten(loaded.params).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-6, err_msg=name)
        np.testing.assert_allclose(np.concatenate(list(stored.leaf(name).parts())), expected[name], atol=1e-6)
    assert np.isfinite(loaded.logits(batch_of(architecture))).all()
    if architecture == "decoder-only":
        check_exports(tmp_path, loaded, capsys)


def check_exports(folder, loaded, capsys):
    """As the Llama that the network is: adapters alone, read onto the base again; and the sums."""
    run, base, adapter = (str(folder / name) for name in ("run", "base", "adapter"))
    assert main(["export", f"--workdir={run}", f"--output={adapter}", "--format=peft"]) == 0
    assert main(["import", adapter, f"--base={base}", f"--output={folder / 'imported'}"]) == 0
    assert main(["export", f"--workdir={run}", f"--output={folder / 'merged'}", "--merge_adapter"]) == 0
    for name in ("imported", "merged"):
        for leaf, value in flatten(load(folder / name).params).items():
            np.testing.assert_allclose(value, flatten(loaded.params)[leaf], atol=1e-6, err_msg=leaf)
    capsys.readouterr()
    for flags, message in (
        (["export", f"--workdir={run}", "--format=huggingface"], "say --format=peft, or --merge_adapter"),
        (["export", f"--workdir={base}", "--format=peft"], "has no adapters"),
        (["import", adapter], "holds peft's adapters: name what they go with, as --base="),
    ):
        assert main([*flags, f"--output={folder / 'none'}"]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_gradients_of_a_base_are_not_computed(store, base):
    config = adapted_config(store, base, execution=Execution("float32", scan_layers=True), microbatches=2)
    run = assemble(config, open_inputs(config))
    assert set(flatten(run.target.opt_state[1][0].mu)) == run.network.trained_names
    abstract = abstract_batch(run.config, run.batch_layout, packed=False)
    plain = dataclasses.replace(config, adapter=None)
    other = assemble(plain, open_inputs(plain))
    flops, all_flops = (
        one.train_step.lower(one.target, abstract).compile().cost_analysis()["flops"] for one in (run, other)
    )
    assert flops < 0.9 * all_flops


def restored(workdir, step):
    with ocp.StandardCheckpointer() as checkpointer:
        return flatten(checkpointer.restore(workdir.absolute() / "checkpoints" / str(step) / "params"))


@pytest.mark.slow
def test_another_base_is_refused(store, base, tmp_path):
    config = adapted_config(store, base, steps=5)
    train(config, tmp_path / "run", "")
    shutil.rmtree(base)
    with pytest.raises(UserError, match=r"its adapters go with .*base, which is not there: put it back"):
        load(tmp_path / "run")
    base_export(base, "decoder-only", seed=4)
    with pytest.raises(UserError, match=r"its adapters go with what .*base held before: it has other parameters now"):
        load(tmp_path / "run")
    with pytest.raises(UserError, match=r"holds other parameters than those that .*run began with"):
        train(dataclasses.replace(config), tmp_path / "run", "")


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (dict(rank=0), r"LoRA.rank = 0: expected a whole number from 1 on"),
        (dict(targets=("*/qurey",)), r"LoRA.targets: '\*/qurey' names no kernel .* \(did you mean '\*/query'\?\)"),
        (dict(targets=("embedding",)), "LoRA.targets: 'embedding' names embedding/table, which is no kernel"),
        (dict(targets=()), r"LoRA.targets = \(\): expected kernels"),
        (dict(base="nf8"), r"LoRA.base = 'nf8' \(did you mean 'nf4'\?\)"),
        (dict(alpha=0.0), "LoRA.alpha = 0.0: expected a positive number"),
    ],
)
def test_what_adapts_nothing_is_one_line(adapter, message):
    config = tiny.run_config("store", adapter=dataclasses.replace(LORA, **adapter))
    with pytest.raises(UserError, match=message):
        validate(config)


def test_what_does_not_go_with_adapters_is_one_line(store, tmp_path):
    with pytest.raises(UserError, match=r"RunConfig.adapter: adapters of what"):
        train(tiny.run_config(store, adapter=LORA), tmp_path / "run", "")
    with pytest.raises(UserError, match=r"RunConfig.frozen: with RunConfig.adapter"):
        validate(tiny.run_config("store", adapter=LORA, frozen=("decoder",)))
    with pytest.raises(UserError, match=r"Dropout.adapter = 0.1: has no effect without RunConfig.adapter"):
        validate(tiny.run_config("store", dropout=Dropout(adapter=0.1)))
