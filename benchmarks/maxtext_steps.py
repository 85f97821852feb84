"""The estimate of a step's time beside steps that MaxText's users measured on TPUs: how far it is to be trusted.

    python benchmarks/maxtext_steps.py

MaxText publishes what its own configs reach on slices (MaxText/configs/v5p/README.md, v5e/README.md) in TFLOP/s a chip:
6 operations a parameter and token, and causal attention. Their shapes follow from `global_parameter_scale` in its
scripts there; sequences have 2,048 tokens of 32,000 ids. On v5p heads are shared out ("tensor"), and the policy
"minimal" saves all projections. Arithmetic alone: needs no libtpu and no TPU.
"""

from __future__ import annotations

import argparse
import dataclasses

from triarch.cli.gin import files
from triarch.planning.topology import parse
from triarch.sharding.mesh import AXES
from triarch.training.choosing.cost import Option, seconds
from triarch.training.choosing.facts import Facts
from triarch.training.config import RunConfig

_WINDOW, _IDS, _HEAD = 2048, 32_000, 128


@dataclasses.dataclass(frozen=True)
class Measured:
    """A published step: the model in billions, sequences a chip, the mesh, and TFLOP/s a chip that were reached."""

    topology: str
    billions: int
    rows: int
    tensor: int
    remat: str
    tflops: float


STEPS = (
    Measured("v5e-256", 16, 6, 1, "full", 120),
    Measured("v5e-256", 32, 4, 1, "full", 132),
    Measured("v5e-256", 64, 2, 1, "full", 118),
    Measured("v5p-128", 32, 7, 4, "save_projections", 328),
    Measured("v5p-128", 64, 3, 4, "save_projections", 323),
)
# Width, heads, layers.
SHAPES = {16: (4096, 64, 32), 32: (8192, 64, 32), 64: (8192, 64, 64)}
_D_FF = 28_672  # Of all three.


def measured_seconds(step: Measured) -> float:
    """Returns the seconds of a published step."""
    width, heads, layers = SHAPES[step.billions]
    parameters = layers * (3 * width * _D_FF + 4 * width * heads * _HEAD) + 2 * _IDS * width
    attention = 6 * layers * heads * _HEAD * _WINDOW  # Operations a token, halved as it is causal.
    return step.rows * _WINDOW * (6 * parameters + attention) / step.tflops / 1e12


def config(step: Measured, devices: int) -> RunConfig:
    """Returns the same step as a run of ours."""
    width, heads, layers = SHAPES[step.billions]
    shape = (
        f"ModelConfig.d_model={width}",
        f"ModelConfig.d_ff={_D_FF}",
        f"ModelConfig.num_heads={heads}",
        f"ModelConfig.num_decoder_layers={layers}",
        f"ModelConfig.vocab_size={_IDS}",
        "RunConfig.optimizer=@AdamW()",
        "AdamW.learning_rate=@Cosine()",
        f"DataConfig.window={_WINDOW}",
        f"RunConfig.batch_size={step.rows * devices}",
    )
    return files.load_run(argparse.Namespace(gin_file=["models/decllm/8b.gin"], gin_bindings=list(shape)))[0]


def estimated_seconds(step: Measured) -> float:
    """Returns the seconds by the arithmetic that runs choose by."""
    machine = parse(step.topology).machine
    sizes = dict.fromkeys(AXES, 1) | {"fsdp": machine.num_devices // step.tensor, "tensor": step.tensor}
    facts = Facts(config(step, machine.num_devices), "tpu")
    return seconds(facts, Option(sizes, step.remat, "layer"), machine)


def main() -> None:
    """Prints a row a published step."""
    print("| slice | model | rows a chip | fsdp x tensor; remat | measured s | estimated s | off by |")
    print("|---|---|---|---|---|---|---|")
    for step in STEPS:
        measured, estimated = measured_seconds(step), estimated_seconds(step)
        mesh = f"{parse(step.topology).machine.num_devices // step.tensor} x {step.tensor}; {step.remat}"
        print(
            f"| {step.topology} | {step.billions}B | {step.rows} | {mesh} | {measured:.2f} | {estimated:.2f} | "
            f"{estimated / measured - 1:+.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
