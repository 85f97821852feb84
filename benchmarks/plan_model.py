"""The arithmetic by which runs choose meshes beside what the compiler said: every row of docs/plans.md.

    python benchmarks/plan_model.py                    # all 180 rows, some minutes
    python benchmarks/plan_model.py decllm/1b redllm   # of models whose names begin so
    python benchmarks/plan_model.py --choices          # what model files take on five slices: docs/plans_chosen.md

Memory is that reserved on a chip, time the roofline of the compiled program. Needs no libtpu and no TPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import statistics
import sys
from pathlib import Path

from triarch.cli.gin import files
from triarch.errors import UserError
from triarch.planning.topology import parse
from triarch.training.choosing.choice import choose_on
from triarch.training.choosing.cost import Option, needed_bytes, seconds
from triarch.training.choosing.facts import Facts
from triarch.training.config import RunConfig

ROOT = Path(__file__).parents[1]
PAGE, CHOSEN = ROOT / "docs" / "plans.md", ROOT / "docs" / "plans_chosen.md"
SLICES = ("v4-128", "v4-512", "v5e-256", "v5p-128", "v5p-512")
_INTRODUCTION = """# Plans that runs choose

Made by `python benchmarks/plan_model.py --choices`: what `triarch plan --gin_file=models/MODEL.gin --topology=SLICE`
and `triarch train` choose with no other flag, for model files at their recipe's batch. GiB are expected on a chip by
the arithmetic of [On a pod](on_a_pod.md), not compiled; [Plans](plans.md) has 180 compiled rows, whose meshes and
policies were given. Where nothing fits, a run takes more microbatches. **Tight**: by the arithmetic it may not fit;
what would be sure to stands below.

| model | batch |"""
_CELLS = 14


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the page: what was compiled, the GiB reserved on a chip, and the seconds of a step."""

    model: str
    topology: str
    batch_size: int
    window: int
    mesh: dict[str, int]
    remat: str
    reserved: float
    seconds: float


def rows(*models: str) -> list[Row]:
    """Returns the rows of the page, of models whose names begin with one of those given; of all for none."""
    found = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != _CELLS or "/" not in cells[0] or not cells[0].startswith(models or ("",)):
            continue
        batch, lengths = cells[2].split(" x ")
        sizes, remat = cells[3].split(";")[:2]
        mesh = dict.fromkeys(("replica", "data", "fsdp", "sequence", "tensor"), 1)
        mesh |= {axis: int(size) for axis, size in (one.split() for one in sizes.split(", "))}
        shape = re.search(r"\((.*)\)", cells[1])[1]
        found.append(
            Row(
                model=cells[0],
                topology=f"{cells[1].split('-')[0]}:{shape}",
                batch_size=int(batch),
                window=sum(map(int, lengths.split("+"))),
                mesh=mesh,
                remat=remat.strip(),
                reserved=float(cells[5]),
                seconds=float(cells[11].split(",")[0]),
            )
        )
    return found


def recipe(model: str, *bindings: str) -> RunConfig:
    """Returns a model's published recipe with `bindings` on top."""
    args = argparse.Namespace(gin_file=[f"models/{model}.gin"], gin_bindings=list(bindings))
    return files.load_run(args)[0]


def estimated(of: list[Row]) -> list[tuple[Row, float, float]]:
    """Returns each row with the GiB and the seconds that the arithmetic gives."""
    known: dict[tuple[str, int], Facts] = {}
    found = []
    for row in of:
        name = row.model, row.window
        config = recipe(row.model, f"DataConfig.window={row.window}")
        if name not in known:
            known[name] = Facts(config, "tpu")
        facts = known[name].under(dataclasses.replace(config, batch_size=row.batch_size))
        option = Option(row.mesh, row.remat, "layer" if row.mesh["fsdp"] > 1 else "compiler")
        needed = needed_bytes(facts, option) / 2**30
        found.append((row, needed, seconds(facts, option, parse(row.topology).machine)))
    return found


def errors(found: list[tuple[Row, float, float]]) -> tuple[list[float], list[float]]:
    """Returns by how much memory and time are too high, as shares; of steps under 0.1 s the page's two digits tell no
    time."""
    memory = [needed / row.reserved - 1 for row, needed, _ in found]
    time = [took / row.seconds - 1 for row, _, took in found if row.seconds >= 0.1]
    return memory, time


def choices(models: tuple[str, ...]) -> None:
    """Writes the page of what runs choose, row by row; models that are tiny, for tests and laptops, are not on it."""
    names = sorted(f"{path.parent.name}/{path.stem}" for path in (ROOT / "gin_configs" / "models").glob("*/*.gin"))
    skipped = ("family", "tiny", "laptop")
    names = [name for name in names if not name.split("/")[1].startswith(skipped) and name.startswith(models or ("",))]
    text, below = [f"{_INTRODUCTION} {' | '.join(SLICES)} |", f"|{'---|' * (2 + len(SLICES))}"], []
    for name in names:
        config = recipe(name)
        facts, cells = Facts(config, "tpu"), []
        for slice_name in SLICES:
            try:
                choice = choose_on(config, parse(slice_name).machine, facts=facts)
            except UserError as error:
                cells.append("**no mesh**")
                below.append(f"- {name} on {slice_name}: {error}")
                continue
            option = choice.option
            mesh = ", ".join(f"{axis} {size}" for axis, size in option.sizes.items() if size > 1)
            tight = "" if choice.fits else ", **tight**"
            mesh += f", {option.microbatches} microbatches" if option.microbatches > 1 else ""
            cells.append(f"{mesh}; {option.remat}; {choice.needed_bytes / 2**30:.1f}{tight}")
            if not choice.fits:
                below.append(f"- {name} on {slice_name}: {choice.advice}")
        text.append(f"| {name} | {config.batch_size} x {config.data.window} | {' | '.join(cells)} |")
        print(text[-1], file=sys.stderr, flush=True)
        CHOSEN.write_text("\n".join([*text, "", *below, ""]))


def main() -> None:
    """Prints a table and its errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--choices", action="store_true", help="write what runs choose")
    args = parser.parse_args()
    if args.choices:
        choices(tuple(args.models))
        return
    print("| model | slice | window | reserved GiB | estimate | s/step | estimate |\n|---|---|---|---|---|---|---|")
    found = []
    for name in dict.fromkeys((row.model, row.window) for row in rows(*args.models)):
        of_model = estimated([row for row in rows(*args.models) if (row.model, row.window) == name])
        found += of_model
        for row, needed, took in of_model:
            cells = [row.model, row.topology, row.window, f"{row.reserved:.2f}", f"{needed:.2f}"]
            cells += [f"{row.seconds:.2f}", f"{took:.2f}"]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
    for what, shares in zip(("memory", "time (steps from 0.1 s on)"), errors(found), strict=True):
        mean = statistics.mean(map(abs, shares))
        print(
            f"\n{what}: {len(shares)} rows, off by {mean:.1%} on average, from {min(shares):+.0%} to {max(shares):+.0%}"
        )


if __name__ == "__main__":
    main()
