"""Plans of published models on TPU slices: writes docs/plans.md, and our side of the comparison with MaxText.

    python benchmarks/tpu_plans.py papers    # the papers' models at the papers' batches, on five slices: docs/plans.md
    python benchmarks/tpu_plans.py maxtext   # DecLLM 8B, 512 x 2048 tokens, in the shape of MaxText's own compilation

Each row is one `triarch plan` in a process of its own. What was compiled is kept under --cache by a fingerprint of the
command, the compiler's version and its flags, so that the command goes on where it was stopped; empty the folder when
the source of the step has changed. --page writes what is there. Needs libtpu (extra [tpu]), no TPU: half a minute to
some minutes a row on two cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import hashlib
import importlib.metadata
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

from triarch.files import write_whole

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "plans.md"
Model = tuple[str, int, tuple[str, ...]]  # A file of models/, its batch, and what else is set.
SLICES = ("v5e-256", "v5p-128", "v4-128", "v5p-512", "v4-512")


@dataclasses.dataclass(frozen=True)
class Row:
    """One plan: a model file, a slice, a batch, and what else is set."""

    model: str
    topology: str
    batch_size: int
    settings: tuple[str, ...] = ()

    def command(self, output: Path) -> list[str]:
        """Returns the command line that makes it."""
        return [
            *(sys.executable, "-m", "triarch", "plan", f"--gin_file=models/{self.model}.gin"),
            *(f"--topology={self.topology}", f"--batch_size={self.batch_size}", f"--json={output}"),
            *(f"--gin.{setting}" for setting in self.settings),
        ]


def paper_rows() -> list[Row]:
    """Returns the rows of the page, the most asked for first.

    RedLLM and DecLLM at 2048 x 2048 tokens (arXiv 2510.26622); Ettin at 4608 windows of 1024 and 512 of 8192
    (arXiv 2507.11412); T5 1.1 XXL at 2048 x 1024, half of them targets; Llama 3.1 8B at 512 x 8192.
    """

    def published(*sizes: str) -> list[Model]:
        return [(f"{family}/{size}", 2048, ()) for size in sizes for family in ("decllm", "redllm")]

    def ettin(*sizes: str) -> list[Model]:
        return [
            (f"ettin_{side}/{size}", batch, (f"DataConfig.window={window}",))
            for window, batch in ((1024, 4608), (8192, 512))
            for size in sizes
            for side in ("encoder", "decoder")
        ]

    others = [("t5_v1_1/xxl", 2048, ("DataConfig.window=1024",)), ("llama3/8b", 512, ("DataConfig.window=8192",))]
    asked = [published("150m", "1b", "2b"), published("4b", "8b"), ettin("150m", "1b"), others]
    asked += [ettin("400m", "68m", "32m", "17m")]
    small, large = SLICES[:3], SLICES[3:]
    return [
        Row(model, topology, batch, (*settings, *_shape(model)))
        for slices, groups in ((small, asked), (large, asked))
        for models in groups
        for (model, batch, settings), topology in itertools.product(models, slices)
    ]


def maxtext_rows() -> list[Row]:
    """Returns the rows of the comparison: FSDP over the whole slice, one layer's input saved."""
    shape = ("MeshConfig.data=1", "MeshConfig.fsdp=-1", "Execution.remat=full", "Execution.gather=layer")
    return [Row("decllm/8b", topology, 512, shape) for topology in ("v5e:16x16", "v4:4x4x8", "v5p:4x4x4")]


def _shape(model: str) -> tuple[str, ...]:
    """Returns mesh and remat policy: parameters of a billion and more are shared out, and layers' inputs are saved."""
    small = model.split("/")[1] in ("17m", "32m", "68m", "150m")
    mesh = ("MeshConfig.data=-1",) if small else ("MeshConfig.data=1", "MeshConfig.fsdp=-1", "Execution.gather=layer")
    return (*mesh, "Execution.remat=full")


def fingerprint(row: Row) -> str:
    """Returns what a row's plan depends on beside the source, as a name: the command, the compiler and its flags."""
    digest = hashlib.sha256(repr(row).encode())
    for package in ("jax", "libtpu"):
        digest.update(importlib.metadata.version(package).encode())
    digest.update((ROOT / "tpu_scripts/xla_flags.txt").read_bytes())
    return digest.hexdigest()[:20]


def compiled(row: Row, cache: Path) -> dict:
    """Returns a row's plan, made unless it is kept already."""
    path = cache / f"{fingerprint(row)}.json"
    if path.is_file():
        return json.loads(path.read_text())
    partial = path.with_suffix(".partial")
    done = subprocess.run(row.command(partial), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{row}: {done.stderr.strip().splitlines()[-1]}")
    plan = json.loads(partial.read_text()) | {"date": datetime.date.today().isoformat()}
    write_whole(path, json.dumps(plan))
    partial.unlink()
    return plan


def lines(rows: list[tuple[Row, dict]]) -> list[str]:
    """Returns a table in Markdown."""
    text = [
        "| model | slice | batch | mesh, remat | fits | peak GiB | of GiB | arguments, reserved | gathered, summed, "
        "other GiB | FLOPs, model's share | estimate: s/step, MFU | compile s | date |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    return text + [_line(row, plan) for row, plan in rows]


def _line(row: Row, plan: dict) -> str:
    mesh = ", ".join(f"{axis} {size}" for axis, size in plan["mesh"].items() if size > 1)
    lengths = " + ".join(str(length) for length in plan["sequence_lengths"].values())
    cells = [
        row.model,
        f"{plan['slice']} ({plan['topology'].split(':')[1]})",
        f"{plan['batch_size']} x {lengths}",
        f"{mesh}; {plan['remat']}",
        "yes" if plan["fits"] else "**no**",
        _gib(plan["hbm_bytes_per_device"]),
        _gib(plan["hbm_limit_bytes"]),
    ]
    seconds = f"{plan['compile_seconds']:.0f} | {plan['date']}"
    if plan["estimate"] is None:
        return f"| {' | '.join([*cells, '', '', '', '', seconds])} |"
    sent = {"all-gather": 0.0, "all-reduce": 0.0, "other": 0.0}
    for name, total in plan["collectives"].items():
        kind = name.split()[1]
        sent[kind if kind in sent else "other"] += total["bytes"] / 2**30
    useful = plan["model_flops_per_step"]["train"] / plan["num_devices"] / plan["hlo_flops_per_device"]
    cells += [
        f"{_gib(plan['argument_bytes'])}, {_gib(plan['temp_bytes'])}",
        ", ".join(f"{size:.1f}" for size in sent.values()),
        f"{plan['hlo_flops_per_device']:.3g}, {useful:.0%}",
        f"{plan['estimate']['step_seconds']:.2f}, {plan['mfu_estimate']:.0%}",
        seconds,
    ]
    return f"| {' | '.join(cells)} |"


def _gib(count: int | None) -> str:
    return "?" if count is None else f"{count / 2**30:.2f}"


def page(rows: list[Row], cache: Path) -> str:
    """Returns the page of all rows that are compiled, and the names of those that are not."""
    plans = {row: cache / f"{fingerprint(row)}.json" for row in rows}
    there = [(row, json.loads(path.read_text())) for row, path in plans.items() if path.is_file()]
    missing = [row for row, path in plans.items() if not path.is_file()]
    text = [
        "# Plans: what fits where",
        "",
        "Made by `python benchmarks/tpu_plans.py papers`: the true training step of each published model, with its",
        "optimizer, compiled ahead of time for TPU slices with the flags of `tpu_scripts/xla_flags.txt`. Memory (GiB),",
        "FLOPs and traffic are the compiler's, of one chip and one step; seconds and MFU are estimates by data sheet,",
        "not measurements.",
        "`triarch plan --search` looks for better meshes and remat policies than those shown.",
        "",
        f"**{len(there)} of {len(rows)} rows are compiled**; what is not in the table below has not been tried.",
        f"jax {importlib.metadata.version('jax')}, libtpu {importlib.metadata.version('libtpu')}.",
        "",
        *lines(there),
        "",
    ]
    if missing:
        text += [f"Not compiled yet, {len(missing)} rows:", "", *_by_model(missing), ""]
    return "\n".join(text)


def _by_model(rows: list[Row]) -> list[str]:
    """Returns a line a model with the slices, and windows where there are several."""
    named: dict[str, list[str]] = {}
    for row in rows:
        window = next((f" (window {s.split('=')[1]})" for s in row.settings if s.startswith("DataConfig.window")), "")
        named.setdefault(row.model + window, []).append(row.topology)
    return [f"- {model}: {', '.join(topologies)}" for model, topologies in named.items()]


def main() -> None:
    """Compiles what is missing, row by row, and writes or prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=("papers", "maxtext"))
    parser.add_argument("--cache", type=Path, default=ROOT / "runs" / "plans", help="folder of what is compiled")
    parser.add_argument("--page", action="store_true", help="compile nothing: write what is there")
    parser.add_argument("--rows", type=int, help="compile so many at most")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    rows = paper_rows() if args.table == "papers" else maxtext_rows()
    start, chosen = time.monotonic(), rows[: args.rows]
    for number, row in enumerate([] if args.page else chosen, start=1):
        compiled(row, args.cache)
        minutes = (time.monotonic() - start) / number * (len(chosen) - number) / 60
        print(f"{number} of {len(chosen)}: {row.model} on {row.topology}; {minutes:.0f} minutes left", file=sys.stderr)
        if args.table == "papers":
            write_whole(PAGE, page(rows, args.cache))
    if args.table == "papers":
        write_whole(PAGE, page(rows, args.cache))
    else:
        print("\n".join(lines([(row, compiled(row, args.cache)) for row in rows])))


if __name__ == "__main__":
    main()
