"""`triarch report`: a study folder -> one self-contained HTML page."""

from __future__ import annotations

import argparse

from triarch.cli.outputs import check_file, check_folder
from triarch.report.page import write_report

HELP = "one self-contained HTML page with the figures and tables of an experiment"
EXAMPLE = """  triarch report --study=runs/laptop --output=runs/laptop/report.html
  triarch report --ranks=runs/tuning/ranks --output=runs/tuning/report.html --figures=runs/tuning/figures"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--study",
        metavar="DIR",
        help="study folder: study.json, results.csv, evaluations.csv, runs/; where it is, analysis/ (the --output of "
        "evaluate --suite, --tasks and --rank_file, extrapolate and attention, and the --json of "
        "benchmarks/generation_throughput.py, by its name generation_throughput.json)",
    )
    what.add_argument(
        "--ranks",
        action="append",
        default=[],
        metavar="DIR",
        help="in place of a study, the --output of evaluate --rank_file: quality of models before and after tuning, "
        "against size and inference cost; repeatable",
    )
    parser.add_argument("--output", required=True, metavar="PATH.html", help="the page to write")
    parser.add_argument(
        "--figures", metavar="DIR", help="also write every figure there, as .svg, .png and the .csv behind it"
    )
    parser.add_argument(
        "--bootstraps", type=int, default=1000, help="resamples behind intervals and bands (default: 1000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the resampling (default: 0)")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Writes the page; returns where it stands and what it says.

    Raises:
      UserError: a file of the study is missing or misshapen, or the output cannot be written.
    """
    check_file("output", args.output, make=True)
    if args.figures is not None:
        check_folder("figures", args.figures)
    report = write_report(
        args.study,
        args.output,
        bootstraps=args.bootstraps,
        seed=args.seed,
        figures_folder=args.figures,
        ranks=args.ranks,
    )
    if getattr(args, "json", None) != "-":
        print("\n".join(f"- {finding}" for finding in report.findings))
        print(f"report:  {args.output}")
    return {
        "output": str(args.output),
        "findings": list(report.findings),
        "laws": list(report.laws),
        "figures": [panel.name for panel in report.panels],
    }
