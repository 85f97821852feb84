"""`triarch extrapolate`: loss against total length, beyond the trained one."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch.cli.gin import files as gin_files
from triarch.cli.verbs.evaluate import perplexity_cell
from triarch.cli.views.model_tables import (
    add_model_arguments,
    model_facts,
    numbers_of,
    open_models,
    save_panels,
    write_table,
)
from triarch.cli.views.text_table import aligned, decimals
from triarch.errors import UserError

if TYPE_CHECKING:
    from triarch.interchange import LoadedModel

HELP = """Loss on texts of 1x to 8x the trained length, as figure 5 of the RedLLM paper (arXiv 2510.26622) has it.

A prefix is given and what follows it scored, up to each total length: an encoder-decoder reads the prefix in its
encoder and the rest in its decoder, a decoder-only model reads all in a row. An encoder, which the paper does not have,
is scored by pseudo-likelihood at every length.

The store must be of the model's vocabulary and in the layout "windows". Its own window does not matter: consecutive
windows are joined, for they are cut from one concatenation of documents. The split must hold at least one window of the
greatest length; a longer text of the same vocabulary is made with
  triarch prepare --task=... --output=stores/long --vocabulary_from=stores/of_the_run --validation_fraction=1

--gin.NAME=VALUE changes how the models' parameters are read, without training: a rotary embedding slowed for longer
texts, say (RopeScaling)."""
EXAMPLE = (
    "triarch extrapolate --model=runs/redllm --model=runs/decllm --store=stores/books --output=study/analysis\n"
    "triarch extrapolate --model=exports/smollm2 --store=stores/prose --trained_length=2048 --lengths=2048,4096 "
    "--output=out\n"
    "triarch extrapolate --model=runs/redllm --store=stores/books --output=out --gin.RopeScaling.kind=\"'yarn'\" "
    "--gin.RopeScaling.factor=4.0 --gin.RopeScaling.original_length=2048 --gin.ModelConfig.rope_scaling=@RopeScaling()"
)

FACTOR = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `triarch extrapolate`."""
    add_model_arguments(parser, "for extrapolation.csv, positions.csv and the figures (.svg, .pdf, .png)")
    gin_files.add_binding_argument(parser)
    add = parser.add_argument
    add("--trained_length", type=int, help="tokens of a training window (default: what the run says)")
    add("--lengths", help=f"total tokens (default: the trained length to {FACTOR} times it, in steps of a half)")
    add(
        "--prefixes",
        help="tokens given (default: 1, a quarter and a half of the trained length: the paper's 1, 512, 1024 for 2048)",
    )
    add("--max_windows", type=int, default=32, help="of the greatest length, drawn from all (default: %(default)s)")
    add("--batch_size", type=int, default=4, help="windows computed at once (default: %(default)s)")
    add("--pseudo_positions", type=int, default=16, help="tokens of a window an encoder is scored on (default: 16)")
    add("--seed", type=int, default=0, help="of windows and tokens drawn (default: %(default)s)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluates every model at every length; writes tables and figures, and prints the losses.

    Raises:
      UserError: a model or the store is missing or damaged, does not fit the others or is too short, or a flag is out
        of range.
    """
    if args.trained_length is not None and args.trained_length < 2:
        raise UserError(f"--trained_length={args.trained_length}: expected at least 2")
    lengths, prefixes = (numbers_of(name, getattr(args, name)) for name in ("lengths", "prefixes"))
    store, models = open_models(args)
    from triarch.evaluation.extrapolation import LengthOptions, extrapolate

    rows, places = [], []
    for name, model in models:
        model = _changed(model, args.gin_bindings)
        trained = _trained_length(model) if args.trained_length is None else args.trained_length
        options = LengthOptions(
            lengths or _default_lengths(trained),
            prefixes or sorted({1, max(1, trained // 4), trained // 2}),
            args.split,
            args.max_windows,
            args.batch_size,
            args.pseudo_positions,
            args.seed,
        )
        losses, positions = extrapolate(model, store, options, show_progress=True)
        facts = model_facts(name, model) | {"trained_length": trained}
        rows += [facts | dataclasses.asdict(loss) for loss in losses]
        places += [facts | dataclasses.asdict(position) for position in positions]
    _write(args.output, rows, places)
    _print(rows)
    return {"store": str(args.store), "split": args.split, "losses": rows, "positions": places}


def _changed(model: LoadedModel, bindings: Sequence[str]) -> LoadedModel:
    if not bindings:
        return model
    config = gin_files.changed(model.config, bindings)
    config.validate()
    return model.under(config)


def _trained_length(model: LoadedModel) -> int:
    window = (model.origin.source or {}).get("window")
    if not isinstance(window, int):
        raise UserError(f"{model.path} does not say how long its training windows were: give --trained_length=TOKENS")
    return window


def _default_lengths(trained: int) -> list[int]:
    return sorted({round(trained * halves / 2) for halves in range(2, 2 * FACTOR + 1)})


def _write(output: Path, rows: list[dict[str, Any]], places: list[dict[str, Any]]) -> None:
    from triarch.report.length_figures import LENGTHS, POSITIONS, length_panels

    write_table(output / LENGTHS, rows)
    if places:
        write_table(output / POSITIONS, places)
    else:
        # Of an earlier call, of other models.
        (output / POSITIONS).unlink(missing_ok=True)
    save_panels(length_panels(output), output)


def _print(rows: list[dict[str, Any]]) -> None:
    header = ("model", "scoring", "prefix", "length", "nats/token", "standard error", "perplexity", "windows", "share")
    cells = [
        (
            row["model"],
            row["scoring"],
            "-" if row["prefix"] is None else f"{row['prefix']:,}",
            f"{row['length']:,}",
            decimals(row["nats_per_token"]),
            decimals(row["standard_error"]),
            perplexity_cell(row["nats_per_token"], row["perplexity"]),
            f"{row['num_windows']:,}",
            f"{row['share']:.1%}",
        )
        for row in rows
    ]
    print(aligned(header, cells, words=2))
