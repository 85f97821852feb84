"""Measures whether models look back: the loss of a sentence after itself, and after another one of the same kind.

    python experiments/tuning/copying.py runs/tuning/laptop_xs/decllm runs/smollm2/base \\
        --rows=runs/tuning/rows/held_out.jsonl

Held-out headlines and science are answered by what the prompt says. A model that has learned to copy needs hardly a nat
a token for a sentence that it has just read; one that has not needs as much as after any other sentence.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import triarch

_Z = 1.96


def main() -> None:
    """Prints nats a token of sentences after themselves and after others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--sentences", type=int, default=16)
    args = parser.parse_args()
    rows = map(json.loads, args.rows.read_text().splitlines())
    sentences = list(dict.fromkeys(row["inputs"].splitlines()[0] for row in rows if row["task"] == "gigaword_TLDR"))
    chosen = sentences[: args.sentences]
    for path in args.models:
        model = triarch.load(path)
        pairs = [(one, one) for one in chosen] + list(zip(chosen[1:] + chosen[:1], chosen, strict=True))
        nats = np.array([score.nats_per_token for score in model.score(pairs, batch_size=len(chosen))])
        itself, other = nats[: len(chosen)], nats[len(chosen) :]
        gains = other - itself
        error = gains.std(ddof=1) / np.sqrt(len(gains))
        print(
            f"{path.name}: {itself.mean():.2f} nats a token after itself, {other.mean():.2f} after another, "
            f"difference {gains.mean():.2f} ± {_Z * error:.2f} over {len(gains)} sentences",
            flush=True,
        )


if __name__ == "__main__":
    main()
