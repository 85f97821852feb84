"""How layers are grouped, and that grouping, scanning and rematerialising change nothing."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import tiny
from tests.models.tiny import DECLLM, ETTIN_ENCODER, FAMILIES, REDLLM, T5
from triarch.models import Execution, abstract
from triarch.models.attention.attention_parts import SelfAttention
from triarch.models.attention.rope import Rope
from triarch.models.layers.dense import Dense
from triarch.models.layers.layer import LayerSpec
from triarch.models.layers.stack import repeating
from triarch.objectives.losses import loss_fn

FAR, NEAR = (LayerSpec(SelfAttention(window, Rope(10.0)), Dense()) for window in (None, 4))
KINDS = [FAR, NEAR, dataclasses.replace(FAR, mixer_norm=False)]
sequences = st.lists(st.sampled_from(KINDS), max_size=8)


@settings(max_examples=200, deadline=None)
@given(first=sequences, group=sequences, repeats=st.integers(0, 4))
def test_the_repeated_group_rebuilds_the_layers(first, group, repeats):
    specs = first + group * repeats
    num_first, period = repeating(specs)
    times = (len(specs) - num_first) // period if period else 0
    assert specs[:num_first] + specs[num_first : num_first + period] * times == specs
    assert period == 0 or times >= 2
    if group and repeats >= 2:
        # No more different layers are kept than the construction needs.
        assert num_first + period <= len(first) + len(group)


@pytest.mark.parametrize(("layers", "expected"), [(7, (1, 3)), (22, (1, 3)), (28, (1, 3)), (2, (2, 0)), (1, (1, 0))])
def test_ettin_repeats_two_local_layers_and_a_global_one(layers, expected):
    assert repeating(dataclasses.replace(ETTIN_ENCODER, num_encoder_layers=layers).layer_specs("encoder")) == expected


def test_uniform_layers_form_one_group():
    assert repeating(dataclasses.replace(REDLLM, num_decoder_layers=14).layer_specs("decoder")) == (0, 1)


def test_parameters_are_stacked_by_repeat_and_named_by_axis():
    _, state = nnx.split(abstract(ETTIN_ENCODER, tiny.FLOAT32))
    for path, leaf in nnx.to_flat_state(state):
        axes = leaf.get_metadata("logical_axes")
        assert len(axes) == len(leaf.shape), path
        assert (axes[0] == "layers") == ("scanned" in path), path
        if "scanned" in path:
            assert leaf.shape[0] == 2
        sizes = {"vocab": 67, "embed": 12, "mlp": 20, "heads": 12, "kv_heads": 12, "layers": 2, None: 12}
        assert leaf.shape == tuple(sizes[axis] for axis in axes), path


def loss_and_gradient(config, execution):
    a, b, c = tiny.documents(config)
    batch = tiny.lay_out(config, [[a, b], [c]]).batch
    graph, state = tiny.split(config, execution)

    def loss(state, batch):
        return loss_fn(nnx.merge(graph, state), batch, z_loss=0.01, chunk=0)[0]

    value, gradient = tiny.fast_jit(jax.value_and_grad(loss))(state, batch)
    return float(value), {path: np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(gradient)}


@pytest.mark.slow
@pytest.mark.parametrize("config", [dataclasses.replace(DECLLM, num_decoder_layers=2), T5], ids=["decllm", "t5"])
def test_scanning_and_rematerialising_change_no_gradient(config):
    """Loss to 1e-14 and gradients to 1e-12, in float64; T5's layers share a table from outside of them."""
    with jax.enable_x64(True):
        wanted_loss, wanted = loss_and_gradient(config, tiny.FLOAT64)
        for scan_layers, remat in [
            (False, "none"),
            (True, "full"),
            (True, "save_projections_and_attention"),
            (False, "save_projections"),
        ]:
            loss, gradient = loss_and_gradient(config, Execution("float64", scan_layers, remat))
            assert abs(loss - wanted_loss) < 1e-14 * wanted_loss, (scan_layers, remat)
            assert gradient.keys() == wanted.keys()
            for path, value in wanted.items():
                np.testing.assert_allclose(gradient[path], value, rtol=0, atol=1e-12 * np.abs(value).max())


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_neither_scanning_nor_the_kernel_changes_a_logit(config):
    batch = tiny.lay_out(config, [tiny.documents(config)]).batch
    ways = Execution("float32", True, attention="blocked"), Execution("float32", False, attention="dense")
    one, other = (tiny.logits(config, batch, way) for way in ways)
    np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(one).max())


def test_rematerialising_saves_less():
    """Bytes kept for the backward pass fall from policy to policy."""
    batch = tiny.alone(REDLLM, tiny.document(REDLLM, 32, 32, seed=0))

    def kept(remat):
        graph, state = tiny.split(REDLLM, Execution("float32", remat=remat))
        _, pull = jax.eval_shape(lambda s: jax.vjp(lambda s: nnx.merge(graph, s).hidden(batch), s), state)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pull))

    sizes = [kept(remat) for remat in ("none", "save_projections_and_attention", "save_projections", "full")]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 4
