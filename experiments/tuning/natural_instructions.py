"""Writes natural instructions as questions: generated ones for `evaluate --tasks`, ranked ones for `--rank_file`.

    python experiments/tuning/natural_instructions.py --data=natural-instructions --output=runs/ni
    triarch evaluate --model=runs/tuned --tasks=natural_instructions --task_data=runs/ni
    triarch evaluate --model=runs/tuned --rank_file=runs/ni/rank_questions.jsonl

DATA is a checkout of allenai/natural-instructions: tasks/*.json, and splits/default/test_tasks.txt, which names the
tasks that Tk-Instruct (arXiv 2204.07705) holds out. The first 100 instances of each are asked, as there. What is ranked
are instances of tasks whose answers are a few that recur; their cluster is the task's category.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

_INSTANCES = 100
_MOST_CHOICES = 8
_PROMPT = "Definition: {definition}\n\nNow complete the following example -\nInput: {input}\nOutput:"


def main() -> None:
    """Writes natural_instructions.jsonl and rank_questions.jsonl, and prints what they hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the checkout")
    parser.add_argument("--output", type=Path, required=True, help="folder of the two files")
    parser.add_argument("--split", default="splits/default/test_tasks.txt", help="file of --data that names the tasks")
    args = parser.parse_args()
    names = (args.data / args.split).read_text(encoding="utf-8").split()
    tasks = {name: json.loads((args.data / "tasks" / f"{name}.json").read_text(encoding="utf-8")) for name in names}
    args.output.mkdir(parents=True, exist_ok=True)
    for file, rows in (
        ("natural_instructions.jsonl", [row for name, task in tasks.items() for row in generated(name, task)]),
        ("rank_questions.jsonl", [row for name, task in tasks.items() for row in ranked(name, task)]),
    ):
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (args.output / file).write_text(content, encoding="utf-8")
        print(f"{file}: {len(rows):,} questions of {len({row['task'] for row in rows}):,} tasks")


def generated(name: str, task: dict) -> Iterator[dict]:
    """Yields the instances of a task with all of their right answers."""
    for instance in task["Instances"][:_INSTANCES]:
        answers = [answer for answer in instance["output"] if answer.strip()]
        if answers and instance["input"].strip():
            yield {"definition": task["Definition"][0], "input": instance["input"], "output": answers, "task": name}


def ranked(name: str, task: dict) -> Iterator[dict]:
    """Yields the instances of a task that has a few answers; its prompt is that of `natural_instructions.yaml`."""
    rows = list(generated(name, task))
    choices = sorted({row["output"][0] for row in rows})
    if not 2 <= len(choices) <= _MOST_CHOICES or len(choices) * 2 > len(rows):
        return
    for row in rows:
        prompt = _PROMPT.format(**row)
        cluster = (task.get("Categories") or [name])[0]
        yield {"inputs": prompt, "choices": choices, "targets": row["output"][0], "task": name, "cluster": cluster}


if __name__ == "__main__":
    main()
