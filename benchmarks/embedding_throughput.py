"""Sentences a second of `triarch.embed` and of sentence-transformers: the same folder and texts, in one process.

    python benchmarks/embedding_throughput.py all-MiniLM-L6-v2 cranfield/corpus.jsonl.gz --texts=200

Both read the same texts, sorted by length in batches of the same size. They take turns, and medians are compared, so
that other work on the machine falls on both alike. Compilation is in a first pass that does not count, and is told by
itself.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import time

import numpy as np

import triarch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of sentence-transformers")
    parser.add_argument("corpus", help="JSON lines of title and text, plain or .gz")
    parser.add_argument("--texts", type=int, default=200, help="the first N (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--json")
    args = parser.parse_args()
    with (gzip.open if args.corpus.endswith(".gz") else open)(args.corpus, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for _, line in zip(range(args.texts), file, strict=False)]
    texts = [f"{row.get('title') or ''} {row['text']}".strip() for row in rows]
    from sentence_transformers import SentenceTransformer

    theirs, ours = SentenceTransformer(args.folder, device="cpu"), triarch.load(args.folder)
    runs = {
        "triarch": lambda: ours.embed(texts, batch_size=args.batch_size),
        "sentence-transformers": lambda: theirs.encode(texts, batch_size=args.batch_size, show_progress_bar=False),
    }
    vectors, first, seconds = {}, {}, {name: [] for name in runs}
    for name, run in runs.items():
        begun = time.perf_counter()
        vectors[name] = run()
        first[name] = time.perf_counter() - begun
    for _ in range(args.repeats):
        for name, run in runs.items():
            begun = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begun)
    rates = {name: len(texts) / statistics.median(found) for name, found in seconds.items()}
    difference = float(np.abs(vectors["triarch"] - vectors["sentence-transformers"]).max())
    result = {
        "texts": len(texts),
        "texts_per_second": rates,
        "ratio": rates["triarch"] / rates["sentence-transformers"],
        "first_pass_seconds": first,
        "largest_difference": difference,
    }
    print(json.dumps(result, indent=2))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)


if __name__ == "__main__":
    main()
