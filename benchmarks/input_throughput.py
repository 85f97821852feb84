"""Tokens a second that `batch(step)` delivers on one core, for each objective and each architecture that it trains.

    python benchmarks/input_throughput.py --window=2048 --batch_size=8

Reads a store of random tokens, written to a temporary folder. "Tokens" are those of the store's windows, whatever an
objective makes of them. One thread of one process: what a step's batch costs, before any reading ahead. Beside the rate
by the clock stands the rate by the process's CPU time, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from triarch.data.batches import Batches
from triarch.data.manifest import Split, StoreManifest, Vocabulary
from triarch.data.store import TokenStore
from triarch.data.streams import Epochs
from triarch.data.writer import StoreWriter
from triarch.errors import UserError, nearest
from triarch.objectives import (
    MNTP,
    T5GEMMA2,
    UL2,
    CausalLM,
    MaskedLM,
    Objective,
    PrefixLM,
    SpanCorruption,
    SpecialTokens,
)

_ARCHITECTURES = ("encoder-only", "decoder-only", "encoder-decoder")
_OBJECTIVES: dict[str, Objective] = {
    "causal_lm": CausalLM(),
    "prefix_lm": PrefixLM(),
    "prefix_lm_t5": PrefixLM(split="uniform", append_eos=True),
    "prefix_lm_both_ways": PrefixLM(bidirectional_prefix=True),
    "span_corruption": SpanCorruption(),
    "ul2": UL2,
    "t5gemma2": T5GEMMA2,
    "masked_lm": MaskedLM(),
    "mntp": MNTP(),
}
_REPEATS = 5


def special_tokens(vocab_size: int, window: int) -> dict[str, Any]:
    """Returns a manifest's special tokens: as many sentinels as UL2 needs, from the end of the vocabulary on."""
    sentinels = window // 6 + 1
    modes = {mode: vocab_size - sentinels - 1 - index for index, mode in enumerate("RSX")}
    return {"pad": 0, "bos": 0, "eos": 1, "mask": 3, "sentinels": [vocab_size - 1, sentinels], "modes": modes}


def write_random_store(path: Path, window: int, examples: int, vocab_size: int) -> TokenStore:
    """Writes a store whose ids follow Zipf's law, as text's do about."""
    rng = np.random.default_rng(0)
    tokens = (rng.zipf(1.2, (examples, window)) % (vocab_size - 4) + 4).astype(np.int32)
    dtype = "uint16" if vocab_size <= 2**16 else "int32"
    with StoreWriter(path, window, dtype) as writer:
        writer.write("train", tokens)
        split = Split(examples, 1, tokens.size, 0, tokens.size, writer.finish_files("train"))
        vocabulary = Vocabulary("bytes", vocab_size, "", special_tokens(vocab_size, window))
        manifest = StoreManifest("random", "windows", window, dtype, vocabulary, {"train": split}, {})
        writer.finish(manifest, np.ones(vocab_size, np.uint16))
    return TokenStore.open(path)


def tokens_per_second(batches: Batches, window: int, seconds: float) -> dict[str, list[float]]:
    """Returns the rates of `_REPEATS` runs of about `seconds` each, by the clock and by CPU time."""
    batches.batch(0)
    rates: dict[str, list[float]] = {"clock": [], "cpu": []}
    step = 1
    for _ in range(_REPEATS):
        first, start, cpu_start = step, time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds:
            batches.batch(step)
            step += 1
        tokens = (step - first) * batches.batch_size * window
        rates["clock"].append(tokens / (time.perf_counter() - start))
        rates["cpu"].append(tokens / (time.process_time() - cpu_start))
    return rates


def _spread(rates: list[float]) -> str:
    low, median, high = (value / 1e6 for value in np.percentile(rates, [0, 50, 100]))
    return f"{median:.2f} ({low:.2f}-{high:.2f})"


def main() -> None:
    """Prints a table, an objective and an architecture a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--window", type=int, default=2048, help="tokens an example (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=8, help="examples a batch (default: %(default)s)")
    parser.add_argument("--objective", action="append", help=f"repeatable (default: {', '.join(_OBJECTIVES)})")
    parser.add_argument("--vocab_size", type=int, default=32768, help="ids (default: %(default)s)")
    parser.add_argument("--examples", type=int, default=5000, help="windows in the store (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each of the runs (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the rates there")
    args = parser.parse_args()
    names = args.objective or list(_OBJECTIVES)
    for name in names:
        if name not in _OBJECTIVES:
            parser.error(f"--objective={name}: unknown{nearest(name, _OBJECTIVES)}")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(f"window {args.window}, batch size {args.batch_size}, one core, median of {_REPEATS} runs (least to most)")
    print(f"{'objective':<20} {'architecture':<16} {'million tokens/s':>24} {'by CPU time':>24}")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        store = write_random_store(Path(folder, "store"), args.window, args.examples, args.vocab_size)
        special = SpecialTokens.from_manifest(store.manifest.vocabulary.special)
        for name, architecture in itertools.product(names, _ARCHITECTURES):
            objective = _OBJECTIVES[name]
            try:
                objective.lengths(architecture, args.window)
            except UserError:
                continue  # Makes no sense for the architecture.
            transform = objective.transform(architecture, special, args.vocab_size, args.window)
            batches = Batches(Epochs(store.split("train"), transform, seed=0), args.batch_size)
            rates = tokens_per_second(batches, args.window, args.seconds)
            print(
                f"{name:<20} {architecture:<16} {_spread(rates['clock']):>24} {_spread(rates['cpu']):>24}", flush=True
            )
            results[f"{name} {architecture}"] = rates
    if args.json:
        args.json.write_text(json.dumps({**vars(args), "json": str(args.json), "tokens_per_second": results}, indent=2))


if __name__ == "__main__":
    main()
