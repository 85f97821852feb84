"""Prints the results of glue.sh: every metric's mean and spread over seeds, of each task and peak, and GLUE's mean."""

import collections
import json
import pathlib
import statistics
import sys

METRICS = ("accuracy", "f1", "matthews", "pearson", "spearman")
# What GLUE's score is made of; the others are shown.
COUNTED = {
    "cola": ("matthews",),
    "mrpc": ("accuracy", "f1"),
    "qqp": ("accuracy", "f1"),
    "stsb": ("pearson", "spearman"),
}

found = collections.defaultdict(list)
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
    task, rate, _ = path.stem.split("_")
    found[task, rate].append(json.loads(path.read_text()))
print("task\tpeak\tseeds\t" + "\t".join(METRICS))
scores = collections.defaultdict(list)
for (task, rate), results in found.items():
    cells = []
    for metric in METRICS:
        values = [result[metric] for result in results if result[metric] is not None]
        spread = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
        cells.append(f"{100 * statistics.mean(values):.2f}{spread}" if values else "-")
    print(task, rate, len(results), *cells, sep="\t")
    counted = [result[metric] for result in results for metric in COUNTED.get(task, ("accuracy",))]
    if all(value is not None for value in counted):
        scores[task.removesuffix("-mm")].append(statistics.mean(counted))
best = {task: max(values) for task, values in scores.items()}
print(f"mean of {len(best)} tasks, each at its best peak: {100 * statistics.mean(best.values()):.2f}")
