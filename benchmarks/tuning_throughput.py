"""Seconds of a tuning step on pairs: one example a row, the batch's examples in shared rows, and a packed store.

    python benchmarks/tuning_throughput.py --files=flan.jsonl --max_inputs=512 --max_targets=128 --batch_size=64

The three sides take the real training step of one tiny model, in turns. "batch packed" is `DataConfig.pack_batches`, as
in the recipes below runs/tune: the same examples a step as one a row. The packed store is the measure: the last column
is each side's seconds a real token by its own. Without --files, lengths are drawn (log-normal, most far
below the limits), which is what instruction data look like.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from triarch.cli import environment

SIDES = ("one a row", "batch packed", "packed store")


def main() -> None:
    """Times the sides in turns and prints the table."""
    args = _flags()
    environment.configure()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = args.files or [str(_drawn_rows(folder / "rows.jsonl", args))]
        stores = {layout: _store(files, folder / layout, layout, args) for layout in ("pairs", "packed_pairs")}
        report = {}
        for architecture in args.architecture:
            report[architecture] = _measured(architecture, stores, args)
            _show(architecture, report[architecture])
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=2) + "\n")


def _drawn_rows(path: Path, args: argparse.Namespace) -> Path:
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        for _ in range(4000):
            sides = [rng.lognormal(np.log(most / 6), 0.9) for most in (args.max_inputs, args.max_targets)]
            texts = ["".join(rng.choice(list("abcdefgh "), max(1, int(length)))) for length in sides]
            file.write(json.dumps({"inputs": f"x{texts[0]}", "targets": f"x{texts[1]}"}) + "\n")
    return path


def _store(files: list[str], output: Path, layout: str, args: argparse.Namespace) -> Path:
    from triarch.prepare.corpora.instructions import Instructions
    from triarch.prepare.pipeline import VocabularyChoice, prepare

    vocabulary = VocabularyChoice(args.vocabulary, args.vocabulary_size)
    lengths = {"inputs": args.max_inputs, "targets": args.max_targets}
    prepare(Instructions(tuple(files)), "rows", output, vocabulary, 1, 0.0, layout=layout, lengths=lengths)
    return output


def _measured(architecture: str, stores: dict[str, Path], args: argparse.Namespace) -> dict[str, dict[str, float]]:
    runs = {side: _steps(architecture, side, stores, args) for side in SIDES}
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    tokens: dict[str, list[int]] = {side: [] for side in SIDES}
    rows: dict[str, list[int]] = {side: [] for side in SIDES}
    for _ in range(args.steps):
        for side, run in runs.items():
            took, real, count = next(run)
            seconds[side].append(took)
            tokens[side].append(real)
            rows[side].append(count)
    measured = {
        side: {
            "seconds_a_step": statistics.median(seconds[side]),
            "rows_a_step": statistics.mean(rows[side]),
            "real_tokens_a_step": statistics.mean(tokens[side]),
            "padding": 1 - sum(tokens[side]) / (sum(rows[side]) * (args.max_inputs + args.max_targets)),
            "seconds_a_token": sum(seconds[side]) / sum(tokens[side]),
        }
        for side in SIDES
    }
    for one in measured.values():
        one["ratio"] = one["seconds_a_token"] / measured["packed store"]["seconds_a_token"]
    return measured


def _steps(
    architecture: str, side: str, stores: dict[str, Path], args: argparse.Namespace
) -> Iterator[tuple[float, int, int]]:
    """Yields the seconds of each step, its real tokens and its rows; shapes are compiled before they are timed."""
    import jax

    from triarch.training.inputs import open_inputs
    from triarch.training.run import assemble

    store = stores["packed_pairs" if side == "packed store" else "pairs"]
    config = _config(architecture, store, args, packs=side == "batch packed")
    run = assemble(config, open_inputs(config))
    state, compiled = run.initial_state(), set()
    for step, batch in enumerate(run.batches(0)):
        count = next(iter(batch.values())).shape[0]
        for timed in (False, True) if count not in compiled else (True,):
            started = time.perf_counter()
            state, metrics = run.train_step(state, batch)
            jax.block_until_ready(metrics)
            if timed:
                yield time.perf_counter() - started, _real_tokens(run, step), count
            compiled.add(count)


def _real_tokens(run: Any, step: int) -> int:
    """Returns how many tokens of the examples of a step are no padding."""
    split = run.inputs.stores[0].split("train")
    examples = [split[one.index] for one in run.inputs.raw_training().example_ids(step)]
    return sum(
        int((one["segment_ids"] > 0).sum()) if "segment_ids" in one else len(one["inputs"]) + len(one["targets"])
        for one in examples
    )


def _config(architecture: str, store: Path, args: argparse.Namespace, packs: bool) -> Any:
    from triarch.models import Execution, ModelConfig
    from triarch.objectives import Supervised
    from triarch.training import DataConfig, RunConfig
    from triarch.training.optimizers.adafactor import Adafactor
    from triarch.training.optimizers.schedules import Constant

    layers = {"decoder-only": (0, 4), "encoder-decoder": (2, 2)}[architecture]
    is_pairs = store.name == "pairs"
    return RunConfig(
        model=ModelConfig(
            vocab_size=args.vocabulary_size,
            d_model=args.d_model,
            d_ff=4 * args.d_model,
            num_heads=args.d_model // 32,
            head_dim=32,
            num_encoder_layers=layers[0],
            num_decoder_layers=layers[1],
        ),
        objective=Supervised(args.max_inputs, args.max_targets),
        data=dataclasses.replace(DataConfig(args.max_inputs + args.max_targets, str(store)), pack_batches=packs),
        optimizer=Adafactor(Constant(0.001, warmup_steps=0), factored=False),
        steps=1000,
        # As many examples a step, about, whatever their rows.
        batch_size=args.batch_size if is_pairs else _packed_rows(store, args.batch_size),
        execution=Execution("float32", scan_layers=False),
        z_loss=0.0,
    )


def _packed_rows(store: Path, examples: int) -> int:
    from triarch.data.store import TokenStore

    split = TokenStore.open(store).manifest.splits["train"]
    return max(1, round(examples * split.examples / split.documents))


def _show(architecture: str, measured: dict[str, dict[str, float]]) -> None:
    print(
        f"{architecture:16} {'s a step':>9} {'rows':>7} {'real tokens':>12} {'padding':>8} {'by the packed store':>20}"
    )
    for side, one in measured.items():
        print(
            f"{side:16} {one['seconds_a_step']:9.3f} {one['rows_a_step']:7.1f} {one['real_tokens_a_step']:12,.0f} "
            f"{one['padding']:8.1%} {one['ratio']:20.2f}"
        )


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--files", action="append", default=[], help="of rows to tune on; repeatable (default: drawn lengths)")
    add("--architecture", action="append", choices=("decoder-only", "encoder-decoder"), default=[])
    add("--vocabulary", default="bytes", help="as of triarch prepare (default: %(default)s)")
    add("--vocabulary_size", type=int, default=384, help="rows of the embedding (default: %(default)s)")
    add("--max_inputs", type=int, default=384)
    add("--max_targets", type=int, default=128)
    add("--batch_size", type=int, default=64, help="examples a step (default: %(default)s)")
    add("--d_model", type=int, default=128)
    add("--steps", type=int, default=8, help="timed steps of each side (default: %(default)s)")
    add("--json", metavar="PATH")
    args = parser.parse_args()
    args.architecture = args.architecture or ["decoder-only", "encoder-decoder"]
    return args


if __name__ == "__main__":
    main()
