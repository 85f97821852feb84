"""What the TPU's compiler makes of training steps: collectives, memory, and compile time by depth."""

import dataclasses
import importlib.util

import pytest

from tests.training import tiny
from triarch.errors import UserError
from triarch.models import Execution
from triarch.planning import compiler, hlo, make_plan, parse, programs
from triarch.planning.collectives import collectives
from triarch.planning.plan import coordinates
from triarch.sharding import MeshConfig
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


def config(architecture="decoder-only", mesh=None, window=512, **changes):
    model = tiny.model(architecture, **WIDE)
    base = dataclasses.replace(
        tiny.run_config("none", architecture), model=model, data=DataConfig(window), batch_size=8
    )
    execution = Execution(remat="full", gather="layer")
    return dataclasses.replace(base, mesh=mesh or MeshConfig(1, 4), execution=execution, **changes)


def large(run_config):
    """Returns the collectives of a training step that move more than scalars and tokens."""
    run = programs.assembled(run_config, compiler.devices(V5E))
    program = compiler.compile_for(V5E, programs.lowered(run, "train", packed=False))
    module = hlo.parse(program.as_text())
    sent = collectives(module, V5E, coordinates(run.mesh.devices.flat))
    return [one for one in sent if one.num_bytes >= SMALL]


def test_data_parallelism_only_sums_gradients():
    sent = large(config(mesh=MeshConfig(data=4)))
    assert {one.kind for one in sent} == {"all-reduce"}
    parameters = config().model.num_params()
    assert sum(one.num_bytes * one.times for one in sent) < 1.2 * 4 * parameters


def test_fsdp_gathers_parameters_and_no_activations():
    """Each layer's matrices twice (forward and backward, where the layer is computed again), in bfloat16."""
    run_config = config()
    gathered = [one for one in large(run_config) if one.kind == "all-gather"]
    matrices = run_config.model.num_params()
    assert 0 < sum(one.num_bytes * one.times for one in gathered) < 2.5 * 2 * matrices
    assert {one.dtype for one in gathered} <= {"bf16", "f32"}


def test_the_plan_of_each_architecture_fits_and_counts():
    """Peak memory as recorded, to a tenth: a regression shows, a new compiler's rounding does not."""
    for architecture, peak in PEAKS.items():
        plan = make_plan(config(architecture), V5E)
        assert plan.fits and plan.attention == "splash" and plan.mesh["fsdp"] == 4
        assert plan.hbm_bytes_per_device == pytest.approx(peak * 2**20, rel=0.1), architecture
        useful = plan.model_flops_per_step["train"] / plan.num_devices / plan.hlo_flops_per_device
        assert 0.5 < useful < 1  # Full rematerialisation computes a third of it again.


# MiB on each of four v5e chips; jax 0.10.2, libtpu 0.0.42.1.
PEAKS = {"decoder-only": 0, "encoder-decoder": 0}


def test_what_does_not_fit_is_said_with_its_size():
    plan = make_plan(config(batch_size=1 << 16, window=2048), V5E)
    assert not plan.fits and plan.hbm_bytes_per_device > V5E.chip.hbm_bytes and "HBM" in plan.complaint


def test_compile_time_does_not_depend_on_depth():
    """A scan is compiled once: the program of 24 layers is as long as that of three."""
    lengths = []
    for layers in (3, 24):
        base = config()
        deep = dataclasses.replace(base, model=dataclasses.replace(base.model, num_decoder_layers=layers))
        texts = []
        make_plan(deep, V5E, keep_hlo=texts.append)
        lengths.append(len(texts[0].splitlines()))
    assert lengths[1] < 1.1 * lengths[0]


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
