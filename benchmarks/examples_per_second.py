"""Examples a second of RedLLM, DecLLM and DecLLM + BiAttn at matched parameters, over lengths.

    python benchmarks/examples_per_second.py --size=laptop_s --lengths=128,256,512 --batch_size=8
    python benchmarks/examples_per_second.py --size=1b --lengths=2048 --batch_size=512 --topology=v5p:4x4x4

As figure 9 of arXiv 2510.26622. An example is inputs and targets of half a length each. Training is the real step of
the tuning recipes (runs/tune), every row full, so that no padding flatters anybody. Inference is measured twice: the
loss of given targets (score), and greedy answers of --new_tokens tokens to prompts of half a length (generate). The
three take turns, on whatever devices JAX finds. With --topology nothing is measured, and the step is compiled for TPUs
instead: a roofline's estimate (needs libtpu).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from triarch.cli import environment

MODELS = {"RedLLM": "redllm", "DecLLM": "decllm", "DecLLM + BiAttn": "decllm_biattn"}
KINDS = ("train", "score", "generate")


def main() -> None:
    """Measures or estimates, and prints a table."""
    args = _flags()
    environment.configure()
    print(f"{'model':16} {'parameters':>13} {'length':>7} " + " ".join(f"{kind + '/s':>12}" for kind in KINDS))
    rows = []
    for row in _estimates(args) if args.topology else _measurements(args):
        cells = " ".join(f"{row[kind]:12.2f}" if row.get(kind) else f"{'-':>12}" for kind in KINDS)
        print(f"{row['model']:16} {row['num_params']:13,} {row['length']:7} {cells}", flush=True)
        rows.append(row)
    if args.json:
        Path(args.json).write_text(json.dumps({"device": _device(args), "rows": rows}, indent=2) + "\n")


def _measurements(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for length in args.lengths:
        timers = {(name, kind): _timed(name, kind, length, args) for name in MODELS for kind in args.kinds}
        seconds: dict[tuple[str, str], list[float]] = {key: [] for key in timers}
        for _ in range(args.steps):
            for key, timer in timers.items():
                seconds[key].append(next(timer))
        for name in MODELS:
            row: dict[str, Any] = {"model": name, "num_params": _config(name, length, args).model.num_params()}
            row["length"] = length
            for kind in args.kinds:
                found = seconds[name, kind]
                row[kind] = args.batch_size / statistics.median(found)
                row[f"{kind}_seconds"] = {"median": statistics.median(found), "min": min(found), "max": max(found)}
            yield row


def _timed(name: str, kind: str, length: int, args: argparse.Namespace) -> Iterator[float]:
    """Yields the seconds of one step or call after another, compilation left out."""
    call = {"train": _training, "score": _scoring, "generate": _generation}[kind](name, length, args)
    call()
    while True:
        started = time.perf_counter()
        call()
        yield time.perf_counter() - started


def _training(name: str, length: int, args: argparse.Namespace) -> Any:
    import jax

    program, batch = _program(_config(name, length, args))
    state = [_fresh(program)]

    def call() -> None:
        state[0], metrics = program.train_step(state[0], batch)
        jax.block_until_ready(metrics)

    return call


def _scoring(name: str, length: int, args: argparse.Namespace) -> Any:
    import jax

    program, batch = _program(_config(name, length, args))
    params = _fresh(program).params
    return lambda: jax.block_until_ready(program.eval_step(params, batch))


def _generation(name: str, length: int, args: argparse.Namespace) -> Any:
    from flax import nnx

    from triarch.decoding import GenerationSettings, Generator
    from triarch.interchange import LoadedModel, Origin, Placement
    from triarch.models import build
    from triarch.models.network import split

    config = _config(name, length, args)
    model = LoadedModel(
        Path(name), *split(build(config.model, config.execution, nnx.Rngs(params=0))), Origin(), Placement.one_device()
    )
    generator = Generator(model, bidirectional_prompt=name == "DecLLM + BiAttn")
    prompts = np.random.default_rng(0).integers(2, config.model.vocab_size, (args.batch_size, length // 2)).tolist()
    settings = GenerationSettings(max_new_tokens=args.new_tokens)

    def call() -> None:
        generator.generate(prompts, settings, batch_size=args.batch_size)

    return call


def _program(config: Any) -> tuple[Any, dict[str, Any]]:
    """Returns what a run of `config` computes, and a batch of random tokens for it, every row full."""
    import jax

    from triarch.objectives import SpecialTokens
    from triarch.training.run import assemble_program

    size, half = config.model.vocab_size, config.objective.inputs_length
    bound = config.bound(SpecialTokens(0, 0, 1, None), size)
    rng = np.random.default_rng(0)
    rows = [
        bound.features({side: rng.integers(2, size, half, np.int32) for side in ("inputs", "targets")}, rng)
        for _ in range(config.batch_size)
    ]
    program = assemble_program(config, bound)
    stacked = {feature: np.stack([row[feature] for row in rows]) for feature in rows[0]}
    return program, jax.device_put(stacked, program.batch_layout)


def _fresh(program: Any) -> Any:
    from triarch.training.state import born_sharded

    return born_sharded(program.network, program.transformation, program.target, 0)


def _estimates(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from triarch.planning import make_quick_plan
    from triarch.planning.topology import parse

    for length in args.lengths:
        for name in MODELS:
            config, topology = _config(name, length, args), parse(args.topology, 1)
            row = {"model": name, "num_params": config.model.num_params(), "length": length}
            for kind, program in (("train", "train"), ("score", "evaluate")):
                if kind in args.kinds:
                    plan = make_quick_plan(config, topology, program)
                    found = None if plan.estimate is None else plan.estimate.step_seconds
                    row |= {kind: None if found is None else config.batch_size / found, f"{kind}_fits": plan.fits}
            yield row


def _config(name: str, length: int, args: argparse.Namespace) -> Any:
    from triarch.cli.gin.files import load_run

    recipe, half = MODELS[name], length // 2
    family = "redllm" if recipe == "redllm" else "decllm"
    bindings = [
        f"Supervised.inputs_length={half}",
        f"Supervised.targets_length={half}",
        f"DataConfig.window={2 * half}",
        f"RunConfig.batch_size={args.batch_size}",
    ]
    files = [f"runs/tune/{recipe}.gin", f"models/{family}/{args.size}.gin"]
    config, _ = load_run(argparse.Namespace(gin_file=files, gin_bindings=[*bindings, *args.gin_bindings]))
    # A batch here is full as it is.
    return dataclasses.replace(config, data=dataclasses.replace(config.data, pack_batches=False))


def _device(args: argparse.Namespace) -> str:
    if args.topology:
        return args.topology
    import jax

    first = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{jax.device_count()} x {first.device_kind}" if first.platform != "cpu" else f"{cores} cores"


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--size", default="laptop_s", help="of models/redllm and models/decllm, which match (default: %(default)s)")
    add("--lengths", default="128,256,512", help="tokens of an example, both sides (default: %(default)s)")
    add("--batch_size", type=int, default=8, help="examples at a time (default: %(default)s)")
    add("--new_tokens", type=int, default=32, help="of an answer (default: %(default)s)")
    add("--kinds", default=",".join(KINDS), help="default: %(default)s")
    add("--steps", type=int, default=5, help="timed, of each model (default: %(default)s)")
    add("--topology", help="compile for this TPU slice instead, as v5p:2x2x1")
    add("--gin", dest="gin_bindings", action="append", default=[], metavar="NAME=VALUE", help="repeatable")
    add("--json", metavar="PATH")
    args = parser.parse_args()
    args.lengths = [int(length) for length in args.lengths.split(",")]
    args.kinds = args.kinds.split(",")
    return args


if __name__ == "__main__":
    main()
