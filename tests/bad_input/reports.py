"""Study folders for `report` that are damaged or incomplete."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bad_input.case import Case, bad_json, case, damaged, edited, json_drop, json_set

REPORT = "report --study=study --output=r.html --bootstraps=0"
FACTS = "study/study.json"
METRICS = "study/runs/redllm-1m/metrics.jsonl"
VALUES = (
    ("commands", (None, "triarch sweep", [7], {})),
    ("labels", (7, [], "RedLLM")),
    ("name", (7, None, [])),
    ("title", (None, {})),
    ("question", (7,)),
    ("seconds", ("long", None, True)),
    ("hardware", (None, 2)),
)
# A cell of a table's second row.
CELLS = (
    ("results.csv", "num_params", ("", "many", "-1", "nan", "inf")),
    ("results.csv", "train_tokens", ("", "none")),
    ("results.csv", "flops_paper", ("0", "x")),
    ("results.csv", "run", ("", "nowhere", "../../etc", "a\x00b")),
    ("evaluations.csv", "run", ("nowhere", "")),
    ("evaluations.csv", "role", ("in-domain", "")),
    ("evaluations.csv", "scoring", ("nativ", "")),
    ("evaluations.csv", "nats_per_token", ("", "-1", "nan", "inf", "low")),
    ("evaluations.csv", "standard_error", ("small",)),
    ("evaluations.csv", "num_tokens", ("0", "all")),
)
LINES = {
    "no JSON": '{"step": 1, "loss"',
    "a list": "[1, 2]",
    "a number": "7",
    "no loss": '{"step": 1, "tokens": 1, "flops_paper": 1, "flops_train": 1}',
    "a loss that is a text": '{"step": 1, "loss": "2.5", "tokens": 1, "flops_paper": 1, "flops_train": 1}',
    "a loss that is NaN": '{"step": 1, "loss": NaN, "tokens": 1, "flops_paper": 1, "flops_train": 1}',
    "a negative step": '{"step": -1, "loss": 2.5, "tokens": 1, "flops_paper": 1, "flops_train": 1}',
    "an integer of 5,000 digits": '{"step": ' + "9" * 5000 + "}",
    "an integer of 400 digits": '{"step": ' + "9" * 400 + ', "loss": 1, "tokens": 1, "flops_paper": 1, '
    '"flops_train": 1}',
    "nested 100,000 deep": "[" * 100_000,
}
FLAGS = (
    ("report --study=sutdy --output=r.html", "study"),
    ("report --study=store --output=r.html", "store"),
    ("report --study=table.csv --output=r.html", "table.csv"),
    ("report --study= --output=r.html", ""),
    ("report --study=study --output=.", "--output=."),
    ("report --study=study --output=table.csv/r.html", "table.csv"),
    ("report --study=study --output=", "--output="),
    ("report --study=study --output=r.html --bootstraps=-1", "bootstraps"),
    ("report --study=study --output=r.html --seed=-1", "seed"),
    ("report --study=study --output=r.html --figures=table.csv", "table.csv"),
)
MISSING = ("study.json", "results.csv", "evaluations.csv", "runs", "runs/redllm-1m", "runs/redllm-1m/metrics.jsonl")


def cases() -> Iterator[Case]:
    """Yields the cases."""
    for command, says in FLAGS:
        yield case(f"report: {command}", command, says, takes="study store table.csv")
    for place in MISSING:
        gone = lambda folder, place=place: folder.remove(f"study/{place}")  # noqa: E731
        yield case(f"report without {place}", REPORT, "study", takes="study", make=gone)
    for key, values in VALUES:
        for value in values:
            name = f"report study.json: {key} is {value!r}"
            yield case(name, REPORT, "study.json", key, takes="study", make=json_set(FACTS, key, value))
    for key in ("name", "title", "commands", "seconds"):
        yield case(f"report study.json: no {key}", REPORT, "study.json", key, takes="study", make=json_drop(FACTS, key))
    yield from bad_json("report study.json", FACTS, REPORT, "study.json", takes="study")
    for file in (FACTS, "study/results.csv", "study/evaluations.csv", METRICS):
        short = file.rsplit("/", 1)[-1]
        without = ("cut in half",) if short.endswith(".csv") else ()
        yield from damaged(f"report {short}", file, REPORT, short, takes="study", without=without)
    for file, column, cells in CELLS:
        for cell in cells:
            make = edited(f"study/{file}", _with_cell(column, cell))
            yield case(f"report {file}: {column} is {cell!r}", REPORT, "study", takes="study", make=make)
    for file, column in (("results.csv", "family"), ("results.csv", "flops_train"), ("evaluations.csv", "role")):
        make = edited(f"study/{file}", lambda content, column=column: content.replace(column.encode(), b"other", 1))
        yield case(f"report {file}: no {column}", REPORT, file, column, takes="study", make=make)
    for name, line in LINES.items():
        make = edited(METRICS, lambda content, line=line: content + line.encode() + b"\n")
        yield case(f"report metrics.jsonl: {name}", REPORT, "metrics.jsonl", "line 41", takes="study", make=make)


def _with_cell(column: str, cell: str):
    def change(content: bytes) -> bytes:
        header, first, *rest = content.decode().split("\n")
        place = header.rstrip("\r").split(",").index(column)
        cells = first.rstrip("\r").split(",")
        cells[place] = cell
        return "\n".join([header, ",".join(cells), *rest]).encode()

    return change
