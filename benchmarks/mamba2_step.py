"""A training step of a Mamba-2 decoder on the CPU: triarch's beside transformers' `Mamba2ForCausalLM`, in one run.

    python benchmarks/mamba2_step.py --hf_python=/path/to/venv/with/torch/bin/python

Both sides train the same shape in float32 with AdamW, taking turns. The peer runs what transformers has where there
are no CUDA kernels: its fallback path, uncompiled (--compile compiles it), with fused AdamW. Prints a table and the
ratio of median tokens/s; without --hf_python, triarch's side alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

from training_throughput import PEER_ALLOCATOR, compare, last_line, make_parser, step_seconds

SHAPE = {"d_model": 512, "layers": 4, "state_dim": 64, "chunk_size": 64, "vocab": 8192, "batch": 4, "length": 512}
HEAD_DIM = 64


def main() -> None:
    """Runs the sides in turns and prints the table."""
    args = _flags()
    if args.one_side:
        seconds = triarch_seconds(args) if args.one_side == "triarch" else peer_seconds(args)
        print(json.dumps(seconds))
        return
    sides = {"triarch": lambda: _side("triarch", sys.executable, {})}
    if args.hf_python:
        sides["hugging_face"] = lambda: _side("hugging_face", args.hf_python, PEER_ALLOCATOR)
    compare(args, sides)


def triarch_seconds(args: argparse.Namespace) -> list[float]:
    """Returns seconds of each of triarch's timed steps."""
    from triarch.models import ModelConfig
    from triarch.models.recurrent.mamba2 import Mamba2

    model = ModelConfig(
        vocab_size=args.vocab,
        d_model=args.d_model,
        d_ff=0,
        num_heads=2 * args.d_model // HEAD_DIM,
        head_dim=HEAD_DIM,
        num_decoder_layers=args.layers,
        position_encoding="none",
        mixer=Mamba2(state_dim=args.state_dim, chunk_size=args.chunk_size),
    )
    return step_seconds(model, args)


def peer_seconds(args: argparse.Namespace) -> list[float]:
    """Returns seconds of each timed step of transformers: forward, loss, backward and AdamW."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    config = transformers.Mamba2Config(
        vocab_size=args.vocab,
        hidden_size=args.d_model,
        num_hidden_layers=args.layers,
        num_heads=2 * args.d_model // HEAD_DIM,
        head_dim=HEAD_DIM,
        state_size=args.state_dim,
        n_groups=1,
        chunk_size=args.chunk_size,
        use_cache=False,
        tie_word_embeddings=True,
    )
    model = transformers.Mamba2ForCausalLM(config).to(torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.1, fused=True)
    forward = torch.compile(model) if args.compile else model
    tokens = torch.randint(0, args.vocab, (args.batch, args.length), generator=torch.Generator().manual_seed(0))
    seconds = []
    for _ in range(args.warmup + args.steps):
        started = time.perf_counter()
        forward(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - started)
    return seconds[args.warmup :]


def _side(name: str, python: str, extra: dict[str, str]) -> list[float]:
    command = [python, __file__, *sys.argv[1:], f"--one_side={name}"]
    return json.loads(last_line(command, os.environ | extra))


def _flags() -> argparse.Namespace:
    parser = make_parser(__doc__, SHAPE, steps=3, warmup=1, rounds=3)
    parser.add_argument("--compile", action="store_true", help="compile the peer")
    parser.add_argument("--one_side", choices=("triarch", "hugging_face"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
