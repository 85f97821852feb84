"""Generation on the CPU: triarch's `generate` beside Hugging Face's, greedy, in float32, in one run.

    python benchmarks/generation_throughput.py --hf_python=/path/to/venv/with/torch/bin/python

A decoder-only network of Llama's shape and an encoder-decoder of T5 1.1's stand beside the same in Hugging Face; DecLLM
and RedLLM of matched parameters stand beside each other. All take turns, so that they meet the same machine. Prefill is
a call for one token; decode is what a call for all of them takes longer; "new/s" counts new tokens of whole calls, and
the last column holds its ratio to Hugging Face's. Cache bytes are of all rows; FLOPs are of one example's forward pass,
in the convention of arXiv 2510.26622. Without --hf_python, triarch's sides alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from training_throughput import PEER_ALLOCATOR

HERE = Path(__file__).parent
BASE = {"vocab_size": 8192, "d_model": 512, "num_heads": 8, "head_dim": 64}
ONE_SIDED = BASE | {"d_ff": 2048, "num_decoder_layers": 8}
TWO_SIDED = BASE | {"d_ff": 1152, "num_encoder_layers": 5, "num_decoder_layers": 5}
REDLLM = {"norm_scale": "none", "qkv_norm": True}
T5 = {"activation": "gelu_tanh", "attention_scale": 1.0, "position_encoding": "relative_bias"}
NETWORKS = {
    "llama": ONE_SIDED,
    "t5": TWO_SIDED | T5 | {"logits_scale": "rsqrt_d_model"},
    "decllm": ONE_SIDED | REDLLM,
    "redllm": TWO_SIDED | REDLLM | {"attention_output_norm": "per_head"},
}
_SHAPE = ("batch", "prompt", "new_tokens")
PEERS = {"llama": {"layers": 8, "d_ff": 2048}, "t5": {"layers": 5, "d_ff": 1152}}


def main() -> None:
    """Runs the sides in turns and prints the table."""
    args = _flags()
    if args.one_side:
        print(json.dumps(measure(args.one_side, args)))
        return
    rounds: dict[str, list[dict]] = {}
    for number in range(args.rounds):
        for name in args.networks.split(","):
            rounds.setdefault(name, []).append(_own_side(name, args))
            if args.hf_python and name in PEERS:
                rounds.setdefault(f"{name} (Hugging Face)", []).append(_peer_side(name, args))
        print(f"round {number + 1} of {args.rounds} done", file=sys.stderr, flush=True)
    sides = {name: _summary(found, args) for name, found in rounds.items()}
    _print(sides)
    if args.json:
        report = {"machine": machine()} | {name: getattr(args, name) for name in _SHAPE} | {"sides": sides}
        Path(args.json).write_text(json.dumps(report, indent=2) + "\n")


def machine() -> str:
    """Returns what the CPU is called, and how many cores of it there are to run on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores of {names[0] if names else platform.processor() or platform.machine()}"


def measure(name: str, args: argparse.Namespace) -> dict:
    """Returns seconds of calls for one token and for all, and what the config and the cache say of themselves."""
    from triarch.cli import environment

    environment.configure()
    import jax
    import numpy as np
    from flax import nnx

    from triarch.decoding import GenerationSettings, Generator
    from triarch.interchange import LoadedModel, Origin, Placement
    from triarch.models import Execution, ModelConfig, build
    from triarch.models.network import split

    config = ModelConfig(**NETWORKS[name])
    network = build(config, Execution("float32"), nnx.Rngs(params=0))
    generator = Generator(LoadedModel(Path(name), *split(network), Origin(), Placement.one_device()))
    rng = np.random.default_rng(0)
    prompts = rng.integers(2, config.vocab_size, (args.batch, args.prompt)).tolist()
    seconds: dict[str, list[float]] = {"prefill": [], "total": []}
    for number in range(1 + args.calls):
        for key, count in (("prefill", 1), ("total", args.new_tokens)):
            started = time.perf_counter()
            found = generator.generate(prompts, GenerationSettings(max_new_tokens=count), batch_size=args.batch)
            assert all(len(tokens) == count for tokens in found)
            if number:
                seconds[key].append(time.perf_counter() - started)
    two_sided = config.num_encoder_layers > 0
    read = 1 if two_sided else args.prompt
    inputs = {"decoder_input_tokens": jax.ShapeDtypeStruct((args.batch, read), np.int32)}
    if two_sided:
        inputs["encoder_input_tokens"] = jax.ShapeDtypeStruct((args.batch, args.prompt), np.int32)
    cache = jax.eval_shape(lambda batch: network.prefill(batch, read + args.new_tokens)[1], inputs)
    lengths = (args.prompt, args.new_tokens) if two_sided else (0, args.prompt + args.new_tokens)
    return seconds | {
        "parameters": config.num_params(),
        "cache_bytes": cache.num_bytes,
        "flops": config.flops(*lengths, "paper"),
    }


def _own_side(name: str, args: argparse.Namespace) -> dict:
    return _last_line([sys.executable, __file__, f"--one_side={name}", *_shape(args)])


def _peer_side(name: str, args: argparse.Namespace) -> dict:
    shape = [f"--{key}={value}" for key, value in PEERS[name].items()]
    command = [args.hf_python, str(HERE / "hf_generate.py"), f"--kind={name}", *shape, *_shape(args)]
    return _last_line(command, os.environ | PEER_ALLOCATOR)


def _shape(args: argparse.Namespace) -> list[str]:
    return [f"--{name}={getattr(args, name)}" for name in (*_SHAPE, "calls")]


def _last_line(command: list[str], environment: dict[str, str] | None = None) -> dict:
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.strip().splitlines()[-1])


def _summary(rounds: list[dict], args: argparse.Namespace) -> dict:
    prefill, total = (statistics.median(s for found in rounds for s in found[key]) for key in ("prefill", "total"))
    facts = {key: rounds[0].get(key) for key in ("parameters", "cache_bytes", "flops")}
    return facts | {
        "prefill_seconds": prefill,
        "total_seconds": total,
        "prefill_tokens_per_second": args.batch * args.prompt / prefill,
        "decode_tokens_per_second": args.batch * (args.new_tokens - 1) / (total - prefill),
        "new_tokens_per_second": args.batch * args.new_tokens / total,
    }


def _print(sides: dict[str, dict]) -> None:
    heads = ("prefill/s", "decode/s", "new/s", "cache MB", "GFLOPs", "ratio")
    print(f"{'side':22} {'parameters':>11}" + "".join(f" {head:>10}" for head in heads))
    for name, side in sides.items():
        peer = sides.get(f"{name} (Hugging Face)")
        rates = [side[f"{kind}_tokens_per_second"] for kind in ("prefill", "decode", "new")]
        cells = [f"{rate:.0f}" for rate in rates]
        cells += ["-" if side[key] is None else f"{side[key] / unit:.1f}" for key, unit in _UNITS]
        cells.append(f"{rates[2] / peer['new_tokens_per_second']:.2f}" if peer else "-")
        print(f"{name:22} {side['parameters']:11,}" + "".join(f" {cell:>10}" for cell in cells))


_UNITS = (("cache_bytes", 1e6), ("flops", 1e9))


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("batch", 8), ("prompt", 128), ("new_tokens", 128)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--calls", type=int, default=2, help="timed calls a turn, after one untimed")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each side")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="of " + ", ".join(NETWORKS))
    parser.add_argument("--hf_python", help="interpreter with torch and transformers")
    parser.add_argument("--json", metavar="PATH", help="STUDY/analysis/generation_throughput.json is in the report")
    parser.add_argument("--one_side", choices=NETWORKS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
