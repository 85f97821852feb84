"""triarch's parts of `on_gpu.py`, one a process: after each row it prints all rows so far, as a line of JSON."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Batch, length, query heads, key/value heads, width of a head.
SHAPE, TOY_SHAPE = (4, 2048, 16, 4, 128), (2, 128, 2, 1, 16)
# Twice what dense attention is off by in the same type, and a rounding of the largest number.
EXACT, ROUNDING = 2.0, 2**-8
# Of one chain of products: some tenths of a second.
CHAIN_FLOPS = 2e14
PROMPT, NEW, TOY_PROMPT, TOY_NEW = 512, 128, 16, 8


def main() -> None:
    """Runs one part."""
    args = _flags()
    from triarch.cli import environment

    environment.configure()
    import jax

    facts = {"device": _device(), "versions": f"jax {jax.__version__}"}
    rows = []
    for row in {"matmul": matmul, "kernels": kernels, "train": train, "decode": decode}[args.part](args):
        rows.append(row)
        print(json.dumps(facts | {"rows": rows}), flush=True)


def load(model: str, bindings: list[str]) -> Any:
    """Returns the published recipe of a model file, with bindings on top."""
    from triarch.cli.gin.files import load_run

    return load_run(argparse.Namespace(gin_file=[model], gin_bindings=bindings))[0]


def matmul(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields the rate of square products in bfloat16; the best of several rounds, each a chain of products."""
    import jax
    import jax.numpy as jnp

    for size in (128, 256) if args.toy else (4096, 8192, 16384):
        chain = 2 if args.toy else int(CHAIN_FLOPS / (2 * size**3))
        left = jax.random.normal(jax.random.key(0), (size, size), jnp.bfloat16)
        right = jax.random.normal(jax.random.key(1), (size, size), jnp.bfloat16) / math.sqrt(size)

        @jax.jit
        def products(left, right, chain=chain):
            return jax.lax.fori_loop(0, chain, lambda _, x: (x @ right).astype(jnp.bfloat16), left)

        seconds = _best(products, (left, right), 1, 5)
        yield {"kind": "matmul", "size": size, "tflops": 2 * size**3 * chain / seconds / 1e12}


def kernels(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields times of attention kernels, and how far off they are from the dense formula in float32."""
    import jax
    import jax.numpy as jnp

    from triarch.models import Execution
    from triarch.models.attention.scores import Scores

    batch, length, heads, kv_heads, width = TOY_SHAPE if args.toy else SHAPE
    keys = jax.random.split(jax.random.key(0), 4)
    sizes = (heads, kv_heads, kv_heads, heads)
    query, key, value, slope = (
        jax.random.normal(one, (batch, length, size, width), jnp.bfloat16)
        for one, size in zip(keys, sizes, strict=True)
    )
    scores = Scores(1 / math.sqrt(width))
    fastest = Execution().on(jax.default_backend()).attention
    for case, mask in _masks(batch, length).items():
        with jax.default_matmul_precision("highest"):
            wide = (x.astype(jnp.float32) for x in (query, key, value, slope))
            exact = _functions("dense", mask, scores)[1](*wide)
        limits: list[float] = []
        dense_seconds = 0.0
        for name in dict.fromkeys(("dense", "blocked", fastest)):
            forward, both = _functions(name, mask, scores)
            errors = [
                float(jnp.max(jnp.abs(a.astype(jnp.float32) - b)))
                for a, b in zip(both(query, key, value, slope), exact, strict=True)
            ]
            repeats = 2 if args.toy else 10
            forward_seconds = _best(forward, (query, key, value), repeats, 3)
            seconds = _best(both, (query, key, value, slope), repeats, 3)
            if name == "dense":
                sizes = [float(jnp.max(jnp.abs(b))) for b in exact]
                limits = [EXACT * error + ROUNDING * size for error, size in zip(errors, sizes, strict=True)]
                dense_seconds = seconds
            yield {
                "kind": "kernel",
                "case": case,
                "kernel": name,
                "forward_ms": 1e3 * forward_seconds,
                "both_ms": 1e3 * seconds,
                "times_dense": dense_seconds / seconds,
                "error": errors[0],
                "gradient_error": max(errors[1:]),
                "is_exact": all(error <= limit for error, limit in zip(errors, limits, strict=True)),
            }


def _functions(name: str, mask: Any, scores: Any) -> tuple[Callable, Callable]:
    """Returns a kernel compiled, and the kernel with its gradients."""
    import jax

    from triarch.models.kernels.by_platform import attending
    from triarch.models.placing import unconstrained

    attend = attending(name, unconstrained)

    def forward(query, key, value):
        return attend(query, key, value, mask, scores)

    def both(query, key, value, slope):
        attended, back = jax.vjp(forward, query, key, value)
        return attended, *back(slope.astype(attended.dtype))

    return jax.jit(forward), jax.jit(both)


def _masks(batch: int, length: int) -> dict[str, Any]:
    """Returns masks by name, as the models have them."""
    import jax.numpy as jnp

    from triarch.models.attention.masks import Mask

    segments = jnp.broadcast_to(1 + jnp.arange(length) * 4 // length, (batch, length))
    prefix = jnp.broadcast_to(jnp.arange(length) < length // 2, (batch, length))
    return {
        "causal": Mask(causal=True),
        "both directions": Mask(),
        "window of 64 a side": Mask(window=length // 32),
        "packed, causal": Mask(segments, segments, causal=True),
        "prefix": Mask(prefix=prefix, causal=True),
    }


def train(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields the seconds of a model's real training step, on random tokens."""
    import jax

    from triarch.training.choosing.choice import choose
    from triarch.training.choosing.facts import POLICIES
    from triarch.training.hardware import peak_flops

    config = load(args.model, args.gin)
    config = choose(config, jax.devices()).applied(config)
    policies = list(POLICIES[POLICIES.index(config.execution.remat) :])
    for policy in policies:
        execution = dataclasses.replace(config.execution, remat=policy)
        try:
            program, losses, seconds = _steps(dataclasses.replace(config, execution=execution), args)
            break
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or policy == policies[-1]:
                raise
    median, flops = statistics.median(seconds), program.flops_per_step("train")
    sheet = peak_flops(jax.devices()[0])
    yield {
        "kind": "train",
        "model": args.name,
        "side": "triarch",
        "parameters": config.model.num_params(),
        "batch": f"{config.batch_size} x {config.data.window:,}",
        "seconds": median,
        "all_seconds": seconds,
        "tokens_per_second": program.tokens_per_step / median,
        "flops": flops,
        "mfu_sheet": None if sheet is None else flops / median / sheet,
        "losses": f"{losses[0]:.2f} to {losses[-1]:.2f}",
        "how": f"remat {policy}, microbatches {config.microbatches}",
    }


def _steps(config: Any, args: argparse.Namespace) -> tuple[Any, list[float], list[float]]:
    """Returns a run's program, the loss of every step, and the seconds of those after the first two."""
    import jax
    import numpy as np

    from triarch.objectives import SpecialTokens
    from triarch.training.run import assemble_program
    from triarch.training.state import born_sharded

    size, rng = config.model.vocab_size, np.random.default_rng(0)
    bound = config.bound(SpecialTokens(0, 0, 1, 2) if size > 2 else None)
    program = assemble_program(config, bound)
    state = born_sharded(program.network, program.transformation, program.target, 0)
    rows = [
        bound.features({"tokens": rng.integers(3, size, config.data.window, np.int32)}, rng)
        for _ in range(config.batch_size)
    ]
    batch = jax.device_put({name: np.stack([row[name] for row in rows]) for name in rows[0]}, program.batch_layout)
    losses, seconds = [], []
    for _ in range(4 if args.toy else 12):
        started = time.perf_counter()
        state, metrics = program.train_step(state, batch)
        losses.append(float(metrics["loss"]))
        seconds.append(time.perf_counter() - started)
    assert all(map(math.isfinite, losses)), losses
    return program, losses, seconds[2:]


def decode(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields the new tokens a second of greedy decoding."""
    import numpy as np
    from flax import nnx

    from triarch.decoding import GenerationSettings, Generator
    from triarch.interchange import LoadedModel, Origin, Placement
    from triarch.models import build
    from triarch.models.network import split

    config = load(args.model, args.gin)
    network = build(config.model, config.execution, nnx.Rngs(params=0))
    generator = Generator(LoadedModel(Path(args.name), *split(network), Origin(), Placement.one_device()))
    prompt, new = (TOY_PROMPT, TOY_NEW) if args.toy else (PROMPT, NEW)
    rng = np.random.default_rng(0)
    prompts = rng.integers(3, config.model.vocab_size, (config.batch_size, prompt)).tolist()
    seconds = {}
    for count in (1, new):
        settings = GenerationSettings(max_new_tokens=count)

        def call(settings=settings) -> None:
            generator.generate(prompts, settings, batch_size=config.batch_size)

        call()
        seconds[count] = min(_seconds(call) for _ in range(3))
    yield {
        "kind": "decode",
        "model": args.name,
        "side": "triarch",
        "batch": f"{config.batch_size} x {prompt} + {new}",
        "prefill": seconds[1],
        "tokens_per_second": config.batch_size * new / seconds[new],
    }


def _best(function: Callable, values: tuple, repeats: int, rounds: int) -> float:
    """Returns seconds a call: of rounds of `repeats` calls the fastest, after one that compiles."""
    import jax

    jax.block_until_ready(function(*values))

    def round_of_calls() -> None:
        for _ in itertools.repeat(None, repeats):
            found = function(*values)
        jax.block_until_ready(found)

    return min(_seconds(round_of_calls) for _ in range(rounds)) / repeats


def _seconds(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def _device() -> str:
    import jax

    first = jax.devices()[0]
    limit = (first.memory_stats() or {}).get("bytes_limit") if first.platform != "cpu" else None
    memory = "" if limit is None else f", {limit / 2**30:.0f} GiB for arrays"
    return f"{jax.device_count()} x {first.device_kind}{memory}"


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("matmul", "kernels", "train", "decode"))
    parser.add_argument("--name", help="of the model, for the table")
    parser.add_argument("--model", help="gin file of a model")
    parser.add_argument("--gin", action="append", default=[], metavar="NAME=VALUE", help="repeatable")
    parser.add_argument("--toy", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
