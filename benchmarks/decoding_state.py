"""What decoding keeps and how fast it goes, by how long the text is: recurrences beside attention.

    python benchmarks/decoding_state.py

One shape with attention in every layer, with Mamba-2, RWKV or retention in its place, and with Mamba-2 in every
second layer. A text of each length is taken as read; then tokens are written one after another. Bytes are what a row
keeps, from the shapes of the cache; tokens/s are of decoding steps, the best of several rounds in turns. Of a
recurrence neither depends on the length, which --check makes sure of.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

STEPS = 32
ATTENTION = "attention"
# What a recurrence may be slower by after the longest text than after the shortest, by chance.
TOLERANCE = 0.25


def main() -> None:
    """Measures every network at every length, in turns, and prints the table."""
    args = _flags()
    lengths = [int(length) for length in args.lengths.split(",")]
    sides = {}
    for name, config in networks(args).items():
        network, params = made(config)
        sides |= {(name, length): decoding(network, params, length, args) for length in lengths}
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in sides}
    for number in range(1 + args.rounds):
        for key, (run, _) in sides.items():
            started = time.perf_counter()
            run()
            if number:
                seconds[key].append(time.perf_counter() - started)
    rows = [
        {
            "network": name,
            "length": length,
            "bytes_per_row": sides[name, length][1],
            "tokens_per_second": args.batch * STEPS / min(seconds[name, length]),
        }
        for name, length in sides
    ]
    print(f"{'network':14} {'length':>8} {'KiB a row':>12} {'tokens/s':>10}")
    for row in rows:
        kib = row["bytes_per_row"] / 1024
        print(f"{row['network']:14} {row['length']:8,} {kib:12,.0f} {row['tokens_per_second']:10,.0f}")
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=2) + "\n")
    if args.check:
        check(rows)


def networks(args: argparse.Namespace) -> dict:
    """Returns the configs by name."""
    from triarch.models import ModelConfig
    from triarch.models.recurrent.mamba2 import Mamba2
    from triarch.models.recurrent.retention import Retention
    from triarch.models.recurrent.rwkv import RwkvChannelMix, RwkvTimeMix

    attention = ModelConfig(
        vocab_size=1024,
        d_model=args.d_model,
        d_ff=2 * args.d_model,
        num_heads=args.d_model // 64,
        head_dim=64,
        num_decoder_layers=args.layers,
    )
    hybrid = tuple(range(1, args.layers, 2))
    others = {
        "mamba2": {"mixer": Mamba2()},
        "rwkv": {"mixer": RwkvTimeMix(), "feed_forward": RwkvChannelMix()},
        "retention": {"mixer": Retention()},
        "mamba2, hybrid": {"mixer": Mamba2(), "attention_layers": hybrid},
    }
    return {ATTENTION: attention} | {name: dataclasses.replace(attention, **other) for name, other in others.items()}


def made(config) -> tuple:
    """Returns a network and its parameters, as decoding lays them out."""
    import jax

    from triarch.models import Execution, Network

    network = Network(config, Execution("float32"))
    return network.unrolled(), jax.jit(lambda: network.unroll(network.init(0)))()


def decoding(network, params, length: int, args: argparse.Namespace) -> tuple:
    """Returns a function that writes tokens after a text of that length, and the bytes that a row keeps."""
    import jax
    import jax.numpy as jnp

    capacity = length + STEPS
    prompt = {"decoder_input_tokens": jax.ShapeDtypeStruct((args.batch, length), jnp.int32)}
    shapes = jax.eval_shape(lambda params, batch: network.merge(params).prefill(batch, capacity)[1], params, prompt)
    cache = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    read = jnp.broadcast_to(jnp.arange(capacity) < length, (args.batch, capacity))
    cache = dataclasses.replace(cache, real=read, length=jnp.int32(length), positions=jnp.full(args.batch, length))

    @jax.jit
    def write(params, cache):
        model = network.merge(params)

        def step(carry, _):
            tokens, cache = carry
            hidden, cache = model.extend(tokens, cache)
            return (jnp.argmax(model.unembedding().logits(hidden), axis=-1).astype(jnp.int32), cache), None

        first = jnp.ones((args.batch, 1), jnp.int32)
        return jax.lax.scan(step, (first, cache), None, length=STEPS)[0][0]

    return lambda: jax.block_until_ready(write(params, cache)), cache.num_bytes // args.batch


def check(rows: list[dict]) -> None:
    """Makes sure that of recurrences neither bytes nor speed depend on the length."""
    for name in ("mamba2", "rwkv", "retention"):
        own = [row for row in rows if row["network"] == name]
        assert len({row["bytes_per_row"] for row in own}) == 1, f"{name}: what is kept grows"
        speeds = [row["tokens_per_second"] for row in own]
        assert speeds[-1] > (1 - TOLERANCE) * speeds[0], f"{name}: tokens/s fall with the length: {speeds}"


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="256,2048,16384", help="tokens read before")
    parser.add_argument("--d_model", type=int, default=256)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="fail if a recurrence slows down or keeps more")
    parser.add_argument("--json", metavar="PATH")
    return parser.parse_args()


if __name__ == "__main__":
    main()
