"""Tables for `fit` that are damaged or misshapen, and columns and options that do not go with them."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet

from tests.bad_input.case import DAMAGES, Case, bad_json, case, edited
from tests.bad_input.samples import TABLE

CHINCHILLA = "fit {} --law=chinchilla --params_column=N --tokens_column=D --loss_column=loss --bootstraps=0"
POWER = "fit {} --law=power --x_column=N --loss_column=loss --bootstraps=0"
LINES = TABLE.splitlines()
# What stands in the third row's cell of a column, and is no number that a law can take.
CELLS = (
    (
        "N",
        ("", "many", "-1", "0", "nan", "inf", "1e999", "1,2,3", "0x10", "1e", "--", "1 000", "3 million", "1.2.3"),
    ),
    ("D", ("", "None", "0", "-5e9", "NaN", "10 tokens", "2e8e", "true")),
    ("loss", ("", "0", "-2.5", "inf", "nan", "N/A", "#DIV/0!", "diverged", "2,5", "1e400")),
)
TEXTS = {
    "empty": ("", "empty"),
    "a blank line": ("\n\n", "empty"),
    "a header alone": (LINES[0] + "\n", "table.csv"),
    "one row": ("\n".join(LINES[:2]) + "\n", "1"),
    "two rows": ("\n".join(LINES[:3]) + "\n", "2"),
    "no header": ("\n".join(LINES[1:]) + "\n", "N"),
    "a column twice": (TABLE.replace("name,N,D,C,loss", "N,N,D,C,loss"), "twice"),
    "a short row": (TABLE + "x,1,2\n", "line 14"),
    "a long row": (TABLE + "x,1,2,3,4,5\n", "line 14"),
    "an open quote": (TABLE + '"x,1,2,3,4\n', "line"),
    "text after a quote": (TABLE + '"x"y,1,2,3,4\n', "line"),
    "spaces as delimiters": (TABLE.replace(",", " "), "N"),
    "colons as delimiters": (TABLE.replace(",", ":"), "N"),
    "one row repeated": (LINES[0] + "\n" + (LINES[1] + "\n") * 12, ""),
    "one size": (LINES[0] + "\n" + "".join(f"r,1000000,{d}e8,1,{3 - d / 10}\n" for d in range(1, 8)), ""),
    "HTML": ("<html><table><tr><td>N</td></tr></table></html>\n", ""),
    "a note above the header": ("Results of the sweep\n" + TABLE, ""),
}
COLUMNS = (
    ("chinchilla", "", "--params_column"),
    ("chinchilla", "--params_column=N", "--tokens_column"),
    ("chinchilla", "--params_column=n --tokens_column=D", "'n'"),
    ("chinchilla", "--params_column=N --tokens_column=tokens", "tokens"),
    ("chinchilla", "--params_column=N --tokens_column=D --loss_column=los", "los"),
    ("chinchilla", "--params_column=name --tokens_column=D", "name"),
    ("chinchilla", "--params_column=N --tokens_column=D --x_column=C", "--x_column"),
    ("chinchilla", "--params_column=N --tokens_column=D --batch_column=C", "--batch_column"),
    ("chinchilla", "--params_column=N --tokens_column=D --unique_tokens_column=D", "--unique_tokens_column"),
    ("power", "", "--x_column"),
    ("power", "--x_column=", "--x_column"),
    ("power", "--x_column=,", "--x_column"),
    ("power", "--x_column=N,M", "M"),
    ("power", "--x_column=N --params_column=N", "--params_column"),
    ("isoflop", "--params_column=N", "--tokens_column"),
    ("isoflop", "--params_column=N --tokens_column=D --flops_column=F", "F"),
    ("envelope", "--params_column=N --tokens_column=D", "--run_column"),
    ("hyperparameters", "--params_column=N --tokens_column=D", "--learning_rate_column"),
    ("data_constrained", "--params_column=N --tokens_column=D", "--unique_tokens_column"),
    ("log_linear", "--x_column=N", "--y_column"),
    ("log_linear", "--x_column=N --y_column=Y", "Y"),
    ("formula", "", "--formula"),
    ("formula", "--formula=E+A/N^a+", "ends too early"),
    ("formula", "--formula=lg(N)+E", "lg"),
    ("formula", "--formula=E+A/M^a", "M"),
    ("formula", "--formula=E+A*B/N^a", "A and B"),
    ("formula", "--formula=E+A/N^a+0*K*N", "K"),
    ("formula", "--formula=log(0-N)+A", "row 1"),
    ("formula", "--formula=E+A/N^a --parameter_bounds=a=1", "--parameter_bounds"),
    ("chinchilla", "--params_column=N --tokens_column=D --run_column=runs", "runs"),
    ("isoflop", "--params_column=N --tokens_column=D --run_column=name", "--run_column"),
    ("multi_power", "--run_column=name --learning_rate_column=C", "--column=step"),
    ("downstream", "", "--y_column"),
    ("downstream", "--y_column=loss", "loss"),
)
OPTIONS = (
    ("--where=N", "--where"),
    ("--where=", "--where"),
    ("--where=size=3", "size"),
    ("--where=N=7", "N"),
    ("--where='name>r3'", "name"),
    ("--where='N>many'", "N>many"),
    ("--where='N=7 or size=3'", "size"),
    ("--where='N=7 or N=8'", "N"),
    ("--last_of=runs", "runs"),
    ("--join=table.csv", "--on"),
    ("--join=nowhere.csv --on=name", "nowhere.csv"),
    ("--join=table.csv --on=size", "size"),
    ("--join=table.csv --on=name", "columns too"),
    ("--huber_delta=0", "huber_delta"),
    ("--huber_delta=square", "huber_delta"),
    ("--params_unit=0", "--params_unit"),
    ("--params_unit=-1e6", "--params_unit"),
    ("--params_unit=nan", "--params_unit"),
    ("--flops_unit=1e9", "--flops_unit"),
    ("--confidence=95", "confidence"),
    ("--confidence=0", "confidence"),
    ("--confidence=nan", "confidence"),
    ("--bootstraps=-1", "bootstraps"),
    ("--bootstraps=2 --seed=-1", "seed"),
    ("--held_out=1", "held"),
    ("--held_out=-0.1", "held"),
    ("--held_out=nan", "held"),
    ("--fixed=E", "--fixed"),
    ("--fixed=Z=1", "Z"),
    ("--fixed=E=much", "--fixed"),
    ("--fixed=E=nan", "E"),
    ("--budgets=lots", "--budgets"),
    ("--budgets=0", "budget"),
    ("--budgets=-1e21", "budget"),
    ("--budgets=1e21,,x", "--budgets"),
    ("--window=2", "--window"),
    ("--tolerance=0.1", "tolerance"),
    ("--pair_column=name", "--pair_column"),
    ("--group_column=family", "family"),
    ("--group_column=name --pair_column=cell", "cell"),
    ("--figure=figure.gif", "figure.gif"),
    ("--figure=missing/figure.svg", "missing"),
    ("--output=table.csv", "table.csv"),
    ("--output=table.csv/fit", "table.csv"),
    ("--csv=table.csv", "table"),
)
FILES = (
    ("nowhere.csv", "nowhere.csv"),
    ("tabel.csv", "table.csv"),
    ("empty", "empty"),
    ("", ""),
    ("missing/table.csv", "table.csv"),
    ("table.csv/x.csv", "table.csv"),
    ("https://example.org/table.csv", "example.org"),
)
JSON_TABLES = {
    "a list of numbers": ("table.json", [1, 2, 3], "table.json"),
    "columns of different lengths": ("table.json", {"N": [1, 2], "D": [1]}, "table.json"),
    "an empty list": ("table.json", [], "table.json"),
    "a column within a column": ("table.json", [{"a": {"b": 1}, "a.b": 2, "N": 1}], "a.b"),
    "numbers as lists": ("table.json", [{"N": [1], "D": 2, "loss": 3}] * 6, "N"),
    "an object in a number's place": ("table.json", [{"N": {"value": 1}, "D": 2, "loss": 3}] * 6, "N"),
    "true in a number's place": ("table.json", [{"N": True, "D": 2, "loss": 3}] * 6, "N"),
    "a list a line": ("table.jsonl", '{"N": 1}\n[1, 2]\n', "line 2"),
    "no JSON on a line": ("table.jsonl", '{"N": 1}\n{"N": 2\n', "line 2"),
    "Python's quotes": ("table.jsonl", "{'N': 1}\n", "line 1"),
    "nothing": ("table.jsonl", "\n", "empty"),
    "an integer of 5,000 digits": ("table.jsonl", '{"N": ' + "9" * 5000 + ', "D": 1, "loss": 1}\n', "table.jsonl"),
    "nested 100,000 deep": ("table.jsonl", '{"N": ' + "[" * 100_000 + "}\n", "line 1"),
    "objects nested 3,000 deep": ("table.jsonl", '{"N": ' * 3000 + "1" + "}" * 3000 + "\n", "table.jsonl"),
}


def cases() -> Iterator[Case]:
    """Yields the cases."""
    for column, cells in CELLS:
        for cell in cells:
            row = dict(zip(LINES[0].split(","), LINES[3].split(","), strict=True)) | {column: f'"{cell}"'}
            text = "\n".join([*LINES[:3], ",".join(row.values()), *LINES[4:]]) + "\n"
            command = CHINCHILLA.format("table.csv")
            yield case(f"fit: {column} is {cell!r}", command, "line 4", column, files={"table.csv": text})
    for name, (text, says) in TEXTS.items():
        yield case(f"fit table: {name}", CHINCHILLA.format("table.csv"), says, files={"table.csv": text})
    for law, flags, says in COLUMNS:
        yield case(f"fit {law}: {flags}", f"fit table.csv --law={law} {flags}", says, takes="table.csv")
    for flags, says in OPTIONS:
        law = POWER if flags.startswith(("--figure", "--output")) else CHINCHILLA
        yield case(f"fit: {flags}", f"{law.format('table.csv')} {flags}", says, takes="table.csv")
    for file, says in FILES:
        make = lambda folder: (folder.path / "empty").mkdir()  # noqa: E731
        yield case(f"fit: file {file!r}", POWER.format(f"'{file}'"), says, takes="table.csv", make=make)
    for name, (file, content, says) in JSON_TABLES.items():
        yield case(f"fit {file}: {name}", CHINCHILLA.format(file), says, files={file: content})
    yield from bad_json("fit table.json", "table.json", POWER.format("table.json"), "table.json")
    for kind in ("csv", "csv.gz", "parquet", "parquet.gz"):
        file = f"table.{kind}"
        for name, damage in DAMAGES.items():
            if (kind, name) in (("csv", "cut in half"), ("csv.gz", "gzip")):
                continue
            files = {file: _table(kind)}
            yield case(f"fit {file}: {name}", POWER.format(file), "table", files=files, make=edited(file, damage))
    files = {"runs/a.json": {"N": 1, "loss": 2}, "runs/b.json": [1]}
    yield case("fit folder: a list", POWER.format("runs"), "b.json", files=files)
    files = {"runs/a.json": {"N": 1, "loss": 2}, "runs/b.json": "{"}
    yield case("fit folder: no JSON", POWER.format("runs"), "b.json", files=files)
    files = {"table.csv.gz": gzip.compress(b"\xff\xfe" + TABLE.encode())}
    yield case("fit table.csv.gz: UTF-16 within", POWER.format("table.csv.gz"), "UTF-8", files=files)


def _table(kind: str) -> bytes:
    if kind.startswith("csv"):
        return gzip.compress(TABLE.encode()) if kind.endswith("gz") else TABLE.encode()
    rows = [line.split(",") for line in LINES[1:]]
    columns = {name: [float(row[i]) for row in rows] for i, name in enumerate(LINES[0].split(",")) if name != "name"}
    file = io.BytesIO()
    pa.parquet.write_table(pa.table(columns), file)
    return gzip.compress(file.getvalue()) if kind.endswith("gz") else file.getvalue()
