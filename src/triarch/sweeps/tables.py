"""A study's results as two tidy tables, each as CSV and as Parquet: a run a row, and an evaluation a row."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triarch import schema
from triarch.errors import UserError
from triarch.files import write_whole
from triarch.schema import Anything
from triarch.sweeps.design import Run
from triarch.sweeps.stages import run_folder
from triarch.training.fingerprint import CONFIG_JSON, config_fingerprint

# Column of the results: key of a run's summary.json.
_FROM_SUMMARY = {
    "architecture": "architecture",
    "num_params": "num_params",
    "num_params_non_embedding": "num_params_non_embedding",
    "train_tokens": "tokens",
    "target_tokens": "scored_tokens",
    "flops_paper": "flops_paper",
    "flops_train": "flops_train",
    "final_train_loss": "loss",
    "validation_loss": "validation_loss",
    "seconds": "seconds",
    "tokens_per_second": "tokens_per_second",
    "device": "device_kind",
}
# Column: role and scoring of the evaluation whose mean over domains it holds; "comparable" is what `report` compares.
_LOSSES = {
    "in_domain_loss": "in_domain",
    "out_of_domain_loss": "out_of_domain",
}
_COMPARABLE = ("paired", "pseudo_likelihood", "native")
RESULT_COLUMNS = (
    "run", "family", "size", "cell", "status", *_FROM_SUMMARY, *_LOSSES, "scoring", "budget", "steps", "batch_size",
    "learning_rate", "seed", "config_fingerprint",
)  # fmt: skip
EVALUATION_COLUMNS = (
    "run", "domain", "role", "scoring", "nats_per_token", "standard_error", "bits_per_byte", "perplexity", "num_tokens",
)  # fmt: skip
_TEXT = (
    "run",
    "family",
    "size",
    "cell",
    "status",
    "architecture",
    "device",
    "scoring",
    "config_fingerprint",
    "domain",
    "role",
)


def write_tables(runs: Sequence[Run], output: Path) -> None:
    """Gathers every finished run's summary and evaluations into `results` and `evaluations`, .csv and .parquet.

    `cell` is a run's name without its family's: runs of two families in one cell of the grid are pairs.
    `in_domain_loss` and `out_of_domain_loss` are nats a token in `scoring`, means over the role's domains.
    `config_fingerprint` is that of everything which decides what a run computes: equal runs have equal ones.

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
        own = [{**row, "run": run.name} for row in (evaluated or {}).get("evaluations", [])]
        results.append(_result(run, summary, evaluated is not None, own, _read(folder / CONFIG_JSON)))
        evaluations += own
    _write(output / "results", RESULT_COLUMNS, results)
    _write(output / "evaluations", EVALUATION_COLUMNS, evaluations)


def _result(run: Run, summary: dict, evaluated: bool, evaluations: Sequence[dict], config: dict) -> dict[str, Any]:
    scoring = next((kind for kind in _COMPARABLE if any(row["scoring"] == kind for row in evaluations)), None)
    row = {"run": run.name, "family": run.family, "size": run.size, "cell": run.name.removeprefix(f"{run.family}_")}
    row["status"] = "finished" if evaluated else "trained"
    row |= {column: summary.get(key) for column, key in _FROM_SUMMARY.items()}
    for column, role in _LOSSES.items():
        own = [one["nats_per_token"] for one in evaluations if (one["role"], one["scoring"]) == (role, scoring)]
        row[column] = sum(own) / len(own) if own and None not in own else None
    return row | {
        "scoring": scoring,
        "budget": run.budget,
        "steps": run.config.steps,
        "batch_size": run.config.batch_size,
        "learning_rate": run.learning_rate,
        "seed": run.config.seed,
        "config_fingerprint": config_fingerprint(config),
    }


def _read(path: Path) -> Any:
    if not path.exists():
        return None
    try:
        return schema.read(path, Anything())
    except UserError as error:
        raise UserError(f"{error}; delete it to have it made again") from None


def _write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path.with_suffix(".csv"), text.getvalue())
    write_whole(path.with_suffix(".parquet"), _parquet(columns, rows))


def _parquet(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({column: _column(column, [row.get(column) for row in rows]) for column in columns})
    file = io.BytesIO()
    parquet.write_table(table, file)
    return file.getvalue()


def _column(name: str, values: Sequence[Any]):
    import pyarrow

    if name in _TEXT:
        return pyarrow.array(values, pyarrow.string())
    whole = all(isinstance(value, int) for value in values if value is not None)
    return pyarrow.array(values, pyarrow.int64() if whole and values else pyarrow.float64())
