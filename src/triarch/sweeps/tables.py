"""A study's results as two tidy tables: a run a row, and an evaluation a row."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from triarch.errors import UserError
from triarch.sweeps.stages import run_folder
from triarch.sweeps.study import Run

RESULT_COLUMNS = (
    "run",
    "family",
    "architecture",
    "size",
    "num_params",
    "num_params_non_embedding",
    "train_tokens",
    "target_tokens",
    "flops_paper",
    "flops_train",
    "final_train_loss",
    "seconds",
    "tokens_per_second",
    "device",
    "config_fingerprint",
    "status",
)
EVALUATION_COLUMNS = (
    "run",
    "domain",
    "role",
    "scoring",
    "nats_per_token",
    "standard_error",
    "bits_per_byte",
    "perplexity",
    "num_tokens",
)


def write_tables(runs: Sequence[Run], output: Path) -> None:
    """Gathers every finished run's summary and evaluations into `results.csv` and `evaluations.csv`.

    Raises:
      UserError: a run's result file is not readable.
    """
    results, evaluations = [], []
    for run in runs:
        folder = run_folder(run, output)
        summary = _read(folder / "summary.json")
        if summary is None:
            continue
        evaluated = _read(folder / "evaluations.json")
        status = "finished" if evaluated is not None else "trained"
        results.append({**summary, "run": run.name, "family": run.family, "size": run.size, "status": status})
        evaluations += [{**row, "run": run.name} for row in (evaluated or {}).get("evaluations", [])]
    _write(output / "results.csv", RESULT_COLUMNS, results)
    _write(output / "evaluations.csv", EVALUATION_COLUMNS, evaluations)


def _read(path: Path) -> Any:
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); delete it to have it made again") from error


def _write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    temporary = path.with_suffix(".csv.tmp")
    with open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)
