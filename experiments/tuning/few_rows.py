"""Takes a few short rows of the study's, evenly from its tasks: what a larger model can be tuned on and asked on a CPU.

python experiments/tuning/few_rows.py --rows=runs/tuning/rows --output=runs/smollm2/rows --train=300 --questions=40
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path


def main() -> None:
    """Writes train.jsonl and held_out.jsonl."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True, help="folder that rows.py wrote")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--train", type=int, default=300, help="rows to tune on (default: %(default)s)")
    parser.add_argument("--questions", type=int, default=40, help="of each cluster (default: %(default)s)")
    parser.add_argument("--clusters", default="paraphrase,science,summaries", help="to ask (default: %(default)s)")
    parser.add_argument("--characters", type=int, default=300, help="of a prompt at most (default: %(default)s)")
    args = parser.parse_args()
    read = {name: _rows(args.rows / f"{name}.jsonl", args.characters) for name in ("train", "held_out")}
    asked = [
        row
        for cluster in args.clusters.split(",")
        for row in _evenly([row for row in read["held_out"] if row["cluster"] == cluster], args.questions)
    ]
    args.output.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", _evenly(read["train"], args.train)), ("held_out", asked)):
        (args.output / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        print(f"{name}: {len(rows):,} rows of {len({row['task'] for row in rows})} tasks")


def _rows(path: Path, characters: int) -> list[dict]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in rows if len(row["inputs"]) <= characters]


def _evenly(rows: list[dict], count: int) -> list[dict]:
    """Returns so many rows, each task's first ones, about as many of each."""
    by_task = defaultdict(list)
    for row in rows:
        by_task[row["task"]].append(row)
    turns = range(max(map(len, by_task.values()), default=0))
    return [own[turn] for turn in turns for own in by_task.values() if turn < len(own)][:count]


if __name__ == "__main__":
    main()
