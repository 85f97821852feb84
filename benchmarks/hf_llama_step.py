"""Time one training step of Hugging Face's Llama in PyTorch, on the CPU, and print the result as one JSON line.

The peer of triarch's own CPU training step. It needs `torch` and `transformers`, which triarch doesn't, so it stands
alone: run it with the interpreter of an environment that holds them, next to a triarch run on the same machine.
Absolute figures move with the machine; the ratio of two runs side by side is what counts.
CPU seconds compare only under OMP_WAIT_POLICY=PASSIVE (idle OpenMP threads spin otherwise).

The whole step is timed: forward, causal cross entropy over the whole vocabulary, backward, gradient reset and AdamW.

    python benchmarks/hf_llama_step.py --compile --fused
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time

import torch
import transformers

RECORDED_VARIABLES = (
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_ARENA_MAX",
    "GLIBC_TUNABLES",
    "LD_PRELOAD",
    "OMP_WAIT_POLICY",
    "OMP_NUM_THREADS",
)


def parse_flags(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the shape of the model and the batch; the defaults are the 37.8M parameter reference shape."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--d-model", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--d-ff", type=int, default=2048)
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--batch", type=int, default=8, help="sequences a step")
    parser.add_argument("--length", type=int, default=512, help="tokens a sequence")
    parser.add_argument("--steps", type=int, default=10, help="timed steps")
    parser.add_argument("--warmup", type=int, default=2, help="untimed steps first; compilation happens here")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa")
    parser.add_argument("--threads", type=int, default=0, help="intra-op threads; 0 leaves PyTorch's choice")
    parser.add_argument("--compile", action="store_true", help="torch.compile the forward (and so the backward)")
    parser.add_argument("--fused", action="store_true", help="AdamW(fused=True)")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args(argv)
    for name in ("d_model", "layers", "heads", "d_ff", "vocab", "batch", "length", "steps"):
        if getattr(flags, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if flags.warmup < 0 or flags.threads < 0:
        parser.error("--warmup and --threads can't be negative")
    if flags.d_model % flags.heads:
        parser.error(f"--d-model {flags.d_model} doesn't divide into --heads {flags.heads}")
    return flags


def build_model(flags: argparse.Namespace) -> transformers.LlamaForCausalLM:
    """Llama of the given shape in float32: RMSNorm, SwiGLU, RoPE, tied embeddings, no biases, no cache."""
    config = transformers.LlamaConfig(
        hidden_size=flags.d_model,
        intermediate_size=flags.d_ff,
        num_hidden_layers=flags.layers,
        num_attention_heads=flags.heads,
        num_key_value_heads=flags.heads,
        vocab_size=flags.vocab,
        max_position_embeddings=flags.length,
        tie_word_embeddings=True,
        use_cache=False,
        attn_implementation=flags.attention,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return transformers.LlamaForCausalLM(config).to(torch.float32).train()


def time_steps(flags: argparse.Namespace, model: torch.nn.Module) -> tuple[list[float], list[float], list[float]]:
    """Returns (wall seconds of each timed step, CPU seconds of the same, loss of every step with warm-up)."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=flags.learning_rate, weight_decay=0.1, fused=flags.fused)
    forward = torch.compile(model) if flags.compile else model
    generator = torch.Generator().manual_seed(flags.seed)
    tokens = torch.randint(0, flags.vocab, (flags.batch, flags.length), generator=generator)
    seconds, cpu_seconds, losses = [], [], []
    for _ in range(flags.warmup + flags.steps):
        start, cpu_start = time.perf_counter(), time.process_time()
        loss = forward(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    return seconds[flags.warmup :], cpu_seconds[flags.warmup :], losses


def main(argv: list[str] | None = None) -> None:
    flags = parse_flags(argv)
    if flags.threads:
        torch.set_num_threads(flags.threads)
    torch.manual_seed(flags.seed)
    transformers.logging.set_verbosity_error()
    model = build_model(flags)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    seconds, cpu_seconds, losses = time_steps(flags, model)
    median = statistics.median(seconds)
    tokens = flags.batch * flags.length
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    result = {
        "peer": "Hugging Face Llama",
        **vars(flags),
        "parameters": parameters,
        "seconds": seconds,
        "median_seconds": median,
        "min_seconds": min(seconds),
        "max_seconds": max(seconds),
        "min_cpu_seconds": min(cpu_seconds),
        "tokens_per_second": tokens / median,
        "gflops_6nd": 6 * parameters * tokens / median / 1e9,
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "peak_memory_bytes": peak,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "intra_op_threads": torch.get_num_threads(),
        "environment": {name: os.environ[name] for name in RECORDED_VARIABLES if name in os.environ},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
