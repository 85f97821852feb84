"""What the TPU's compiler makes of training steps: collectives, memory, and compile time by depth."""

import dataclasses
import functools
import importlib.util

import pytest

from tests.training import tiny
from triarch.errors import UserError
from triarch.models import Execution
from triarch.models.layers.experts import Experts
from triarch.planning import Lengths, compiler, hlo, make_plan, parse, work
from triarch.planning.collectives import collectives
from triarch.planning.plan import coordinates
from triarch.sharding import MeshConfig, make_mesh
from triarch.training import DataConfig

pytestmark = [
    pytest.mark.tpu_compiler,
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"),
]

V5E = parse("v5e:2x2")
WIDE = {"d_model": 512, "d_ff": 1024, "num_heads": 4, "head_dim": 128, "vocab_size": 1024}
# Nothing smaller than this is an activation or a parameter: sums of losses, norms, tokens.
SMALL = 1 << 18


def config(architecture="decoder-only", mesh=None, window=512, layers=None, parts=1, **changes):
    model = tiny.model(architecture, **WIDE)
    model = model if layers is None else dataclasses.replace(model, num_decoder_layers=layers)
    base = dataclasses.replace(
        tiny.run_config("none", architecture), model=model, data=DataConfig(window), batch_size=8, loss_chunk=128
    )
    execution = Execution(remat="full", gather="layer", feed_forward_parts=parts)
    return dataclasses.replace(base, mesh=mesh or MeshConfig(1, 4), execution=execution, **changes)


@functools.cache
def planned(**changes):
    """Returns the plan of a training step, its compiled text, and the collectives that move more than scalars."""
    texts, run_config = [], config(**changes)
    plan = make_plan(run_config, V5E, keep_hlo=texts.append)
    mesh = make_mesh(run_config.mesh, compiler.devices(V5E))
    sent = collectives(hlo.parse(texts[0]), V5E, coordinates(mesh.devices.flat))
    return plan, texts[0], [one for one in sent if one.num_bytes >= SMALL]


def moved(sent, kind):
    return sum(one.num_bytes * one.times for one in sent if one.kind == kind)


def of_parameter(one):
    """Whether a collective is of what has just been cast, or taken out of the stack of layers' parameters."""
    return one.source.endswith(("convert_element_type", "jit(dynamic_index_in_dim)/squeeze"))


def test_data_parallelism_only_sums_gradients():
    """Each gradient once, in bfloat16 or float32."""
    _, _, sent = planned(mesh=MeshConfig(data=4))
    parameters = config().model.num_params()
    assert {one.kind for one in sent} == {"all-reduce"}
    assert 2 * parameters <= moved(sent, "all-reduce") < 1.1 * 4 * parameters


def test_fsdp_gathers_parameters_and_no_activations():
    """Each layer's matrices in bfloat16 twice, since the backward pass computes the layer again; gradients once."""
    _, _, sent = planned()
    parameters = config().model.num_params()
    gathers = [one for one in sent if one.kind == "all-gather"]
    assert {one.dtype for one in gathers} == {"bf16"}
    # The embedding once, however many chunks of logits it makes.
    assert all(map(of_parameter, gathers))
    assert 1.5 * 2 * parameters < moved(sent, "all-gather") <= 2 * 2 * parameters
    assert 2 * parameters <= moved(sent, "reduce-scatter") <= 1.1 * 4 * parameters
    # The gradient of the unembedding is summed once, after the loop over chunks, in the type of activations.
    (unembedding,) = (one for one in sent if one.source.endswith("reduce_sum"))
    assert (unembedding.times, unembedding.num_bytes) == (1, 2 * WIDE["d_model"] * WIDE["vocab_size"])
    sent = [one for one in sent if one is not unembedding]
    # Token embeddings change from columns of the table to rows of the batch, and their gradients back.
    assert {one.kind for one in sent} == {"all-gather", "reduce-scatter", "all-to-all"}
    assert all("_take" in one.source for one in sent if one.kind == "all-to-all")


def test_tensor_parallelism_sums_activations_and_gathers_none():
    """Parts of products across the axis are added up: after attention and feed-forward, there and back."""
    _, _, sent = planned(mesh=MeshConfig(1, 2, 2))
    assert all(of_parameter(one) for one in sent if one.kind == "all-gather")
    stream = 2 * (8 // 2) * 512 * WIDE["d_model"]
    sums = [one for one in sent if one.kind == "all-reduce" and one.num_bytes == stream]
    assert {one.dtype for one in sums} == {"bf16"}
    # Of three layers twice forward, twice back and, computed again, once or twice; of looked-up tokens once.
    assert 3 * 4 + 1 <= sum(one.times for one in sums) <= 3 * 6 + 1


def test_sequence_parallelism_gathers_keys_and_values_only():
    """In each of three layers, forward and computed again; their gradients are summed where they came from."""
    _, _, sent = planned(mesh=MeshConfig(1, 2, 1, sequence=2))
    activations = [one for one in sent if one.kind == "all-gather" and not of_parameter(one)]
    keys = 2 * (8 // 2) * 512 * WIDE["num_heads"] * WIDE["head_dim"]
    assert {one.num_bytes for one in activations} == {keys}
    assert sum(one.times for one in activations) == 3 * 2 * 2
    assert any(one.kind == "reduce-scatter" and one.source.endswith("shard_map/psum") for one in sent)
    assert {one.kind for one in sent} == {"all-gather", "all-reduce", "reduce-scatter"}


# MiB on each of four v5e chips; jax 0.10.2, libtpu 0.0.42.1.
PEAKS = {"decoder-only": 63.1, "encoder-decoder": 75.0}


@pytest.mark.parametrize("architecture", PEAKS)
def test_peak_memory_is_as_recorded(architecture):
    """To a tenth: a regression shows, the rounding of a new compiler does not."""
    plan, _, _ = planned() if architecture == "decoder-only" else planned(architecture=architecture)
    assert plan.fits and plan.attention == "splash" and plan.mesh["fsdp"] == 4
    assert plan.hbm_bytes_per_device / 2**20 == pytest.approx(PEAKS[architecture], rel=0.1)
    useful = plan.model_flops_per_step["train"] / plan.num_devices / plan.hlo_flops_per_device
    assert 0.5 < useful < 1  # Full rematerialisation computes a third of it again.


def test_a_feed_forward_layer_in_parts_takes_less_memory_and_sends_and_computes_the_same():
    (whole, _, sent), (parts, _, sent_in_parts) = planned(), planned(parts=4)
    assert parts.hbm_bytes_per_device < 0.97 * whole.hbm_bytes_per_device
    assert parts.hlo_flops_per_device == pytest.approx(whole.hlo_flops_per_device, rel=1e-6)
    for kind in ("all-gather", "reduce-scatter", "all-reduce", "all-to-all"):
        assert moved(sent_in_parts, kind) == pytest.approx(moved(sent, kind), rel=1e-3), kind


def test_experts_multiply_each_token_once_there_and_twice_back():
    """All products but the attention kernel's: 6 operations a parameter and token, and blocks that are not full."""
    base = config(mesh=MeshConfig(data=4), window=2048)
    experts = Experts(8, 2, d_ff=512, balance_loss=0.0)
    model, texts = dataclasses.replace(base.model, feed_forward=experts), []
    execution = Execution(remat="none", gather="compiler")
    make_plan(dataclasses.replace(base, model=model, execution=execution), V5E, keep_hlo=texts.append)
    steps = work.steps(hlo.parse(texts[0]))
    products = sum(done.flops * done.times for step, done in steps if "splash" not in step.name)
    expected = 6 * (8 // 4) * 2048 * model.num_params_active()
    assert 0.99 * expected < products < 1.04 * expected


def test_a_new_token_gathers_no_activations():
    """Only parameters, in the type of activations, and the cache stays where it is."""
    texts = []
    lengths = Lengths(prompt=512, new_tokens=64)
    plan = make_plan(config(), V5E, "decode", keep_hlo=texts.append, lengths=lengths)
    mesh = make_mesh(config().mesh, compiler.devices(V5E))
    sent = collectives(hlo.parse(texts[0]), V5E, coordinates(mesh.devices.flat))
    assert {one.kind for one in sent if one.num_bytes >= SMALL} <= {"all-gather"}
    assert moved(sent, "all-gather") <= 4.1 * config().model.num_params()
    # 3 layers of keys and values in bfloat16, 8 rows over 4 chips.
    assert plan.cache_bytes == 3 * 2 * (512 + 64) * 512 * 2 * 8 // 4
    assert plan.cache_bytes < plan.hbm_bytes_per_device < V5E.chip.hbm_bytes


def test_what_does_not_fit_is_said_with_its_size():
    plan = make_plan(config(batch_size=1 << 16, window=2048), V5E)
    assert not plan.fits and plan.hbm_bytes_per_device > V5E.chip.hbm_bytes and "HBM" in plan.complaint


def test_compile_time_does_not_depend_on_depth():
    """A scan is compiled once: the program of 24 layers is as long as that of three."""
    _, shallow, _ = planned()
    _, deep, _ = planned(layers=24)
    assert len(deep.splitlines()) < 1.1 * len(shallow.splitlines())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mesh": MeshConfig(1, 3)}, "needs 3 devices, but there are 4"),
        ({"batch_size": 6}, "batch_size 6 is not divisible by fsdp=4"),
        ({"mesh": MeshConfig(1, 1, -1, replica=1), "model": {"num_heads": 6}}, "tensor=4 does not divide heads = 6"),
    ],
)
def test_what_does_not_divide_is_refused_before_compiling(changes, message):
    model = dataclasses.replace(config().model, **changes.pop("model", {}))
    with pytest.raises(UserError, match=message):
        make_plan(dataclasses.replace(config(), model=model, **changes), V5E)
