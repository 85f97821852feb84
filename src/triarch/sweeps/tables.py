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
from triarch.sweeps.design import PlannedRun
from triarch.sweeps.stages import run_folder
from triarch.sweeps.study import Study
from triarch.training.record.fingerprint import CONFIG_JSON, config_fingerprint

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
# What the losses of a run are in: what `report` compares.
_COMPARABLE = ("paired", "pseudo_likelihood", "native")
RESULT_COLUMNS = (
    "run", "family", "size", "cell", "folder", "status", *_FROM_SUMMARY, "in_domain_loss", "out_of_domain_loss",
    "scoring", "budget", "steps", "batch_size", "learning_rate", "seed", "vocab_size", "config_fingerprint",
)  # fmt: skip
EVALUATION_COLUMNS = (
    "run", "corpus", "domain", "role", "split", "scoring", "nats_per_token", "standard_error", "split_error",
    "bits_per_byte", "perplexity", "num_tokens", "num_windows", "share", "num_documents", "max_windows",
    "pseudo_positions", "seed", "measure", "store_fingerprint", "checkpoint",
)  # fmt: skip
_TEXT = (
    "run",
    "family",
    "size",
    "cell",
    "folder",
    "status",
    "architecture",
    "device",
    "scoring",
    "config_fingerprint",
    "corpus",
    "domain",
    "role",
    "split",
    "measure",
    "store_fingerprint",
    "checkpoint",
)


def write_tables(
    study: Study, runs: Sequence[PlannedRun], output: Path, made_with: Mapping[str, Mapping[str, Any]]
) -> None:
    """Gathers every trained run's summary and evaluations into `results` and `evaluations`, .csv and .parquet.

    `cell` is a run's name without its family's: runs of two families in one cell of the grid are pairs. `folder` is
    that of the run. `status` is "finished"; "outdated" where the evaluation was made with other settings, text or
    measures than the study's: its rows say which; or "trained". Losses are nats a token in `scoring`, means over the
    domains of a corpus: `in_domain_loss` on the text trained on, `out_of_domain_loss` where there is one such corpus
    only, and a column `loss_NAME` for each. `config_fingerprint` is that of everything which decides what a run
    computes: equal runs have equal ones. Tables stay as they are where no run is trained.

    Args:
      study: of the runs.
      runs: with their folders.
      output: of the study.
      made_with: what each run's evaluation has to be made with, by its name.

    Raises:
      UserError: a run's result file is not readable.
    """
    results, evaluations = [], []
    for run in runs:
        folder = run_folder(run, output)
        summary = _read(folder / "summary.json")
        if summary is None:
            continue
        evaluated = _read(folder / "evaluations.json") or {}
        made = evaluated.get("made_with", {})
        status = "trained" if not evaluated else "finished" if made == made_with[run.name] else "outdated"
        facts = {"run": run.name, "checkpoint": made.get("checkpoint")}
        own = [{"corpus": row["domain"], **row, **facts} for row in evaluated.get("evaluations", [])]
        results.append(_result(study, run, summary, status, own, _read(folder / CONFIG_JSON)))
        evaluations += own
    if results:
        losses = [f"loss_{name}" for corpus in study.corpora for name, _ in corpus.texts]
        _write(output / "results", (*RESULT_COLUMNS, *losses), results)
        _write(output / "evaluations", EVALUATION_COLUMNS, evaluations)


def _result(
    study: Study, run: PlannedRun, summary: dict, status: str, evaluations: Sequence[dict], config: dict
) -> dict[str, Any]:
    scoring = next((kind for kind in _COMPARABLE if any(row["scoring"] == kind for row in evaluations)), None)
    row: dict[str, Any] = {
        "run": run.name,
        "family": run.family,
        "size": run.size,
        "cell": run.name.removeprefix(f"{run.family}_"),
    }
    row |= {"folder": run.owner, "status": status}
    row |= {column: summary.get(key) for column, key in _FROM_SUMMARY.items()}
    others = []
    for corpus in study.corpora:
        for name, _ in corpus.texts:
            own = [one["nats_per_token"] for one in evaluations if (one["corpus"], one["scoring"]) == (name, scoring)]
            row[f"loss_{name}"] = sum(own) / len(own) if own and None not in own else None
            others += [row[f"loss_{name}"]] if corpus.role == "out_of_domain" else []
    row["in_domain_loss"] = row[f"loss_{study.corpora[0].title}"]
    row["out_of_domain_loss"] = others[0] if len(others) == 1 else None
    return row | {
        "scoring": scoring,
        "budget": run.budget,
        "steps": run.config.steps,
        "batch_size": run.config.batch_size,
        "learning_rate": run.learning_rate,
        "seed": run.config.seed,
        "vocab_size": run.config.model.vocab_size,
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
