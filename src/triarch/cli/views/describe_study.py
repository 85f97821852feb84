"""What the runs of a study are and cost: the part of `triarch describe` that reads a study's gin file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from triarch.cli.views.text_table import aligned
from triarch.errors import UserError

if TYPE_CHECKING:
    from triarch.planning.topology import Topology
    from triarch.sweeps.design import PlannedRun
    from triarch.sweeps.study import Study

_SECONDS_AN_HOUR = 3600.0


def describe_study(
    files: Sequence[str], bindings: Sequence[str], modules: Sequence[str], topology: str | None, mfu: float
) -> dict[str, Any]:
    """Prints every run of a study with its cost and how exactly it is matched, and the total; returns the same.

    Args:
      files: gin files of the study.
      bindings: laid over them.
      modules: that the user named.
      topology: TPU slice, such as "v5p:4x4x4", to count chip-hours on; None for none.
      mfu: share of the chips' peak that training is assumed to reach, in the "train" convention.

    Raises:
      UserError: the study, the slice or the share is not in order.
    """
    from triarch.cli.studies import check_study, load_study
    from triarch.planning import topology as topologies

    if not 0 < mfu <= 1:
        raise UserError(f"--mfu={mfu:g}: expected a share of the peak, above 0 up to 1")
    place = topologies.parse(topology) if topology else None
    study, runs = load_study(files, bindings, modules)
    found = check_study(study, runs, None)
    rows = [_row(run, place, mfu) for run in runs]
    described: dict[str, Any] = {"title": study.title, "num_runs": len(rows), "runs": rows, "total": _total(rows)}
    if place is not None:
        described |= {"topology": place.name, "num_chips": place.num_devices, "mfu": mfu}
    described |= {"problems": list(found.problems), "notes": list(found.notes)}
    print("\n".join(_lines(study, described, place)))
    return described


def _row(run: PlannedRun, place: Topology | None, mfu: float) -> dict[str, Any]:
    model, flops = run.config.model, {convention: run.flops(convention) for convention in ("paper", "train")}
    row: dict[str, Any] = {
        "run": run.name,
        "family": run.family,
        "size": run.size,
        "num_params": model.num_params(),
        "num_params_non_embedding": model.num_params_non_embedding(),
        "d_model": model.d_model,
        "d_ff": model.d_ff,
        "num_heads": model.num_heads,
        "num_encoder_layers": model.num_encoder_layers,
        "num_decoder_layers": model.num_decoder_layers,
        "steps": run.config.steps,
        "batch_size": run.config.batch_size,
        "learning_rate": run.learning_rate,
        "seed": run.config.seed,
        "tokens": run.tokens,
        "tokens_per_parameter": run.tokens / model.num_params_non_embedding(),
        "flops": flops,
        "size_error": run.size_error,
        "budget": run.budget,
        "budget_error": run.budget_error,
    }
    if place is not None:
        row["chip_hours"] = flops["train"] / (place.chip.flops * mfu) / _SECONDS_AN_HOUR
        row["hours"] = row["chip_hours"] / place.num_devices
    return row


def _total(rows: Sequence[dict]) -> dict[str, Any]:
    flops = {convention: math.fsum(row["flops"][convention] for row in rows) for convention in ("paper", "train")}
    total: dict[str, Any] = {"tokens": sum(row["tokens"] for row in rows), "flops": flops}
    for name in ("chip_hours", "hours"):
        if rows and name in rows[0]:
            total[name] = math.fsum(row[name] for row in rows)
    return total


def _lines(study: Study, described: dict, place: Topology | None) -> list[str]:
    from triarch.sweeps.shapes import Ladder

    rows, total = described["runs"], described["total"]
    ladder = study.sizes if isinstance(study.sizes, Ladder) else None
    lines = [
        study.title,
        f"{len(rows)} runs of {', '.join(study.labels)}; batch, steps and the rest from {study.settings}",
    ]
    if ladder is not None:
        worst = max(abs(row["size_error"]) for row in rows)
        lines.append(
            f"sizes: shapes between {' and '.join(ladder.between)} of each family, matched in {ladder.measure} to "
            f"{worst:.2%} (column size)"
        )
    if study.budget is not None:
        worst = max(abs(row["budget_error"]) for row in rows)
        lines.append(
            f"budget: {type(study.budget).__name__}, {study.budget.described}, matched to {worst:.2%}, as whole steps "
            "come (column budget)"
        )
    lines += ["", _table(rows, place), ""]
    lines.append(
        f"total: {total['tokens']:.4g} tokens, {total['flops']['paper']:.4g} FLOPs paper, "
        f"{total['flops']['train']:.4g} FLOPs train"
    )
    if place is not None:
        lines.append(
            f"on {place}, at an assumed MFU of {described['mfu']:.0%}: {total['chip_hours']:,.4g} chip-hours, "
            f"{total['hours']:,.4g} hours one run after another"
        )
    lines.append(
        "paper: forward only, full attention square, one-hot embedding; train: forward and backward, masked pairs "
        "free; D/N: tokens read for each non-embedding parameter"
    )
    lines += [f"note: {note}" for note in described["notes"]]
    return lines + [f"PROBLEM: {problem}" for problem in described["problems"]]


def _table(rows: Sequence[dict], place: Topology | None) -> str:
    columns: dict[str, Any] = {
        "run": lambda row: row["run"],
        "params": lambda row: f"{row['num_params']:,}",
        "non-embedding": lambda row: f"{row['num_params_non_embedding']:,}",
        "size": lambda row: _percent(row["size_error"]),
        "shape": lambda row: (
            f"{row['d_model']}/{row['d_ff']}/{row['num_heads']} x"
            f"{row['num_encoder_layers']}+{row['num_decoder_layers']}"
        ),
        "steps": lambda row: f"{row['steps']:,}",
        "batch": lambda row: f"{row['batch_size']:,}",
        "rate": lambda row: f"{row['learning_rate']:g}",
        "tokens": lambda row: f"{row['tokens']:.4g}",
        "D/N": lambda row: f"{row['tokens_per_parameter']:.3g}",
        "FLOPs paper": lambda row: f"{row['flops']['paper']:.4g}",
        "FLOPs train": lambda row: f"{row['flops']['train']:.4g}",
        "budget": lambda row: _percent(row["budget_error"]),
    }
    if place is not None:
        columns["chip-hours"] = lambda row: f"{row['chip_hours']:,.4g}"
    cells = {name: [read(row) for row in rows] for name, read in columns.items()}
    # A column that says nothing in any row is left out.
    told = {name: column for name, column in cells.items() if any(cell != "-" for cell in column)}
    return aligned(list(told), list(zip(*told.values(), strict=True)), words=1)


def _percent(error: float | None) -> str:
    return "-" if error is None else f"{error:+.2%}"
