"""Prints the study's table: what each of the four models reaches, mean over seeds and a 95% interval of it.

    python experiments/ettin/table.py runs/ettin/laptop_xs

The interval is Student's over seeds, of pretraining, tuning and data order together; with one seed there is none. The
same as table.csv beside the seeds' folders.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
from pathlib import Path

from scipy import stats

MODELS = ("encoder", "encoder_from_decoder", "decoder", "decoder_from_encoder")
COLUMNS = ("cola", "sst2", "mnli", "cranfield ndcg@10", "lambada", "held-out nats/token")


def main() -> None:
    """Reads the results of every seed and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of one size")
    args = parser.parse_args()
    seeds = sorted(path for path in args.folder.iterdir() if (path / "results").is_dir())
    rows = []
    for model in MODELS:
        found = [measured(seed, model) for seed in seeds]
        rows.append([model, *(cell([one[name] for one in found if name in one]) for name in COLUMNS)])
    header = ["model", *COLUMNS]
    with (args.folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        print("  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip())
    print(f"{len(seeds)} seeds; an encoder's loss is a pseudo-likelihood, which sees both sides: not that of a decoder")


def measured(seed: Path, model: str) -> dict[str, float]:
    """Returns what was measured of a model under one seed."""
    found = {}
    with (seed / "classification" / "settings.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["model"] == model and row["chosen"] == "True":
                found[row["task"]] = float(row["score"])
    results = {path.stem: json.loads(path.read_text()) for path in (seed / "results").glob(f"*_{model}.json")}
    found["cranfield ndcg@10"] = results[f"retrieval_{model}"]["ndcg@10"]
    found["held-out nats/token"] = results[f"loss_{model}"]["evaluations"][0]["nats_per_token"]
    if f"lambada_{model}" in results:
        (asked,) = results[f"lambada_{model}"]["models"]
        found["lambada"] = next(one["value"] for one in asked["results"] if one["metric"] == "acc")
    return found


def cell(values: list[float]) -> str:
    """Returns a mean and half the width of its interval."""
    if not values:
        return "-"
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.4f}"
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.4f} ± {half:.4f}"


if __name__ == "__main__":
    main()
