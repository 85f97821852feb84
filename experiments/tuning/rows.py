"""Writes the study's rows: what is tuned on, and questions of the clusters that are held out.

    python experiments/tuning/rows.py --data=DATA/instruct --output=runs/tuning/rows

DATA/instruct holds `t0_p3/*.jsonl.gz` (template, prompt, completion: 40 rows of each of T0's training templates) and
`flan_cot/*.tsv.gz` (question, answer, rationale: FLAN 2022's chains of thought). Held out are whole clusters of tasks:
paraphrases (MRPC, QQP, PAWS), claims (CREAK) and reviews (Yelp, Amazon). A held-out question's choices are the answers
that its template has; templates of which all rows at hand have one answer ask nothing, and are left out.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

# Prefixes of tasks, by cluster. Any other task is tuned on, but those of the same data sets under other names.
HELD_OUT = {
    "paraphrase": ("glue_mrpc", "glue_qqp", "paws"),
    "claims": ("creak",),
    "reviews": ("yelp_review_full", "amazon_polarity"),
}
# Sentiment of films is the same question as that of reviews: neither tuned on nor asked.
LEFT_OUT = ("imdb", "rotten_tomatoes", "app_reviews")
_MOST_CHOICES = 5
_MOST_QUESTIONS = 1000


def main() -> None:
    """Writes train.jsonl and held_out.jsonl, and prints what they hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    by_task = collections.defaultdict(list)
    for row in (*t0_rows(args.data / "t0_p3"), *cot_rows(args.data / "flan_cot")):
        by_task[row["task"]].append(row)
    args.output.mkdir(parents=True, exist_ok=True)
    train = [
        row
        for task, rows in by_task.items()
        if cluster_of(task) is None and not task.startswith(LEFT_OUT)
        for row in rows
    ]
    asked = [question for task, rows in by_task.items() for question in questions(task, rows)]
    for name, rows in (("train", train), ("held_out", asked)):
        (args.output / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        print(f"{name}: {len(rows):,} rows of {len({row['task'] for row in rows}):,} tasks")
    for cluster in HELD_OUT:
        print(f"  {cluster}: {sum(row['cluster'] == cluster for row in asked):,} questions")


def t0_rows(folder: Path) -> Iterator[dict]:
    """Yields T0's rows."""
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                yield {"inputs": row["prompt"], "targets": row["completion"].strip(), "task": row["template"]}


def cot_rows(folder: Path) -> Iterator[dict]:
    """Yields FLAN's chains of thought, and of the data sets with two answers the bare answers too."""
    for path in sorted(folder.glob("*_train.tsv.gz")):
        task = path.name.removesuffix("_train.tsv.gz")
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                question, answer, rationale = line.rstrip("\n").split("\t")
                question = question.replace("\\n", "\n")
                yield {
                    "inputs": f"{question}\nLet's think step by step.",
                    "targets": f"{rationale} The answer is {answer}.",
                    "task": f"{task}_cot",
                }
                yield {"inputs": question, "targets": answer, "task": f"{task}_answer"}


def cluster_of(task: str) -> str | None:
    """Returns the held-out cluster of a task; None of one that is tuned on."""
    return next((name for name, prefixes in HELD_OUT.items() if task.startswith(prefixes)), None)


def questions(task: str, rows: list[dict]) -> Iterator[dict]:
    """Yields the questions of a held-out task; none where its answers are not a few that differ."""
    cluster, choices = cluster_of(task), sorted({row["targets"] for row in rows})
    if cluster is None or not 2 <= len(choices) <= _MOST_CHOICES:
        return
    for row in rows[:_MOST_QUESTIONS]:
        yield {**row, "choices": choices, "cluster": cluster}


if __name__ == "__main__":
    main()
