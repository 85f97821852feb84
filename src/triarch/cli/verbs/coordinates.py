"""`triarch coordinates`: the coordinate check of a parametrization."""

from __future__ import annotations

import argparse
import dataclasses
import typing
from pathlib import Path
from typing import Any

from triarch.cli.gin import files as gin_files
from triarch.cli.views.model_tables import make_folder, numbers_of, save_panels, write_table
from triarch.cli.views.text_table import aligned
from triarch.errors import UserError, nearest

HELP = """How far activations move in a network's first updates, by width: muP's coordinate check (arXiv 2203.03466).

The config's network is the base, and wider ones have more heads. All make the same few updates at the peak of the
config's schedule. Under "mup" the residual stream after each layer moves as far at any width; under "standard" it moves
further the wider the network is, so that the best learning rate falls. A slope is the power of width by which it does.
Logits of a wide network begin nearer to 0 (by 1 / sqrt(width)), and forget that with the updates: a slope below 0 that
rises with --steps and the rate is no fault."""
EXAMPLE = """  triarch coordinates --gin_file=runs/decllm.gin --gin_file=models/decllm/tiny_s.gin \\
      --gin.ModelConfig.vocab_size=260 --gin.DataConfig.store="'stores/code'" --gin.DataConfig.window=128 \\
      --gin.RunConfig.batch_size=8 --factors=1,2,4,8,16 --output=coordinates"""
# The table is small, and so are the networks; what a --factors=1,100000 would need is not.
_MOST_FACTOR = 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `triarch coordinates`."""
    gin_files.add_gin_arguments(parser)
    add = parser.add_argument
    add("--output", required=True, type=Path, metavar="FOLDER", help="for coordinates.csv and .svg, .pdf, .png")
    add("--factors", default="1,2,4,8,16", help="widths, as multiples of the config's (default: %(default)s)")
    add("--steps", type=int, default=4, help="updates (default: %(default)s)")
    add("--parametrizations", default="standard,mup", help="of standard, mup and complete_p (default: %(default)s)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Checks, prints slopes, and writes the table and its figure.

    Raises:
      UserError: the config or its store is not in order, a flag is out of range, or the output cannot be written.
    """
    factors = sorted(set(numbers_of("factors", args.factors) or ()))
    if len(factors) < 2 or factors[0] < 1 or factors[-1] > _MOST_FACTOR:
        raise UserError(f"--factors={args.factors}: expected two whole numbers or more, from 1 to {_MOST_FACTOR}")
    if args.steps < 1:
        raise UserError(f"--steps={args.steps}: expected a whole number from 1 on")
    config, _ = gin_files.load_run(args)
    make_folder(args.output)
    from triarch.training import coordinates

    known = typing.get_args(coordinates.Parametrization)
    kinds = args.parametrizations.split(",")
    for kind in kinds:
        if kind not in known:
            raise UserError(f"--parametrizations={args.parametrizations}: {kind!r}{nearest(kind, known)}")
    found = list(coordinates.check(config, factors, args.steps, tuple(dict.fromkeys(kinds))))
    from triarch.report.coordinate_figures import COORDINATES, coordinate_panel

    rows = [dataclasses.asdict(one) for one in found]
    write_table(args.output / COORDINATES, rows)
    save_panels([coordinate_panel(args.output / COORDINATES)], args.output)
    slopes = coordinates.slopes(found)
    cells = [(place, kind, f"{slope:+.2f}") for (kind, place), slope in slopes.items()]
    print(aligned(("activations", "parametrization", "move as width to the"), cells, words=2))
    named = [{"parametrization": kind, "place": place, "slope": slope} for (kind, place), slope in slopes.items()]
    return {"steps": args.steps, "coordinates": rows, "slopes": named}
