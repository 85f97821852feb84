"""Training throughput on the CPU: triarch's own training step beside Hugging Face's Llama in PyTorch, in one run.

    python benchmarks/training_throughput.py --hf_python=/path/to/venv/with/torch/bin/python

Both sides train a decoder with RMSNorm, SwiGLU, RoPE and a tied embedding of the same shape in float32 with AdamW; the
Hugging Face side compiled and with fused AdamW, its fastest. They take turns, so that both meet the same machine.
Prints a table and the ratio of median tokens/s; without --hf_python, triarch's side alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triarch.models import ModelConfig

HERE = Path(__file__).parent
# The command line keeps freed memory in the process; this does the same for the peer.
PEER_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}
SHAPE = {"d_model": 512, "layers": 8, "heads": 8, "d_ff": 2048, "vocab": 8192, "batch": 8, "length": 512}


def main() -> None:
    """Runs the sides in turns and prints the table."""
    args = _flags()
    if args.one_side:
        print(json.dumps({"seconds": triarch_seconds(args)}))
        return
    sides = {"triarch": lambda: _own_side(args)}
    if args.hf_python:
        sides["hugging_face"] = lambda: _peer_side(args)
    compare(args, sides)


def compare(args: argparse.Namespace, sides: Mapping[str, Callable[[], list[float]]]) -> None:
    """Runs the sides in turns, each giving the seconds of its steps, and prints the table."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(args.rounds):
        for name, run in sides.items():
            seconds[name] += run()
        print(f"round {number + 1} of {args.rounds} done", file=sys.stderr, flush=True)
    report = table(args, seconds)
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=2) + "\n")


def triarch_seconds(args: argparse.Namespace) -> list[float]:
    """Returns seconds of each timed step of a network of Llama's shape."""
    from triarch.models import ModelConfig

    model = ModelConfig(
        vocab_size=args.vocab,
        d_model=args.d_model,
        d_ff=args.d_ff,
        num_heads=args.heads,
        head_dim=args.d_model // args.heads,
        num_decoder_layers=args.layers,
    )
    return step_seconds(model, args)


def step_seconds(model: ModelConfig, args: argparse.Namespace) -> list[float]:
    """Returns seconds of each timed step of the real training step of a decoder, on random tokens."""
    from triarch.cli import environment

    environment.configure()
    import jax
    import numpy as np

    from triarch.models import Execution
    from triarch.objectives import CausalLM, SpecialTokens
    from triarch.training import DataConfig, RunConfig
    from triarch.training.optimizers.optimizer import AdamW
    from triarch.training.optimizers.schedules import Constant
    from triarch.training.run import assemble_program
    from triarch.training.state import born_sharded

    config = RunConfig(
        model=model,
        objective=CausalLM(),
        data=DataConfig(window=args.length),
        optimizer=AdamW(Constant(3e-4)),
        steps=1000,
        batch_size=args.batch,
        execution=Execution("float32", scan_layers=args.scan_layers),
        loss_chunk=args.loss_chunk,
        z_loss=0.0,
    )
    program = assemble_program(config, config.bound(SpecialTokens(0, 0, 1, None)))
    state = born_sharded(program.network, program.transformation, program.target, 0)
    features, rng = program.objective.features, np.random.default_rng(0)
    rows = [features({"tokens": rng.integers(2, args.vocab, args.length)}, rng) for _ in range(args.batch)]
    batch = jax.device_put({name: np.stack([row[name] for row in rows]) for name in rows[0]}, program.batch_layout)
    seconds = []
    for _ in range(args.warmup + args.steps):
        started = time.perf_counter()
        state, metrics = program.train_step(state, batch)
        jax.block_until_ready(metrics)
        seconds.append(time.perf_counter() - started)
    return seconds[args.warmup :]


def _own_side(args: argparse.Namespace) -> list[float]:
    command = [sys.executable, __file__, "--one_side", *sys.argv[1:]]
    return json.loads(last_line(command))["seconds"]


def _peer_side(args: argparse.Namespace) -> list[float]:
    shape = [f"--{name.replace('_', '-')}={getattr(args, name)}" for name in SHAPE]
    command = [args.hf_python, str(HERE / "hf_llama_step.py"), *shape, "--compile", "--fused"]
    command += [f"--steps={args.steps}", f"--warmup={args.warmup}"]
    return json.loads(last_line(command, os.environ | PEER_ALLOCATOR))["seconds"]


def last_line(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Runs a command and returns the last line that it prints."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return done.stdout.strip().splitlines()[-1]


def table(args: argparse.Namespace, seconds: dict[str, list[float]]) -> dict:
    """Prints each side's seconds a step and tokens/s, and their ratio; returns them."""
    tokens = args.batch * args.length
    report = {}
    print(f"{'side':14} {'s/step: median':>14} {'min':>7} {'max':>7} {'tokens/s':>9}")
    for side, values in seconds.items():
        median = statistics.median(values)
        report[side] = {"median": median, "min": min(values), "max": max(values), "tokens_per_second": tokens / median}
        print(f"{side:14} {median:14.3f} {min(values):7.3f} {max(values):7.3f} {tokens / median:9.0f}")
    if len(report) == 2:
        report["ratio"] = report["hugging_face"]["median"] / report["triarch"]["median"]
        print(f"triarch / Hugging Face: {report['ratio']:.2f} times the tokens/s")
    return report


def make_parser(description: str | None, shape: Mapping[str, int], **defaults: int) -> argparse.ArgumentParser:
    """Returns a parser of the flags of a comparison; `defaults` are of steps, warmup and rounds."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in shape.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--steps", type=int, help="timed steps a round")
    parser.add_argument("--warmup", type=int, help="untimed steps first")
    parser.add_argument("--rounds", type=int, help="turns of each side")
    parser.add_argument("--loss_chunk", type=int, default=64)
    parser.add_argument("--scan_layers", action="store_true")
    parser.add_argument("--hf_python", help="interpreter with torch and transformers")
    parser.add_argument("--json", metavar="PATH")
    parser.set_defaults(**defaults)
    return parser


def _flags() -> argparse.Namespace:
    parser = make_parser(__doc__, SHAPE, steps=5, warmup=2, rounds=2)
    parser.add_argument("--one_side", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
