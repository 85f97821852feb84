"""`triarch fit`: a scaling law, with intervals, on any CSV."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from triarch.errors import UserError
from triarch.scaling import figures
from triarch.scaling.laws import fit_chinchilla, fit_power
from triarch.scaling.table import Table

HELP = "fit a scaling law, with bootstrap intervals, to any CSV"
LAWS = {"chinchilla": "L = E + A / N^alpha + B / D^beta", "power": "L = A / x^alpha + E"}
EXAMPLE = "triarch fit runs.csv --law=chinchilla --params_column=N --tokens_column=D --loss_column=loss"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", nargs="?", metavar="CSV", help="the table; the same as --csv")
    parser.add_argument("--csv", metavar="PATH", help="the table: comma-separated, with a header line")
    parser.add_argument(
        "--law", required=True, choices=("chinchilla", "power"),
        help="chinchilla: E + A/N^alpha + B/D^beta; power: A x^-alpha + E",
    )  # fmt: skip
    parser.add_argument("--params_column", metavar="NAME", help="model sizes N (chinchilla)")
    parser.add_argument("--tokens_column", metavar="NAME", help="training tokens D (chinchilla)")
    parser.add_argument("--x_column", metavar="NAME", help="parameters, tokens or FLOPs (power)")
    parser.add_argument("--loss_column", metavar="NAME", default="loss", help="the loss (default: loss)")
    parser.add_argument(
        "--offset", choices=("auto", "free", "zero"), default="auto",
        help="E of the power law; auto sets it to zero, with a warning, where data do not identify it (default: auto)",
    )  # fmt: skip
    parser.add_argument(
        "--bootstraps", type=int, default=1000, help="resamples for the intervals, 0 for none (default: 1000)"
    )
    parser.add_argument("--confidence", type=float, default=0.95, help="of the intervals (default: 0.95)")
    parser.add_argument("--seed", type=int, default=0, help="of the resampling (default: 0)")
    parser.add_argument(
        "--figure", metavar="PATH", help="draw data and law as .svg or .png, or write the .csv behind it"
    )


def run(args: argparse.Namespace) -> dict[str, object]:
    """Fits the law; returns the result of `Fit.to_json`.

    Raises:
      UserError: a missing flag, file or column, a cell that is no number above zero, or too few points.
    """
    if (args.csv is None) == (args.table is None):
        raise UserError("fit: name one table, as `triarch fit PATH` or with --csv=PATH")
    path = args.csv or args.table
    columns = _columns(args)
    table = Table.read_csv(path)
    *inputs, loss = [table.numbers(column, minimum_rows=2) for column in (*columns, args.loss_column)]
    options = {"bootstraps": args.bootstraps, "confidence": args.confidence, "seed": args.seed}
    if args.law == "chinchilla":
        fit = fit_chinchilla(*inputs, loss, inputs=("N", "D"), **options)
        panel = figures.parametric_panel
    else:
        fit = fit_power(*inputs, loss, offset=args.offset, name="x", **options)
        panel = figures.law_panel
    if args.figure:
        panel("fit", f"{args.loss_column} = {fit.formula()}", fit, *inputs, loss).save(args.figure)
    result = fit.to_json()
    if getattr(args, "json", None) != "-":
        print(describe(result))
    return result


def describe(result: Mapping[str, Any]) -> str:
    """Returns a fit's JSON as lines to read."""
    lines = [f"{LAWS[result['law']]}, {result['num_points']} points"]
    for name, value in result["parameters"].items():
        low, high = result["intervals"].get(name, (None, None))
        interval = "" if low is None else f"  [{low:.6g}, {high:.6g}]"
        lines.append(f"  {name:<6}{value:<12.6g}{interval}")
    if result["intervals"]:
        lines.append(f"  in brackets: {result['confidence']:.0%} intervals, {result['bootstraps']} bootstraps")
    lines.append(f"  objective {result['objective']:.6g} (sum of Huber losses, delta {result['huber_delta']:g})")
    if "optimal_exponents" in result:
        exponents = result["optimal_exponents"]
        lines.append(f"  compute-optimal: N grows as C^{exponents['N']:.3f}, D as C^{exponents['D']:.3f}")
    return "\n".join(lines + [f"warning: {warning}" for warning in result["warnings"]])


def _columns(args: argparse.Namespace) -> tuple[str, ...]:
    wanted = ("params_column", "tokens_column") if args.law == "chinchilla" else ("x_column",)
    for flag in wanted:
        if getattr(args, flag) is None:
            raise UserError(f"fit --law={args.law} needs --{flag}=NAME")
    for flag in {"params_column", "tokens_column", "x_column"} - set(wanted):
        if getattr(args, flag) is not None:
            raise UserError(f"fit --law={args.law} has no --{flag}; it takes {' and '.join('--' + w for w in wanted)}")
    return tuple(getattr(args, flag) for flag in wanted)
