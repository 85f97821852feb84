"""Writes the study's rows: labelled sentences, and titles with the rest of their abstracts.

    python experiments/ettin/rows.py --data=DATA --output=runs/ettin/rows

DATA holds `cls/cola` (train.tsv.gz, val.tsv, dev.tsv), `cls/sst2` (stsa.binary.train.gz, stsa.binary.dev), `cls/mnli`
(mnli_dev_matched.tsv.gz, of which nine tenths train here) and `retrieval/cranfield/corpus.jsonl.gz`. --most keeps the
first N rows of each file, for a trial.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path


def main() -> None:
    """Writes a TSV file a task and split, and pairs.jsonl."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--most", type=int)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    labels = args.data / "cls"
    cola = {"train": ("train.tsv.gz", "val.tsv"), "dev": ("dev.tsv",)}
    for split, names in cola.items():
        rows = [line.split("\t") for name in names for line in lines(labels / "cola" / name)]
        write(args, f"cola_{split}", ("sentence", "label"), [(row[3], row[1]) for row in rows])
    for split in ("train", "dev"):
        name = "stsa.binary.train.gz" if split == "train" else "stsa.binary.dev"
        rows = [line.split(" ", 1) for line in lines(labels / "sst2" / name)]
        write(args, f"sst2_{split}", ("sentence", "label"), [(text, label) for label, text in rows])
    texts = lines(labels / "mnli" / "mnli_dev_matched.tsv.gz")
    table = list(csv.DictReader(texts, delimiter="\t", quoting=csv.QUOTE_NONE))
    rows = [(row["premise"], row["hypothesis"], row["gold_label"]) for row in table]
    for split, chosen in (("train", [r for n, r in enumerate(rows) if n % 10]), ("dev", rows[::10])):
        write(args, f"mnli_{split}", ("sentence", "pair", "label"), chosen)
    documents = [json.loads(line) for line in lines(args.data / "retrieval" / "cranfield" / "corpus.jsonl.gz")]
    pairs = [(one["title"].strip(), one["text"].removeprefix(one["title"]).strip()) for one in documents]
    kept = [{"query": title, "passage": text} for title, text in pairs if title and text][: args.most]
    (args.output / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    print(f"pairs: {len(kept):,} titles and abstracts")


def lines(path: Path) -> Iterator[str]:
    """Yields the lines of a plain or compressed file."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield line.rstrip("\n")


def write(args: argparse.Namespace, name: str, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Writes a TSV file."""
    kept = rows[: args.most]
    text = "\n".join("\t".join(cell.replace("\t", " ") for cell in row) for row in (header, *kept))
    (args.output / f"{name}.tsv").write_text(text + "\n", encoding="utf-8")
    print(f"{name}: {len(kept):,} rows")


if __name__ == "__main__":
    main()
