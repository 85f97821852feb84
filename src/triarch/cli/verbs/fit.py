"""`triarch fit`: scaling laws, with intervals, checks and comparisons, on any table."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from triarch.cli.outputs import check_file, check_folder
from triarch.errors import UserError
from triarch.progress import Progress
from triarch.scaling.figures.fit_output import SUFFIXES, main_panel, write_folder
from triarch.scaling.figures.fit_text import describe
from triarch.scaling.fitting.outcome import fit_table
from triarch.scaling.fitting.request import LAWS, LOSSES, Request
from triarch.scaling.tables.table_files import KINDS, read_table

HELP = "fit a scaling law, with bootstrap intervals, to any table; compare laws, or architectures"
EXAMPLE = """triarch fit runs.csv --law=chinchilla --params_column=N --tokens_column=D --loss_column=loss --output=fit
triarch fit results.csv --law=power --x_column=num_params,flops_paper,flops_train --loss_column=loss \\
    --where=status=finished --group_column=family --pair_column=size
triarch fit isoflop.csv --law=isoflop --params_column=N --tokens_column=D --flops_column=C --budgets=1e21,1e22
triarch fit published.jsonl.gz --law=chinchilla --params_column=size --params_unit=1e6 --flops_column=compute \\
    --loss_column=val_ppl --loss_in=perplexity --where='size>=10' --skip_empty
triarch fit sweep.csv --law=hyperparameters --params_column=N --tokens_column=D --learning_rate_column=lr \\
    --batch_column=bs --group_column=family --pair_column=cell"""
COLUMNS = {
    "params": "model sizes N",
    "tokens": "training tokens D (so far, along a curve)",
    "x": "input of power and log_linear; several with commas (power: a law of each)",
    "y": "what log_linear predicts; accuracies from 0 to 1 (downstream)",
    "unique_tokens": "different tokens U (data_constrained)",
    "flops": "FLOPs: budgets (isoflop), so far (envelope), or conventions with commas (chinchilla); else 6 N D. Where a"
    " table has FLOPs and only one of N and D, the other is worked out",
    "run": "which run a point belongs to (envelope)",
    "learning_rate": "peak learning rates (hyperparameters)",
    "batch": "batch sizes (hyperparameters)",
}

CONDITION = re.compile(r"([^=!<>]*)(=|!=|<=|>=|<|>)(.*)")
WITH_UNITS = {
    "params": "1e6 if in millions",
    "tokens": "1e9 if in billions",
    "unique_tokens": "1e9 if in billions",
    "flops": "1e9 if in GFLOPs, 8.64e19 if in petaFLOP/s-days",
    "y": "0.01 if accuracies are in per cent",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", nargs="?", metavar="TABLE", help=f"{KINDS}; by its name, .gz aside")
    parser.add_argument("--csv", metavar="TABLE", help="the same, as a flag")
    laws = "; ".join(f"{law}: {text}" for law, (_, _, text) in LAWS.items()).replace("%", "%%")
    parser.add_argument("--law", required=True, choices=tuple(LAWS), help=laws)
    for role, text in COLUMNS.items():
        parser.add_argument(f"--{role}_column", metavar="NAME", help=text)
    parser.add_argument("--loss_column", metavar="NAME", default="loss", help="the loss (default: loss)")
    parser.add_argument(
        "--loss_in", choices=LOSSES, default="nats", help="what the loss column holds; laws are of nats (default: nats)"
    )
    parser.add_argument(
        "--where", metavar="COLUMN=VALUE", action="append", default=[],
        help="keep only such rows; also !=, <, <=, > and >= (in quotes); repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--skip_empty", action="store_true", help="leave out rows with an empty or not finite cell in a column used"
    )
    for role, text in WITH_UNITS.items():
        parser.add_argument(f"--{role}_unit", type=float, metavar="NUMBER", help=f"of --{role}_column: {text}")
    _add_options(parser)
    group = parser.add_argument_group("comparing architectures")
    group.add_argument("--group_column", metavar="NAME", help="fit each of its values apart, and compare them")
    group.add_argument(
        "--pair_column", metavar="NAME", help="rows of the groups with one value of it are resampled together"
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--figure", metavar="PATH", help="draw data and law as .svg, .pdf or .png, or write the .csv behind it"
    )
    output.add_argument(
        "--output", metavar="DIR", help="write fit.json, summary.txt, residuals, resamples and every figure there"
    )


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--offset", choices=("auto", "free", "zero"), default="auto",
        help="E; auto sets the power law's to zero, with a warning, where data do not identify it (default: auto)",
    )  # fmt: skip
    parser.add_argument(
        "--fixed", metavar="NAME=VALUE", action="append", default=[], help="hold a parameter at a value; repeatable"
    )
    parser.add_argument(
        "--bootstraps", type=int, default=1000, help="resamples for the intervals, 0 for none (default: 1000)"
    )
    parser.add_argument("--confidence", type=float, default=0.95, help="of the intervals (default: 0.95)")
    parser.add_argument("--seed", type=int, default=0, help="of the resampling (default: 0)")
    parser.add_argument(
        "--held_out", type=float, default=0.2, metavar="SHARE",
        help="share of rows, the largest sizes, that a second fit must predict; 0 for none (default: 0.2)",
    )  # fmt: skip
    parser.add_argument("--compare_laws", action="store_true", help="rank all laws of these columns by held-out error")
    parser.add_argument("--budgets", metavar="FLOPS,...", default="", help="budgets to give the best N and D for")
    parser.add_argument(
        "--window", type=float, metavar="FACTOR", help="isoflop: fit only sizes within this factor of the best"
    )
    parser.add_argument(
        "--tolerance", type=float, metavar="SHARE",
        help="hyperparameters: runs this near the least loss of their cell make its optimum (default: 0.0025)",
    )  # fmt: skip
    parser.add_argument(
        "--floor", type=float, default=0.0, metavar="ACCURACY", help="downstream: accuracy of guessing (default: 0)"
    )


def run(args: argparse.Namespace) -> dict[str, object]:
    """Fits the law; returns what `--json` writes.

    Raises:
      UserError: a missing flag, file or column, a cell that is not what its column needs, or too few points.
    """
    if (args.csv is None) == (args.table is None):
        raise UserError("fit: name one table, as `triarch fit PATH` or with --csv=PATH")
    request = _request(args)
    request.check()
    if args.figure:
        if Path(args.figure).suffix not in SUFFIXES:
            raise UserError(f"--figure={args.figure}: expected a name that ends in {', '.join(SUFFIXES)}")
        check_file("figure", args.figure)
    if args.output:
        check_folder("output", args.output)
    table = read_table(args.csv or args.table)
    with Progress(True) as progress:
        outcome = fit_table(table, request, lambda phase: progress.start(phase, None))
        progress.start("drawing", None)
        if args.figure:
            main_panel(outcome).save(args.figure)
        written = write_folder(outcome, args.output) if args.output else []
    if getattr(args, "json", None) != "-":
        print(describe(outcome))
        if written:
            print(f"written to {args.output}: {len(written)} files")
    return outcome.result


def _request(args: argparse.Namespace) -> Request:
    given = {role: getattr(args, f"{role}_column") for role in COLUMNS}
    given["loss"] = args.loss_column if "loss" in LAWS[args.law][0] else None
    return Request(
        law=args.law,
        columns={role: name for role, name in given.items() if name},
        units=_units(args),
        where=tuple(_condition(text) for text in args.where),
        skip_empty=args.skip_empty,
        loss_in=args.loss_in,
        group=args.group_column,
        pair=args.pair_column,
        offset=args.offset,
        fixed={name: _number(value, "fixed") for name, value in _pairs(args.fixed, "fixed")},
        bootstraps=args.bootstraps,
        confidence=args.confidence,
        seed=args.seed,
        held_out=args.held_out,
        compare_laws=args.compare_laws,
        budgets=tuple(_number(one, "budgets") for one in args.budgets.split(",") if one.strip()),
        window=args.window,
        tolerance=args.tolerance,
        floor=args.floor,
    )


def _units(args: argparse.Namespace) -> dict[str, float]:
    units = {role: getattr(args, f"{role}_unit") for role in WITH_UNITS}
    units = {role: unit for role, unit in units.items() if unit is not None}
    for role, unit in units.items():
        if not 0 < unit < float("inf"):
            raise UserError(f"--{role}_unit={unit:g}: expected a number above zero, such as 1e6")
        if not getattr(args, f"{role}_column"):
            raise UserError(f"--{role}_unit={unit:g}: of which column? name it with --{role}_column")
    return units


def _condition(text: str) -> tuple[str, str, str]:
    """Returns the column, the relation and the value of a condition; a name may hold anything but a relation."""
    found = CONDITION.fullmatch(text)
    if not found or not found[1].strip():
        raise UserError(f"--where={text}: expected COLUMN=VALUE, or !=, <, <=, > or >= between the two")
    return found[1].strip(), found[2], found[3]


def _pairs(texts: Sequence[str], flag: str) -> list[tuple[str, str]]:
    found = [tuple(text.split("=", 1)) for text in texts]
    for text, pair in zip(texts, found, strict=True):
        if len(pair) != 2 or not pair[0].strip():
            raise UserError(f"--{flag}={text}: expected NAME=VALUE")
    return [(name.strip(), value) for name, value in found]


def _number(text: str, flag: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--{flag}: {text!r} is no number") from None
