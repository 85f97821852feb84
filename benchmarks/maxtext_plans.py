"""Our compiled training step beside MaxText's: memory and traffic of an 8B decoder on three slices.

    python benchmarks/maxtext_plans.py           # the compiler stopped before machine code: half a minute a row
    python benchmarks/maxtext_plans.py --full    # to the end, as MaxText's was; some minutes a row
    python benchmarks/maxtext_plans.py --slice=v5p:4x4x4 --optimizer=adamw

Both sides: d_model 4096, 32 layers, 32 heads of 128, d_ff 16384, 32,768 tied tokens, 512 x 2048 tokens a step, FSDP
over all chips, layers scanned, only layers' inputs saved, flash attention, parameters float32, activations bfloat16.
Each row of ours is one `triarch plan` in a process of its own. Needs libtpu (extra [tpu]), no TPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from triarch.errors import UserError
from triarch.planning.compiler import versions


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What a compiled step takes of each device, in GiB; gathers and sums are results, with loops multiplied out."""

    arguments: float
    peak: float
    gathered: float
    summed: float


# MaxText 0.2.5 compiled ahead of time in November 2026 with jax 0.12.0.1 and libtpu 0.0.51, its flags left as they are,
# remat_policy "full". Its Adafactor is factored.
MAXTEXT = {
    ("v5p:4x4x4", "adamw"): Compiled(1.53, 10.15, 32.3, 16.3),
    ("v5p:4x4x4", "adafactor"): Compiled(0.53, 9.15, 32.3, 16.3),
    ("v4:4x4x8", "adamw"): Compiled(0.76, 5.28, 32.3, 16.3),
    ("v5e:16x16", "adamw"): Compiled(0.38, 2.90, 32.3, 16.3),
}
SLICES = ("v5p:4x4x4", "v4:4x4x8", "v5e:16x16")
OPTIMIZERS = {
    "adamw": ["RunConfig.optimizer=@AdamW()", "AdamW.learning_rate=@Cosine()"],
    "adafactor": ["Adafactor.factored=True"],
    "adafactor_unfactored": [],  # As RedLLM and DecLLM were trained: a second moment of every parameter.
}
SHAPE = ["MeshConfig.data=1", "MeshConfig.fsdp=-1", "Execution.remat=full", "Execution.gather=layer"]


def planned(topology: str, optimizer: str, settings: list[str], full: bool) -> Compiled:
    """Compiles one row of ours; ends the program where that fails."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "plan.json")
        command = [
            *(sys.executable, "-m", "triarch", "plan", "--gin_file=models/decllm/8b.gin", "--batch_size=512"),
            *(f"--topology={topology}", f"--json={path}", *(["--full"] if full else [])),
            *(f"--gin.{setting}" for setting in (*SHAPE, *OPTIMIZERS[optimizer], *settings)),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            complaint = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
            sys.exit(f"{topology}, {optimizer}: {complaint}")
        plan = json.loads(path.read_text())
    if plan["collectives"] is None:
        sys.exit(f"{topology}, {optimizer}: {plan['complaint']}")
    sent = {kind: 0 for kind in ("all-gather", "all-reduce", "reduce-scatter")}
    for name, total in plan["collectives"].items():
        kind = name.split()[1]
        if kind in sent:
            sent[kind] += total["bytes"]
    sums = sent["all-reduce"] + sent["reduce-scatter"]
    sizes = (plan["argument_bytes"], plan["hbm_bytes_per_device"], sent["all-gather"], sums)
    return Compiled(*(size / 2**30 for size in sizes))


def line(topology: str, optimizer: str, ours: Compiled) -> str:
    """Returns a row of the table."""
    theirs = MAXTEXT.get((topology, optimizer))
    beside = ["", "", ""]
    if theirs is not None:
        beside = [f"{theirs.peak:.2f} ({theirs.arguments:.2f})", f"{ours.peak / theirs.peak:.2f}", _sent(theirs)]
    cells = [topology, optimizer, f"{ours.peak:.2f} ({ours.arguments:.2f})", *beside[:2], _sent(ours), beside[2]]
    return f"| {' | '.join(cells)} |"


def _sent(side: Compiled) -> str:
    return f"{side.gathered:.1f} / {side.summed:.1f}"


def main() -> None:
    """Compiles and prints row after row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", action="append", choices=SLICES, help="only this one (repeatable)")
    parser.add_argument("--optimizer", action="append", choices=OPTIMIZERS, help="only this one (repeatable)")
    parser.add_argument("--parts", type=int, default=8, help="Execution.feed_forward_parts (default: %(default)s)")
    parser.add_argument("--loss_chunk", type=int, default=256, help="RunConfig.loss_chunk (default: %(default)s)")
    parser.add_argument("--full", action="store_true", help="compile to the end")
    args = parser.parse_args()
    settings = [f"Execution.feed_forward_parts={args.parts}", f"RunConfig.loss_chunk={args.loss_chunk}"]
    rows = [(s, o) for s in args.slice or SLICES for o in args.optimizer or OPTIMIZERS]
    print(f"GiB a device; ours by {versions()}, {' '.join(settings)}; MaxText 0.2.5's by jax 0.12.0.1, libtpu 0.0.51\n")
    print("| slice | optimizer | peak (arguments of it) | MaxText's | ratio | gathered / summed | MaxText's |")
    print("|---|---|---|---|---|---|---|")
    for number, (topology, optimizer) in enumerate(rows, start=1):
        print(f"{number} of {len(rows)}: {optimizer} on {topology}", file=sys.stderr)
        print(line(topology, optimizer, planned(topology, optimizer, settings, args.full)), flush=True)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
