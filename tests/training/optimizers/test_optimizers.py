"""Optimizers against transcriptions of their published formulas in numpy float64, and stacked against single layers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from triarch.errors import UserError
from triarch.models.network import ParameterSpec
from triarch.training.optimizers import optimizer as optimizers
from triarch.training.optimizers.adafactor import Adafactor
from triarch.training.optimizers.muon import Muon
from triarch.training.optimizers.optax_chain import OptaxChain
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Constant, Cosine
from triarch.training.optimizers.stable_adamw import StableAdamW

STEPS = 12
SHAPES = {"matrix": (6, 10), "heads": (5, 3, 4), "square": (7, 7), "bias": (9,), "tiny": (4, 4)}


def problem(seed=0):
    """Parameters and a list of gradients whose scale jumps, so that every kind of clipping is reached."""
    rng = np.random.default_rng(seed)
    params = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    params["tiny"] *= 1e-5
    scales = [0.1] * 6 + [5.0] * 2 + [0.01] * 4
    return params, [{n: scale * rng.normal(size=s) for n, s in SHAPES.items()} for scale in scales]


def specs_of(params, stacked=False):
    """Returns the specs of parameters that are kernels or, with one dimension a layer, vectors."""

    def spec(param):
        kind = "kernel" if param.ndim - stacked > 1 else "vector"
        return ParameterSpec(param.shape, ("layers",) * stacked + (None,) * (param.ndim - stacked), kind)

    return jax.tree.map(spec, params)


def run(optimizer, params, grads, stacked=False):
    transformation = optimizers.build(optimizer, STEPS, specs_of(params, stacked))
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    state = transformation.init(params)

    @jax.jit
    def update(params, state, grad):
        updates, state = transformation.update(grad, state, params)
        return optax.apply_updates(params, updates), state

    for grad in grads:
        params, state = update(params, state, jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), grad))
    return params


def clipped(grads, max_norm):
    norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
    return {n: g * min(1.0, max_norm / norm) for n, g in grads.items()}


def cosine_rate(peak, step):
    return peak * (0.1 + 0.9 * (1 + np.cos(np.pi * step / STEPS)) / 2)


def numpy_adafactor(params, grads, peak, factored, min_dim=3):
    """T5X adafactor.py, apply_param_gradient, line by line."""
    rows, columns, full = {}, {}, {}
    for step, gradients in enumerate(grads):
        decay_rate = 1.0 - (step + 1.0) ** -0.8
        for name, grad in clipped(gradients, 1.0).items():
            param = params[name]
            update_scale = cosine_rate(peak, step) * max(1e-3, np.sqrt(np.mean(param**2)))
            grad_sqr = grad * grad + 1e-30
            dims = np.argsort(param.shape, kind="stable")
            if factored and param.ndim >= 2 and param.shape[dims[-2]] >= min_dim:
                d1, d0 = int(dims[-2]), int(dims[-1])
                mixing = 1.0 - decay_rate
                rows[name] = decay_rate * rows.get(name, 0.0) + mixing * grad_sqr.mean(axis=d0)
                columns[name] = decay_rate * columns.get(name, 0.0) + mixing * grad_sqr.mean(axis=d1)
                reduced_d1 = d1 - 1 if d1 > d0 else d1
                row_mean = rows[name].mean(axis=reduced_d1, keepdims=True)
                y = grad * np.expand_dims((rows[name] / row_mean) ** -0.5, d0)
                y = y * np.expand_dims(columns[name] ** -0.5, d1)
            else:
                full[name] = decay_rate * full.get(name, 0.0) + (1.0 - decay_rate) * grad_sqr
                y = grad * full[name] ** -0.5
            y = y / max(1.0, np.sqrt(np.mean(y * y)) / 1.0)
            params[name] = param - update_scale * y
    return params


@pytest.mark.parametrize("factored", [False, True])
def test_adafactor_is_t5xs(factored):
    params, grads = problem()
    optimizer = Adafactor(Cosine(0.3), factored=factored, min_dim_to_factor=3)
    ours = run(optimizer, params, grads)
    expected = numpy_adafactor(dict(params), grads, 0.3, factored)
    for name in SHAPES:
        assert np.abs(np.asarray(ours[name]) - params[name]).max() > 1e-5
        np.testing.assert_allclose(ours[name], expected[name], rtol=2e-5, atol=2e-6, err_msg=name)


def test_adamw_is_torchs():
    params, grads = problem(1)
    ours = run(AdamW(Cosine(0.05), 0.9, 0.95, 1e-6, weight_decay=0.1, max_grad_norm=1.0), params, grads)
    first = {n: 0.0 for n in SHAPES}
    second = {n: 0.0 for n in SHAPES}
    expected = dict(params)
    for step, gradients in enumerate(grads):
        rate = cosine_rate(0.05, step)
        for name, grad in clipped(gradients, 1.0).items():
            if expected[name].ndim > 1:
                expected[name] = expected[name] * (1 - rate * 0.1)
            first[name] = 0.9 * first[name] + 0.1 * grad
            second[name] = 0.95 * second[name] + 0.05 * grad**2
            denominator = np.sqrt(second[name]) / np.sqrt(1 - 0.95 ** (step + 1)) + 1e-6
            expected[name] = expected[name] - rate / (1 - 0.9 ** (step + 1)) * first[name] / denominator
    for name in SHAPES:
        np.testing.assert_allclose(ours[name], expected[name], rtol=2e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("decoupled", [True, False])
def test_stable_adamw_is_optimis(decoupled):
    params, grads = problem(2)
    optimizer = StableAdamW(Cosine(0.05), weight_decay=0.01, decoupled_decay=decoupled)
    ours = run(optimizer, params, grads)
    first = {n: 0.0 for n in SHAPES}
    second = {n: 0.0 for n in SHAPES}
    expected = dict(params)
    growths = []
    for t, gradients in enumerate(grads, start=1):
        b1 = (0.9**t - 0.9) / (0.9**t - 1.0)
        b2 = (0.98**t - 0.98) / (0.98**t - 1.0)
        for name, grad in gradients.items():
            first[name] = b1 * first[name] + (1 - b1) * grad
            second[name] = b2 * second[name] + (1 - b2) * grad**2
            growth = np.sqrt(np.mean(grad**2 / np.maximum(second[name], 1e-12)))
            growths.append(growth)
            rate = cosine_rate(0.05, t - 1) / max(1.0, growth)
            if expected[name].ndim > 1:
                expected[name] = expected[name] * (1 - (rate / 0.05 if decoupled else rate) * 0.01)
            expected[name] = expected[name] - rate * first[name] / (np.sqrt(second[name]) + 1e-6)
    assert max(growths) > 2.0
    for name in SHAPES:
        np.testing.assert_allclose(ours[name], expected[name], rtol=5e-5, atol=5e-6, err_msg=name)


@pytest.mark.parametrize(
    "optimizer",
    [
        Adafactor(Constant(0.1), max_grad_norm=None),
        Adafactor(Constant(0.1), factored=True, min_dim_to_factor=3, max_grad_norm=None),
        AdamW(Constant(0.1), max_grad_norm=1.0),
        StableAdamW(Constant(0.1), weight_decay=0.05),
        Muon(Constant(0.1), max_grad_norm=None),
        OptaxChain(
            Constant(0.1), ("adaptive_grad_clip(0.3)", "scale_by_sm3", "scale_by_trust_ratio"), max_grad_norm=None
        ),
    ],
)
def test_stacked_layers_train_as_separate_ones(optimizer):
    """Layers of very different scale: a statistic over the stack would show."""
    rng = np.random.default_rng(3)
    scales = (1e-4, 1.0, 30.0)
    layers = [{n: scale * rng.normal(size=s) for n, s in SHAPES.items()} for scale in scales]
    grads = [
        [{n: scale * rng.normal(size=s) for n, s in SHAPES.items()} for scale in (3.0, 0.1 * 9**step, 1e-3)]
        for step in range(4)
    ]

    def separate(trees):
        return {f"layer{i}": tree for i, tree in enumerate(trees)}

    def stacked(trees):
        return {n: np.stack([tree[n] for tree in trees]) for n in SHAPES}

    single = run(optimizer, separate(layers), [separate(g) for g in grads])
    stack = run(optimizer, stacked(layers), [stacked(g) for g in grads], stacked=True)
    for i in range(len(scales)):
        for name in SHAPES:
            expected = np.asarray(single[f"layer{i}"][name])
            rounding = 1e-6 * np.abs(expected).max()
            np.testing.assert_allclose(stack[name][i], expected, rtol=1e-5, atol=rounding, err_msg=name)


def test_factored_statistics_are_small():
    optimizer = Adafactor(Constant(0.1), factored=True)
    specs = {
        "w": ParameterSpec((3, 128, 256), ("layers", "embed", "mlp"), "kernel"),
        "b": ParameterSpec((9,), (None,), "vector"),
    }
    params = jax.tree.map(lambda spec: jnp.ones(spec.shape), specs)
    state = optimizers.build(optimizer, STEPS, specs).init(params)
    # The names are those of checkpoints, also of earlier ones.
    assert {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(state)} == {
        "[1].count": (),
        "[1].statistics['b']['v']": (9,),
        "[1].statistics['w']['v_column']": (3, 256),
        "[1].statistics['w']['v_row']": (3, 128),
    }


@pytest.mark.parametrize(
    ("optimizer", "field"),
    [
        (Adafactor(Constant(0.1), decay=0.0), "Adafactor.decay"),
        (Adafactor(Constant(0.1), clipping_threshold=-1.0), "Adafactor.clipping_threshold"),
        (AdamW(Constant(0.1), beta2=1.0), "AdamW.beta2"),
        (StableAdamW(Constant(0.1), weight_decay=-0.1), "StableAdamW.weight_decay"),
        (Muon(Constant(0.1), momentum=1.0), "Muon.momentum"),
        (Muon(Constant(0.1), iterations=0), "Muon.iterations"),
        (Muon(Constant(0.1), update_rms=0.0), "Muon.update_rms"),
        (AdamW(Constant(0.1), max_grad_norm=0.0), "AdamW.max_grad_norm"),
        (AdamW(Constant(-0.1)), "Constant.peak"),
    ],
)
def test_values_out_of_range_are_named(optimizer, field):
    with pytest.raises(UserError, match=f"{field} = "):
        optimizers.validate(optimizer, STEPS)
