"""Plans of published models on TPU slices: writes docs/plans.md.

    python benchmarks/tpu_plans.py papers    # the papers' models at the papers' batches, on five slices: docs/plans.md

Each row is one `triarch plan` in a process of its own: all of them first, ten seconds each on two cores, then all with
--full, one or two minutes each. What was compiled is kept under --cache by a fingerprint of the command, the
compiler's version and its flags, so that the command resumes after interruption; empty the folder when the source of
the step has changed. --page writes what is there. Needs libtpu (extra [tpu]), no TPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import hashlib
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

from triarch.errors import UserError
from triarch.files import write_whole
from triarch.planning.compiler import flags, versions
from triarch.planning.topology import parse

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "plans.md"
Model = tuple[str, int, tuple[str, ...]]  # A file of models/, its batch, and what else is set.
_FAMILIES = {
    "decllm": "DecLLM",
    "redllm": "RedLLM",
    "ettin_encoder": "Ettin, encoders",
    "ettin_decoder": "Ettin, decoders",
    "t5": "T5 1.1",
    "llama": "Llama 3.1",
}
_INTRODUCTION = [
    "# Plans: what fits where",
    "",
    "Made by `python benchmarks/tpu_plans.py papers`: the true training step of each published model at its paper's",
    "global batch, with its optimizer, compiled ahead of time for TPU slices with the flags of",
    "`tpu_scripts/xla_flags.txt`. All figures are of one chip and one step. Memory (GiB), FLOPs and traffic are the",
    "compiler's; seconds and MFU are estimates by data sheet, not measurements.",
    "",
    "- **effort quick** (`triarch plan`): the compiler was stopped where instructions and buffers are settled, before",
    "  machine code is made of them. *Reserved* is what it sets aside for arguments, results and temporaries; whether",
    "  a row *fits* is judged by it.",
    "- **effort full** (`triarch plan --full`): compiled to the end too, as a run is; *peak* is the most in use at",
    "  once.",
    "",
    "Parameters of 1B and more are shared out over the slice (FSDP), those of smaller models are on every chip;",
    "layers' inputs alone are saved (remat full). Meshes and policies were given as flags; with none, runs choose",
    "them: [Plans that runs choose](plans_chosen.md). The rows stand as the measure of the arithmetic behind that",
    "(`benchmarks/plan_model.py`). `triarch plan --search` looks for better ones by compiling.",
    "",
]
SLICES = ("v5e-256", "v5p-128", "v4-128", "v5p-512", "v4-512")


@dataclasses.dataclass(frozen=True)
class Row:
    """One plan: a model file, a slice, a batch, and what else is set."""

    model: str
    topology: str
    batch_size: int
    settings: tuple[str, ...] = ()

    def command(self, output: Path, effort: str) -> list[str]:
        """Returns the command line that makes it."""
        return [
            *(sys.executable, "-m", "triarch", "plan", f"--gin_file=models/{self.model}.gin"),
            *(f"--topology={self.topology}", f"--batch_size={self.batch_size}", f"--json={output}"),
            *(f"--gin.{setting}" for setting in self.settings),
            *(["--full"] if effort == "full" else []),
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


def _shape(model: str) -> tuple[str, ...]:
    """Returns mesh and remat policy: parameters of a billion and more are shared out, and layers' inputs are saved."""
    small = model.split("/")[1] in ("17m", "32m", "68m", "150m")
    mesh = ("MeshConfig.data=-1",) if small else ("MeshConfig.data=1", "MeshConfig.fsdp=-1", "Execution.gather=layer")
    return (*mesh, "Execution.remat=full")


def fingerprint(row: Row, effort: str) -> str:
    """Returns what a row's plan depends on beside the source, as a name: the command, the compiler and its flags."""
    digest = hashlib.sha256((repr(row) + ("" if effort == "full" else effort)).encode())
    digest.update(versions().encode())
    digest.update(repr(sorted(flags(parse(row.topology)).items())).encode())
    return digest.hexdigest()[:20]


def compiled(row: Row, effort: str, cache: Path) -> dict | None:
    """Returns a row's plan, made unless it is kept already; None where that failed, and says why."""
    path = cache / f"{fingerprint(row, effort)}.json"
    if path.is_file():
        return json.loads(path.read_text())
    partial = path.with_suffix(".partial")
    done = subprocess.run(row.command(partial, effort), capture_output=True, text=True)
    if done.returncode:
        print(f"{row}: {(done.stderr.strip().splitlines() or [done.returncode])[-1]}", file=sys.stderr)
        return None
    plan = json.loads(partial.read_text()) | {"date": datetime.date.today().isoformat()}
    write_whole(path, json.dumps(plan))
    partial.unlink()
    return plan


def kept(row: Row, cache: Path) -> dict | None:
    """Returns what there is of a row: its quick plan, and the peak of memory where it was compiled to the end."""
    quick, full = (cache / f"{fingerprint(row, effort)}.json" for effort in ("quick", "full"))
    if not quick.is_file():
        return None
    plan = json.loads(quick.read_text())
    if full.is_file():
        whole = json.loads(full.read_text())
        plan |= {"effort": "full", "peak": whole["hbm_bytes_per_device"], "fits": whole["fits"]}
    return plan


def lines(rows: list[tuple[Row, dict]]) -> list[str]:
    """Returns a table in Markdown."""
    text = [
        "| model | slice | batch | mesh, remat | fits | reserved GiB | peak GiB | of GiB | arguments, temporaries | "
        "gathered, summed, other GiB | FLOPs, model's share | estimate: s/step, MFU | effort | date |",
        f"|{'---|' * 14}",
    ]
    return text + [_line(row, plan) for row, plan in rows]


def _line(row: Row, plan: dict) -> str:
    mesh = ", ".join(f"{axis} {size}" for axis, size in plan["mesh"].items() if size > 1)
    lengths = " + ".join(str(length) for length in plan["sequence_lengths"].values())
    cells = [
        row.model,
        f"{plan['slice']} ({plan['topology'].split(':')[1]})",
        f"{plan['batch_size']} x {lengths}",
        f"{mesh}; {plan['remat']}" + (f"; {plan['microbatches']} parts" if plan["microbatches"] > 1 else ""),
        "yes" if plan["fits"] else "**no**",
        _gib(plan["hbm_bytes_per_device"]),
        _gib(plan["peak"]) if "peak" in plan else "",
        _gib(plan["hbm_limit_bytes"]),
    ]
    made = f"{plan['effort']} | {plan['date']}"
    if plan["estimate"] is None:
        return f"| {' | '.join([*cells, '', '', '', '', made])} |"
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
        made,
    ]
    return f"| {' | '.join(cells)} |"


def _gib(count: int | None) -> str:
    return "?" if count is None else f"{count / 2**30:.2f}"


def page(rows: list[Row], cache: Path) -> str:
    """Returns the page: what it is, a table of what fits where, a section a family, and what has not been compiled."""
    plans = {row: plan for row in rows if (plan := kept(row, cache)) is not None}
    full = sum(plan["effort"] == "full" for plan in plans.values())
    text = [
        *_INTRODUCTION,
        f"**{len(plans)} of {len(rows)} rows are compiled**, {full} of them with full effort; {versions()}.",
        "",
        "## At a glance",
        "",
        "GiB reserved on a chip; **no** where that is more than it has.",
        "",
        *_glance(rows, plans),
        "",
    ]
    for family, title in _FAMILIES.items():
        there = [(row, plan) for row, plan in plans.items() if row.model.startswith(family)]
        if there:
            text += [f"## {title}", "", *lines(sorted(there, key=lambda one: _place(one[0]))), ""]
    missing = [row for row in rows if row not in plans]
    if missing:
        text += [
            "## Not compiled yet",
            "",
            f"{len(missing)} rows; nothing is said of them.",
            "",
            *_by_model(missing),
            "",
        ]
    return "\n".join(text)


def _glance(rows: list[Row], plans: dict[Row, dict]) -> list[str]:
    """Returns a table of a line a model and a column a slice."""
    text = [f"| model | batch | {' | '.join(SLICES)} |", f"|---|---|{'---|' * len(SLICES)}"]
    for name in dict.fromkeys(map(_named, sorted(rows, key=_place))):
        of_model = {row.topology: row for row in rows if _named(row) == name}
        batch = next(iter(of_model.values())).batch_size
        cells = [_fit(plans.get(of_model[topology])) for topology in SLICES]
        text.append(f"| {name} | {batch} | {' | '.join(cells)} |")
    return text


def _fit(plan: dict | None) -> str:
    if plan is None:
        return ""
    size = _gib(plan["hbm_bytes_per_device"])
    return size if plan["fits"] else f"**no** ({size})"


def _named(row: Row) -> str:
    """Returns a model's name with its window, where it is not that of its recipe."""
    window = next((f", window {s.split('=')[1]}" for s in row.settings if s.startswith("DataConfig.window")), "")
    return row.model + window


def _place(row: Row) -> tuple[int, str, int, int]:
    """Returns where a row stands: by family, window, size and slice."""
    family, size = row.model.split("/")
    order = next(place for place, known in enumerate(_FAMILIES) if family.startswith(known))
    amount = int(size[:-1]) * (1000 if size.endswith("b") else 1) if size[:-1].isdigit() else 0
    return order, _named(row).partition(", ")[2].zfill(20), amount, SLICES.index(row.topology)


def _by_model(rows: list[Row]) -> list[str]:
    """Returns a line a model with the slices."""
    named: dict[str, list[str]] = {}
    for row in rows:
        named.setdefault(_named(row), []).append(row.topology)
    return [f"- {name}: {', '.join(topologies)}" for name, topologies in named.items()]


def main() -> None:
    """Compiles what is missing, row by row, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=("papers",))
    parser.add_argument("--cache", type=Path, default=ROOT / "runs" / "plans", help="folder of what is compiled")
    parser.add_argument("--page", action="store_true", help="compile nothing: write what is there")
    parser.add_argument("--rows", type=int, help="take so many rows at most")
    parser.add_argument("--effort", choices=("quick", "full"), help="one pass only (default: quick, then full)")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    rows = paper_rows()[: args.rows]
    passes = [args.effort] if args.effort else ["quick", "full"]
    jobs = [] if args.page else [(row, effort) for effort in passes for row in rows]
    start = time.monotonic()
    for number, (row, effort) in enumerate(jobs, start=1):
        compiled(row, effort, args.cache)
        minutes = (time.monotonic() - start) / number * (len(jobs) - number) / 60
        done = f"{number} of {len(jobs)}: {row.model} on {row.topology}, {effort}"
        print(f"{done}; {minutes:.0f} minutes left", file=sys.stderr)
        write_whole(PAGE, page(paper_rows(), args.cache))
    write_whole(PAGE, page(paper_rows(), args.cache))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
