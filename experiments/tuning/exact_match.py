"""Asks models of held-out questions for their answers in words, and counts those that are the right one.

    python experiments/tuning/exact_match.py runs/tuning/laptop_xs/tuned_redllm runs/tuning/laptop_xs/redllm \\
        --rows=runs/tuning/rows/held_out.jsonl --limit=3 --output=experiments/tuning/results/exact_match.csv

Answers are greedy, cut at the first line's end, and compared without case and spaces around them. "valid" is the share
of answers that are one of the question's choices at all: what tuning teaches first.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter, defaultdict
from pathlib import Path

import triarch
from triarch.means import standard_error

# Of the others the answers are sentences, which no model of this size writes word for word.
_CLUSTERS = ("paraphrase", "claims", "reviews", "science")


def main() -> None:
    """Prints, and writes, exact matches and valid answers by cluster."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=5, help="questions of a task (default: %(default)s)")
    parser.add_argument("--new_tokens", type=int, default=12)
    parser.add_argument("--output", type=Path, help="CSV to write")
    args = parser.parse_args()
    counts: Counter[str] = Counter()
    asked = []
    for line in args.rows.read_text().splitlines():
        row = json.loads(line)
        counts[row["task"]] += 1
        if row["cluster"] in _CLUSTERS and counts[row["task"]] <= args.limit:
            asked.append(row)
    table = [("model", "cluster", "questions", "exact_match", "standard_error", "valid")]
    for path in args.models:
        prompts = [row["inputs"] for row in asked]
        answers = triarch.load(path).generate(prompts, max_new_tokens=args.new_tokens, batch_size=32)
        own = defaultdict(list)
        for row, answer in zip(asked, answers, strict=True):
            said = _plain(answer)
            choices = [_plain(choice) for choice in row["choices"]]
            own[row["cluster"]].append((row["item"], said == _plain(row["targets"]), said in choices))
        for cluster, found in own.items():
            items, right, valid = zip(*found, strict=True)
            error = standard_error(right, items)
            table.append((path.name, cluster, len(found), sum(right) / len(found), error, sum(valid) / len(found)))
            print(*table[-1], sep="  ", flush=True)
    if args.output is not None:
        with args.output.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table)


def _plain(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0].strip().lower() if lines else ""


if __name__ == "__main__":
    main()
