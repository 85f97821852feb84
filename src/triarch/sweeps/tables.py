"""A study's results as two tidy tables: a run a row, and an evaluation a row."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from triarch.errors import UserError
from triarch.files import write_whole
from triarch.sweeps.stages import run_folder
from triarch.sweeps.study import Run

# Column of results.csv: key of a run's summary.json.
_FROM_SUMMARY = {
    "architecture": "architecture",
    "num_params": "num_params",
    "num_params_non_embedding": "num_params_non_embedding",
    "train_tokens": "tokens",
    "target_tokens": "scored_tokens",
    "flops_paper": "flops_paper",
    "flops_train": "flops_train",
    "final_train_loss": "loss",
    "seconds": "seconds",
    "tokens_per_second": "tokens_per_second",
    "device": "device_kind",
}
RESULT_COLUMNS = ("run", "family", "size", "status", *_FROM_SUMMARY, "config_fingerprint")
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
        identity = {"run": run.name, "family": run.family, "size": run.size, "status": status}
        results.append(identity | {column: summary.get(key) for column, key in _FROM_SUMMARY.items()})
        results[-1]["config_fingerprint"] = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()[:16]
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
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())
