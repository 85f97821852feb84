"""`triarch fit`: scaling laws, with intervals, checks and comparisons, on any table."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from triarch.cli.outputs import check_file, check_folder
from triarch.errors import UserError
from triarch.progress import Progress
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.law import Law
from triarch.scaling.laws.registry import LAWS, OWN_LAWS, make
from triarch.scaling.requests.outcome import fit_table
from triarch.scaling.requests.output import SUFFIXES, main_panel, write_folder
from triarch.scaling.requests.request import LOSSES, FitRequest
from triarch.scaling.requests.text import describe
from triarch.scaling.tables.joining import join
from triarch.scaling.tables.roles import ROLES
from triarch.scaling.tables.table import Table
from triarch.scaling.tables.table_files import KINDS, read_table

HELP = "fit a scaling law, with bootstrap intervals, to any table; compare laws, or architectures"
EXAMPLE = """triarch fit runs.csv --law=chinchilla --params_column=N --tokens_column=D --loss_column=loss --output=fit
triarch fit results.csv --law=power --x_column=num_params,flops_paper,flops_train --loss_column=loss \\
    --where=status=finished --group_column=family --pair_column=size
triarch fit isoflop.csv --law=isoflop --params_column=N --tokens_column=D --flops_column=C --budgets=1e21,1e22
triarch fit published.jsonl.gz --law=chinchilla --params_column=size --params_unit=1e6 --flops_column=compute \\
    --loss_column=val_ppl --loss_in=perplexity --where='size>=10' --skip_empty
triarch fit sweep.csv --law=hyperparameters --params_column=N --tokens_column=D --learning_rate_column=lr \\
    --batch_column=bs --group_column=family --pair_column=cell
triarch fit runs.csv --law=formula --formula='E + A/N^alpha + B/D^beta + K/W^kappa' --column=W=d_model \
    --params_column=N --tokens_column=D --fixed=alpha=beta"""
# Flags of the settings that triarch's own laws have; laws of a user's modules are given theirs by --setting.
SETTINGS = {name: facts for law in OWN_LAWS for name, facts in law.settings().items()}

CONDITION = re.compile(r"([^=!<>]*)(=|!=|<=|>=|<|>)(.*)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", nargs="?", metavar="TABLE", help=f"{KINDS}; by its name, .gz aside")
    parser.add_argument("--csv", metavar="TABLE", help="the same, as a flag")
    laws = "; ".join(f"{name}: {law.text}" for name, law in LAWS.items()).replace("%", "%%")
    parser.add_argument("--law", required=True, metavar=f"{{{','.join(LAWS)}}}", help=laws)
    for name, role in ROLES.items():
        parser.add_argument(f"--{name}_column", metavar="NAME", default=role.default, help=role.help)
    parser.add_argument(
        "--column", metavar="ROLE=NAME", action="append", default=[],
        help="a column that a formula or a registered law needs and that has no flag here; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--loss_in", choices=LOSSES, default="nats", help="what the loss column holds; laws are of nats (default: nats)"
    )
    parser.add_argument(
        "--where", metavar="COLUMN=VALUE", action="append", default=[],
        help="keep only such rows; also !=, <, <=, > and >= (in quotes), and `size>=10 or family=b`; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--last_of", metavar="NAME", help="keep the last row of each value of this column, such as the end of each run"
    )
    parser.add_argument("--join", metavar="TABLE", help="add the columns of another table, whose rows are told by --on")
    parser.add_argument("--on", metavar="NAME,...", default="", help="columns in which rows of both tables agree")
    parser.add_argument(
        "--skip_empty", action="store_true", help="leave out rows with an empty or not finite cell in a column used"
    )
    for name, role in ROLES.items():
        if role.unit:
            parser.add_argument(f"--{name}_unit", type=float, metavar="NUMBER", help=f"of --{name}_column: {role.unit}")
    parser.add_argument(
        "--unit", metavar="ROLE=NUMBER", action="append", default=[], help="of a column given by --column; repeatable"
    )
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
    for name, facts in SETTINGS.items():
        parser.add_argument(
            f"--{name}", type=facts["kind"], choices=facts["choices"] or None, metavar=facts["metavar"],
            help=facts["help"],
        )  # fmt: skip
    parser.add_argument(
        "--setting", metavar="NAME=VALUE", action="append", default=[], help="of a registered law; repeatable"
    )
    parser.add_argument(
        "--fixed",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="hold a parameter at a value, or equal to another (alpha=beta); repeatable",
    )
    parser.add_argument(
        "--huber_delta", metavar="NUMBER",
        help="where the Huber loss turns from square to absolute, or `squares` for least squares (default: the law's"
        " own, 0.001 for losses)",
    )  # fmt: skip
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


def run(args: argparse.Namespace) -> dict[str, object]:
    """Fits the law; returns what `--json` writes.

    Raises:
      UserError: a missing flag, file or column, a cell that is not what its column needs, or too few points.
    """
    if (args.csv is None) == (args.table is None):
        raise UserError("fit: name one table, as `triarch fit PATH` or with --csv=PATH")
    request = _request(args).bound()
    request.check()
    if args.figure:
        if Path(args.figure).suffix not in SUFFIXES:
            raise UserError(f"--figure={args.figure}: expected a name that ends in {', '.join(SUFFIXES)}")
        check_file("figure", args.figure)
    if args.output:
        check_folder("output", args.output)
    table, notes = _table(args)
    with Progress(True) as progress:
        outcome = fit_table(table, request, lambda phase: progress.start(phase, None), notes)
        progress.start("drawing", None)
        if args.figure:
            main_panel(outcome).save(args.figure)
        written = write_folder(outcome, args.output) if args.output else []
    if getattr(args, "json", None) != "-":
        print(describe(outcome))
        if written:
            print(f"written to {args.output}: {len(written)} files")
    return outcome.result


def _table(args: argparse.Namespace) -> tuple[Table, list[str]]:
    """Returns the table, joined with another where one is named, and warnings."""
    if bool(args.join) != bool(args.on):
        raise UserError("--join=TABLE and --on=COLUMN go together: rows of both that agree in the columns are joined")
    table = read_table(args.csv or args.table)
    if not args.join:
        return table, []
    return join(table, read_table(args.join), [name.strip() for name in args.on.split(",") if name.strip()])


def _request(args: argparse.Namespace) -> FitRequest:
    given = {name: getattr(args, name) for name in SETTINGS}
    settings = {name: value for name, value in given.items() if value is not None}
    law = make(args.law, settings | dict(_pairs(args.setting, "setting")))
    return FitRequest(
        law=law,
        columns=_columns(args, law),
        units=_units(args),
        where=tuple(_conditions(text) for text in args.where),
        last_of=args.last_of,
        skip_empty=args.skip_empty,
        loss_in=args.loss_in,
        run=args.run_column if law.resamples_rows else None,
        group=args.group_column,
        pair=args.pair_column,
        options=FitOptions(
            bootstraps=args.bootstraps,
            confidence=args.confidence,
            seed=args.seed,
            delta=_delta(args.huber_delta),
            fixed={name: _held(value) for name, value in _pairs(args.fixed, "fixed")},
        ),
        held_out=args.held_out,
        compare_laws=args.compare_laws,
        budgets=tuple(_number(one, "budgets") for one in args.budgets.split(",") if one.strip()),
    )


def _columns(args: argparse.Namespace, law: Law) -> dict[str, str]:
    """Returns the columns given by role; one that is only assumed is left to laws that need it."""
    given = {name: getattr(args, f"{name}_column") for name in ROLES} | dict(_pairs(args.column, "column"))
    if law.resamples_rows and "run" not in law.roles():
        given["run"] = None
    assumed = {name for name, role in ROLES.items() if given[name] == role.default and name not in law.roles()}
    return {name: column for name, column in given.items() if column and name not in assumed}


def _units(args: argparse.Namespace) -> dict[str, float]:
    flags = {name: f"{name}_unit" for name, role in ROLES.items() if role.unit}
    given = [(name, flag, getattr(args, flag), getattr(args, f"{name}_column")) for name, flag in flags.items()]
    columns = dict(_pairs(args.column, "column"))
    for name, text in _pairs(args.unit, "unit"):
        given.append((name, f"unit={name}", _number(text, "unit"), columns.get(name)))
    units = {}
    for name, flag, unit, column in given:
        if unit is None:
            continue
        if not 0 < unit < float("inf"):
            raise UserError(f"--{flag}={unit:g}: expected a number above zero, such as 1e6")
        if not column:
            named = f"--{name}_column" if name in ROLES else f"--column={name}=NAME"
            raise UserError(f"--{flag}={unit:g}: of which column? name it with {named}")
        units[name] = unit
    return units


def _held(text: str) -> float | str:
    """Returns the number, or the name, that a parameter is held at."""
    try:
        return float(text)
    except ValueError:
        return text.strip() if text.strip().isidentifier() else _number(text, "fixed")


def _delta(text: str | None) -> float | None:
    """Returns the delta of the Huber loss, infinite for squares; None for the law's own."""
    if text is None or text == "squares":
        return None if text is None else float("inf")
    return _number(text, "huber_delta")


def _conditions(text: str) -> tuple[tuple[str, str, str], ...]:
    """Returns a column, a relation and a value for each part of a condition, parts being set apart by " or ".

    A name may hold anything but a relation, and a value an "or" that no condition follows.
    """
    found: list[tuple[str, str, str]] = []
    for part in text.split(" or "):
        match = CONDITION.fullmatch(part)
        if match and match[1].strip():
            found.append((match[1].strip(), match[2], match[3]))
        elif match or not found:
            raise UserError(f"--where={text}: expected COLUMN=VALUE, or !=, <, <=, > or >= between the two")
        else:
            column, relation, value = found[-1]
            found[-1] = (column, relation, f"{value} or {part}")
    return tuple(found)


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
