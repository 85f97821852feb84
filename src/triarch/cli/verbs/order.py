"""`triarch order`: which documents made up a range of steps of a run."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch.cli.gin.files import add_gin_arguments
from triarch.cli.gin.run_config import segments_of
from triarch.cli.views.provenance_view import described
from triarch.errors import UserError
from triarch.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from triarch.cli.views.order_files import OrderTable
    from triarch.training.inputs import Inputs
    from triarch.training.record.order import DataOrder

HELP = (
    "which documents made up any steps of a run: store, file, record, bytes and the range of the document's tokens, in "
    "the order in which the batch holds them; told by the run's config and its stores alone"
)
EXAMPLE = (
    "triarch order runs/redllm --steps=100:102\n"
    "triarch order runs/redllm --steps=0:100000 --output=order.parquet\n"
    "triarch order runs/redllm --by_checkpoint --output=order_of_redllm --files=parquet\n"
    "triarch order --gin_file=runs/redllm.gin --gin_file=models/redllm/laptop_s.gin --gin.DataConfig.store=stores/code "
    "--steps=0"
)
# What --json may hold: it is made in memory.
_JSON_ROWS = 10**6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `triarch order`."""
    add = parser.add_argument
    add(
        "run",
        nargs="?",
        type=Path,
        help="run folder, which gin flags must fit; without one, the run they describe",
    )
    add("--steps", metavar="A:B", help="steps A to B - 1, as between two checkpoints; A: to the end; A")
    add("--host", metavar="I/N", help="the rows that host I of N reads, from 0 on (default: the whole batch)")
    add("--output", type=Path, metavar="FILE", help="write a .jsonl, .csv or .parquet file instead of printing")
    by = parser.add_argument_group(
        "by checkpoint", "A file step-N for what the run reads between the checkpoint before and that of step N."
    )
    by.add_argument(
        "--by_checkpoint", action="store_true", help="write them into the folder --output; goes on if stopped"
    )
    by.add_argument("--files", default="jsonl", metavar="KIND", help="jsonl, csv or parquet (default: %(default)s)")
    by.add_argument(
        "--documents",
        action="store_true",
        help="also the documents of each example (default: the ids of examples alone)",
    )
    add_gin_arguments(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Prints or writes the order, and returns how much it is; with --json and no --output, the order too.

    Raises:
      UserError: there is no such run or step, its stores are others or do not say what they are made of, or the output
        cannot be written.
    """
    from triarch.cli.views import order_files
    from triarch.training.record.order import DataOrder, check_steps

    _check_flags(args)
    if args.run is None and not args.gin_file:
        raise UserError("name a run folder, or describe a run with --gin_file")
    segments = segments_of(args.run, args.gin_file, args.gin_bindings)
    config = segments[-1].config
    steps = _steps(args.steps or "0:", config.steps)
    check_steps(steps, config.steps)
    order = DataOrder(segments, _host(args.host), documents=args.documents or not args.by_checkpoint)
    table = order_files.OrderTable(order, order.stores)
    result: dict[str, Any] = {
        "run": None if args.run is None else str(args.run),
        "steps": [steps.start, steps.stop],
        "batch_size": config.batch_size,
        "seed": config.seed,
        "split": config.data.train_split,
        "layout": segments[-1].stores[0].manifest.layout,
        "stores": {str(store.path): store.manifest.fingerprint for inputs in segments for store in inputs.stores},
    }
    if len(segments) > 1:
        result["segments"] = [
            {"from_step": inputs.order.step, "batch_size": inputs.config.batch_size} for inputs in segments
        ]
        for one in result["segments"]:
            print(f"from step {one['from_step']} on: batches of {one['batch_size']}")
    if args.by_checkpoint:
        return result | _write_folder(args, order, table, segments, steps, result)
    if args.output is not None:
        return result | _write(args.output, order, table, steps)
    return result | _print(order, table, steps, keep=args.json is not None)


def _check_flags(args: argparse.Namespace) -> None:
    from triarch.cli.outputs import check_folder
    from triarch.cli.views import order_files, order_folder

    if args.by_checkpoint:
        if args.output is None:
            raise UserError("--by_checkpoint: name a folder with --output=DIR")
        order_folder.check_kind(args.files)
        check_folder("output", args.output)
        return
    for flag, given in (("files", args.files != "jsonl"), ("documents", args.documents)):
        if given:
            raise UserError(f"--{flag} goes with --by_checkpoint")
    if args.steps is None:
        raise UserError("name steps with --steps=A:B, or all of the run with --by_checkpoint")
    if args.output is not None:
        order_files.check_output(args.output)


def _write_folder(
    args: argparse.Namespace,
    order: DataOrder,
    table: OrderTable,
    segments: Sequence[Inputs],
    steps: range,
    result: Mapping[str, Any],
) -> dict[str, Any]:
    from triarch.cli.views import order_folder

    intervals = order_folder.checkpoint_intervals(segments, steps)
    facts = {name: result[name] for name in ("seed", "split", "layout", "stores", "steps")}
    facts |= {
        "host": args.host,
        "segments": [{"from_step": one.order.step, "batch_size": one.config.batch_size} for one in segments],
    }
    suffix = order_folder.check_kind(args.files)
    with Progress(True) as progress:
        progress.start("looking up steps", len(steps))
        manifest = order_folder.write_folder(args.output, order, table, intervals, suffix, facts, progress.advance)
    print(f"{args.output}: {len(intervals)} files, of steps {steps.start} to {steps.stop - 1}")
    return {"output": str(args.output), "files": manifest["files"]}


def _write(path: Path, order: DataOrder, table: OrderTable, steps: range) -> dict[str, Any]:
    from triarch.cli.views.order_files import written

    rows = tokens = 0
    with Progress(True) as progress, written(path, table) as file:
        progress.start("looking up steps", len(steps))
        for done, part in order.parts(steps):
            file.write(part)
            rows += len(part.step)
            assert part.pieces is not None
            tokens += int((part.pieces.token_end - part.pieces.token_start).sum())
            progress.advance(done)
    print(f"{path}: {rows:,} runs of tokens, {tokens:,} tokens, of steps {steps.start} to {steps.stop - 1}")
    return {"rows": rows, "tokens": tokens, "output": str(path)}


def _print(order: DataOrder, table: OrderTable, steps: range, keep: bool) -> dict[str, Any]:
    kept: list[dict[str, Any]] = []
    rows = tokens = 0
    at: tuple[int, int] | None = None
    for _, part in order.parts(steps):
        for row in table.rows(part):
            rows += 1
            tokens += row["token_end"] - row["token_start"]
            if (row["step"], row["row"]) != at:
                at = row["step"], row["row"]
                print(f"step {at[0]} row {at[1]}: example {row['example']} of {row['store']}, epoch {row['epoch']}")
            print(f"  {described(row)}")
            if keep:
                kept.append(row)
        if len(kept) > _JSON_ROWS:
            raise UserError(
                f"--steps={steps.start}:{steps.stop}: more than {_JSON_ROWS:,} runs of tokens, too many for --json: "
                "write them with --output=FILE.jsonl"
            )
    return {"rows": rows, "tokens": tokens, **({"order": kept} if keep else {})}


def _steps(text: str, run_steps: int) -> range:
    found = re.fullmatch(r"(\d+)(?:(:)(\d*))?", text)
    if not found:
        raise UserError(f"--steps={text}: expected A:B, two numbers, for steps A to B - 1")
    start = int(found[1])
    if not found[2]:
        return range(start, start + 1)
    return range(start, int(found[3]) if found[3] else run_steps)


def _host(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not int(found[1]) < int(found[2]):
        raise UserError(f"--host={text}: expected I/N, host I of N, counted from 0")
    return int(found[1]), int(found[2])
