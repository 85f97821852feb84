"""Writes the study's rows: what is tuned on, and questions of the clusters that are held out.

    python experiments/tuning/rows.py --data=DATA/instruct --output=runs/tuning/rows

DATA/instruct holds `t0_p3/*.jsonl.gz` (template, prompt, completion: 40 rows of each of T0's training templates) and
`flan_cot/*.tsv.gz` (question, answer, rationale: FLAN 2022's chains of thought). A question's choices are the answers
that its template has (paraphrases, claims, reviews), those that its prompt lists (science), or its own target and three
targets of other rows (summaries, sentences of concepts). Templates of which all rows at hand have one answer ask
nothing, and are left out; so are prompts that the models could not read whole.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

# Prefixes of tasks, by cluster. Any other task is tuned on, but those of the same clusters under other names.
HELD_OUT = {
    "paraphrase": ("glue_mrpc", "glue_qqp", "paws"),
    "claims": ("creak",),
    "reviews": ("yelp_review_full", "amazon_polarity"),
    "summaries": ("gigaword", "samsum"),
    "concepts": ("common_gen",),
    "science": ("sciq",),
}
# Sentiment of films is the question of reviews, long summaries that of summaries, and facts made text that of concepts.
LEFT_OUT = ("imdb", "rotten_tomatoes", "app_reviews", "cnn_dailymail", "xsum", "multi_news", "wiki_bio")
# Templates that ask the other way round: text of a headline, a dialogue of its summary, concepts of a sentence.
_REVERSED = ("reverse_writing", "write_an_article", "Write_a_dialogue", "sentence_to_concepts", "topics_from")
_DRAWN = ("summaries", "concepts")
_MOST_CHOICES = 5
_MOST_QUESTIONS = 400
_MOST_CHARACTERS = 700
_SEED = 0


def main() -> None:
    """Writes train.jsonl and held_out.jsonl, and prints what they hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    by_task = collections.defaultdict(list)
    for row in (*t0_rows(args.data / "t0_p3"), *cot_rows(args.data / "flan_cot")):
        by_task[row["task"]].append({**row, "item": f"{data_set_of(row['task'])} {len(by_task[row['task']])}"})
    listed = {row["item"]: listed_choices(row["inputs"]) for row in by_task["sciq_Multiple_Choice"]}
    args.output.mkdir(parents=True, exist_ok=True)
    train = [
        row
        for task, rows in by_task.items()
        if cluster_of(task) is None and not task.startswith(LEFT_OUT)
        for row in rows
        if len(row["inputs"]) <= _MOST_CHARACTERS
    ]
    asked = [question for task, rows in by_task.items() for question in questions(task, rows, listed)]
    for name, rows in (("train", train), ("held_out", asked)):
        (args.output / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        print(f"{name}: {len(rows):,} rows of {len({row['task'] for row in rows}):,} tasks")
    for cluster in HELD_OUT:
        found = [row for row in asked if row["cluster"] == cluster]
        print(f"  {cluster}: {len(found):,} questions on {len({row['item'] for row in found}):,} texts")


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


def data_set_of(task: str) -> str:
    """Returns the name that the templates of a held-out data set share; the task's own of others."""
    return next((one for names in HELD_OUT.values() for one in names if task.startswith(one)), task)


def listed_choices(prompt: str) -> list[str]:
    """Returns the choices that a prompt lists, a line with a dash each."""
    return re.findall(r"^- (.+?)\s*$", prompt, re.MULTILINE)


def questions(task: str, rows: list[dict], listed: dict[str, list[str]]) -> Iterator[dict]:
    """Yields the questions of a held-out task; none where its answers are not a few that differ."""
    cluster, answers = cluster_of(task), sorted({row["targets"] for row in rows})
    if cluster is None or any(part in task for part in _REVERSED):
        return
    if cluster in (*_DRAWN, "science"):
        draw = random.Random(f"{_SEED} {task}")
        found = ((row, listed[row["item"]] if cluster == "science" else drawn(row, rows, draw)) for row in rows)
    elif 2 <= len(answers) <= _MOST_CHOICES:
        found = ((row, answers) for row in rows)
    else:
        return
    whole = [(row, choices) for row, choices in found if len(row["inputs"]) <= _MOST_CHARACTERS]
    for row, choices in whole[:_MOST_QUESTIONS]:
        if row["targets"] in choices and len(set(choices)) == len(choices):
            yield {**row, "choices": choices, "cluster": cluster}


def drawn(row: dict, rows: list[dict], draw: random.Random) -> list[str]:
    """Returns a row's target and three of rows that ask something else, in an order that says nothing."""
    by_targets = {other["targets"]: other["inputs"] for other in rows}
    others = sorted(text for text, inputs in by_targets.items() if inputs != row["inputs"] and text != row["targets"])
    choices = [row["targets"], *draw.sample(others, 3)]
    draw.shuffle(choices)
    return choices


if __name__ == "__main__":
    main()
