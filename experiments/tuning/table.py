"""Prints the study's table: accuracy on held-out clusters before and after tuning, and gains paired over questions.

    python experiments/tuning/table.py runs/tuning/laptop_xs/ranks_*/ --output=experiments/tuning/results

Each folder is the --output of `triarch evaluate --rank_file`. A gain is over the untuned model of the same architecture
and size; intervals are 95%, all questions about one text counted as one draw. --output takes the tables as CSV.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from triarch.means import standard_error
from triarch.report.tuning_figures import Ranker, read_rankers

_Z = 1.96


def main() -> None:
    """Prints and writes accuracies and gains by cluster."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--rows", type=Path, help="questions asked, to tell what rules would have")
    parser.add_argument("--output", type=Path, help="folder of accuracy.csv and gains.csv")
    args = parser.parse_args()
    rankers = [one for folder in args.folders for one in read_rankers(folder)]
    clusters = list(dict.fromkeys(cluster for cluster, _ in rankers[0].asked))
    accuracies, gains = [], []
    for one in rankers:
        for cluster in clusters:
            mean, error = of_cluster(one, one.right, cluster)
            accuracies.append((one.name, one.label, one.is_tuned, cluster, mean, error))
    for after in (one for one in rankers if one.is_tuned):
        before = next(
            one
            for one in rankers
            if not one.is_tuned and one.label.partition(" + ")[0] == after.label.partition(" + ")[0]
        )
        for cluster in clusters:
            mean, error = of_cluster(after, after.right - before.right, cluster)
            gains.append((after.name, after.label, before.name, cluster, mean, error))
        gains.append((after.name, after.label, before.name, "mean of clusters", *after.gain(before)))
    if args.rows is not None:
        for name, measure in (("words shared with the prompt", shared_words), ("the shortest choice", shortness)):
            found = by_rule(args.rows, rankers[0], measure)
            print(name, *(f"{found[cluster]:.2f}" for cluster in clusters), sep=" | ")
    print("accuracy", *(f"{name}" for name in clusters), sep=" | ")
    for one in rankers:
        own = [row for row in accuracies if row[0] == one.name]
        print(one.name, *(f"{row[4]:.2f} ± {_Z * row[5]:.2f}" for row in own), f"{one.accuracy:.3f}", sep=" | ")
    for row in gains:
        print(f"{row[0]} - {row[2]}, {row[3]}: {row[4]:+.3f} ± {_Z * row[5]:.3f}")
    if args.output is not None:
        args.output.mkdir(parents=True, exist_ok=True)
        columns = ("cluster", "value", "standard_error")
        write(args.output / "accuracy.csv", ("model", "recipe", "tuned", *columns), accuracies)
        write(args.output / "gains.csv", ("model", "recipe", "before", *columns), gains)


def by_rule(path: Path, ranker: Ranker, measure: Callable[[str, str], float]) -> dict[str, float]:
    """Returns, by cluster, how often the right choice has the largest measure of all; choices alike share the point.

    Of each task as many questions as were asked.
    """
    tasks: dict[str, list[dict]] = {}
    for row in map(json.loads, path.read_text().splitlines()):
        tasks.setdefault(row["task"], []).append(row)
    most = 1
    while sum(len(own[:most]) for own in tasks.values()) < len(ranker.asked):
        most += 1
    points: dict[str, list[float]] = {}
    for row in (row for own in tasks.values() for row in own[:most]):
        values = [measure(row["inputs"], choice) for choice in row["choices"]]
        best = [choice for choice, value in zip(row["choices"], values, strict=True) if value == max(values)]
        points.setdefault(row["cluster"], []).append((row["targets"] in best) / len(best))
    return {cluster: float(np.mean(own)) for cluster, own in points.items()}


def shared_words(prompt: str, choice: str) -> float:
    """Returns the share of a choice's words that the prompt has too."""
    known = set(prompt.lower().split())
    return float(np.mean([word in known for word in choice.lower().split()]))


def shortness(prompt: str, choice: str) -> float:
    """Returns the more, the shorter a choice is."""
    return -float(len(choice))


def of_cluster(one: Ranker, values: np.ndarray, cluster: str) -> tuple[float, float]:
    """Returns the mean of values over a cluster's questions, and its error."""
    own = [number for number, (name, _) in enumerate(one.asked) if name == cluster]
    error = standard_error(values[own], [one.asked[number][1] for number in own])
    return float(values[own].mean()), float("nan") if error is None else error


def write(path: Path, header: tuple[str, ...], rows: list[tuple]) -> None:
    """Writes a table."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([header, *rows])


if __name__ == "__main__":
    main()
