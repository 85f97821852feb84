"""A study folder: study.json, results.csv, evaluations.csv and each run's metrics.jsonl and config.gin."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from triarch import schema
from triarch.errors import UserError, nearest
from triarch.files import read_regular
from triarch.scaling.tables.table import Table

ROLES = ("in_domain", "out_of_domain")
ROLE_WORDS = {"in_domain": "in-domain", "out_of_domain": "out-of-domain"}
SCORINGS = ("paired", "native", "pseudo_likelihood")
FINISHED, OUTDATED = "finished", "outdated"
TEXT_COLUMNS = ("run", "family", "architecture", "size", "device", "status")
NUMBER_COLUMNS = (
    "num_params", "num_params_non_embedding", "train_tokens", "target_tokens", "flops_paper", "flops_train",
    "final_train_loss", "seconds", "tokens_per_second",
)  # fmt: skip
# A run that logs each of a million steps writes about 500 MB.
_MOST_BYTES = 2**32
METRICS = ("step", "loss", "tokens", "flops_paper", "flops_train")


@dataclasses.dataclass(frozen=True)
class ScoredCorpus:
    """What runs are evaluated on: one text, or several domains of which the mean counts."""

    name: str
    role: str

    @property
    def title(self) -> str:
        """What figures and tables are headed with."""
        return f"{ROLE_WORDS[self.role].capitalize()}: {self.name}"

    @property
    def words(self) -> str:
        """What sentences call it."""
        return f"on {self.name} ({ROLE_WORDS[self.role]})"

    @property
    def slug(self) -> str:
        """Its name as part of a file's."""
        return re.sub(r"[^\w.+-]+", "-", self.name)


@dataclasses.dataclass(frozen=True)
class ScoredRun:
    """One run scored on one domain.

    Attributes:
      run, corpus, domain: names; the domain is the corpus itself unless that has several.
      role: "in_domain" or "out_of_domain".
      scoring: "paired" (the same target tokens after the same prefix for every architecture), "native" (the run's own
        objective) or "pseudo_likelihood" (an encoder's: each token given all others).
      nats_per_token, standard_error, bits_per_byte, perplexity: the score; NaN where unknown (not nats_per_token).
      num_tokens: tokens scored.
      share: of the split's windows, how many were scored; NaN where unknown.
      made_with: what made the score, in words: settings, text and measure; empty where unknown.
    """

    run: str
    corpus: str
    domain: str
    role: str
    scoring: str
    nats_per_token: float
    standard_error: float
    bits_per_byte: float
    perplexity: float
    num_tokens: float
    share: float
    made_with: str


@dataclasses.dataclass(frozen=True)
class StudyRun:
    """One trained model. `numbers` holds NUMBER_COLUMNS of results.csv (NaN where a run that failed has none),
    `metrics` METRICS along training, float64[logged steps] each; `config` is the resolved gin text; `tasks` what
    `RunConfig.eval_tasks` came to: by TASK/METRIC its values by step."""

    name: str
    family: str
    architecture: str
    size: str
    device: str
    status: str
    numbers: Mapping[str, float]
    metrics: Mapping[str, np.ndarray]
    config: str
    evaluations: tuple[ScoredRun, ...]
    tasks: Mapping[str, Mapping[float, float]] = dataclasses.field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return self.status == FINISHED

    def comparable_scoring(self) -> str:
        """Returns the scoring that comparisons use: paired where there is one, else pseudo-likelihood, else native."""
        own = {evaluation.scoring for evaluation in self.evaluations}
        return next((scoring for scoring in ("paired", "pseudo_likelihood", "native") if scoring in own), "")

    def score(self, corpus: ScoredCorpus | None) -> tuple[float, float]:
        """Returns the mean nats per token over a corpus's domains in the comparable scoring, and its standard error."""
        scoring = self.comparable_scoring()
        own = [e for e in self.evaluations if corpus and e.corpus == corpus.name and e.scoring == scoring]
        if not own:
            return math.nan, math.nan
        errors = np.array([e.standard_error for e in own])
        mean = float(np.mean([e.nats_per_token for e in own]))
        return mean, float(np.sqrt(np.sum(errors**2)) / len(own))


@dataclasses.dataclass(frozen=True)
class StudyFolder:
    """Everything a report is made of.

    `labels` gives families the names people read; `seconds` is the time of all stages added up, `elapsed` that in which
    one was at work, 0 where unknown.
    """

    folder: Path
    name: str
    title: str
    question: str
    commands: tuple[str, ...]
    seconds: float
    elapsed: float
    hardware: str
    labels: Mapping[str, str]
    runs: tuple[StudyRun, ...]

    @property
    def corpora(self) -> tuple[ScoredCorpus, ...]:
        """What runs were evaluated on, in the order of the table, in-domain corpora first."""
        found = dict.fromkeys(ScoredCorpus(e.corpus, e.role) for run in self.runs for e in run.evaluations)
        return tuple(sorted(found, key=lambda corpus: ROLES.index(corpus.role)))

    @property
    def main_corpus(self) -> ScoredCorpus | None:
        """The text that runs are trained on, which is evaluated first."""
        return next((corpus for corpus in self.corpora if corpus.role == "in_domain"), None)

    @property
    def families(self) -> tuple[str, ...]:
        """Families in the order of the table."""
        return tuple(dict.fromkeys(run.family for run in self.runs))

    def label(self, family: str) -> str:
        return self.labels.get(family, family)

    def of_family(self, family: str) -> list[StudyRun]:
        """Returns a family's finished runs, smallest first."""
        own = [run for run in self.runs if run.family == family and run.finished]
        return sorted(own, key=lambda run: run.numbers["num_params"])


def read_study(folder: str | Path) -> StudyFolder:
    """Reads and checks a study folder.

    Raises:
      UserError: a file is missing or misshapen; the file and its key, column or line are named.
    """
    folder = Path(folder)
    if not folder.is_dir():
        siblings = [entry.name for entry in folder.parent.glob("*/")] if folder.parent.is_dir() else []
        raise UserError(f"{folder}: no such study folder{nearest(folder.name, siblings)}")
    path = folder / "study.json"
    facts = _object(path, _read(path), "")
    commands = _fact(facts, path, "commands", list)
    labels = _fact(facts, path, "labels", dict) if "labels" in facts else {}
    if not all(isinstance(command, str) for command in commands):
        raise UserError(f"{path}: 'commands' holds something that is not text, expected a list of command lines")
    return StudyFolder(
        folder=folder,
        name=_fact(facts, path, "name", str),
        title=_fact(facts, path, "title", str),
        question=_fact(facts, path, "question", str),
        commands=tuple(commands),
        seconds=float(_fact(facts, path, "seconds", (int, float))),
        elapsed=float(_fact(facts, path, "elapsed", (int, float))) if "elapsed" in facts else 0.0,
        hardware=_fact(facts, path, "hardware", str),
        labels={str(family): str(label) for family, label in labels.items()},
        runs=_read_runs(folder),
    )


def _read_runs(folder: Path) -> tuple[StudyRun, ...]:
    table = Table.read_csv(folder / "results.csv")
    text = {column: table.text(column) for column in TEXT_COLUMNS}
    numbers = {column: table.numbers(column, optional=True) for column in NUMBER_COLUMNS}
    names = text["run"]
    if not names:
        raise UserError(f"{table.name}: no rows, expected one for each run")
    for i, name in enumerate(names):
        if name in names[:i]:
            raise UserError(f"{table.name}, {table.row(i)}: run {name!r} stands there twice")
        if Path(name).name != name:
            raise UserError(f"{table.name}, {table.row(i)}: run is {name!r}, expected a plain folder name")
    # A run that an earlier design called otherwise lies in a folder of that name.
    folders = table.text("folder") if "folder" in table.columns else names
    for i, own_folder in enumerate(folders):
        if Path(own_folder).name != own_folder:
            raise UserError(f"{table.name}, {table.row(i)}: folder is {own_folder!r}, expected a plain folder name")
    evaluations = _read_evaluations(folder / "evaluations.csv", names)
    runs = []
    for i, name in enumerate(names):
        own = {column: float(values[i]) for column, values in numbers.items()}
        finished = text["status"][i] == FINISHED
        missing = [column for column, value in own.items() if math.isnan(value)]
        if finished and missing:
            raise UserError(f"{table.name}, {table.row(i)}: {missing[0]} is empty, but run {name!r} is {FINISHED}")
        metrics, tasks, config = _read_run_folder(folder / "runs" / folders[i], required=finished)
        rest: dict[str, Any] = {column: values[i] for column, values in text.items() if column != "run"}
        scores = tuple(evaluation for evaluation in evaluations if evaluation.run == name)
        known: dict[str, Any] = {"numbers": own, "metrics": metrics, "config": config, "evaluations": scores}
        runs.append(StudyRun(name=name, tasks=tasks, **known, **rest))
    if not any(run.finished for run in runs):
        raise UserError(f"{table.name}: no run has status {FINISHED!r}; there is nothing to report")
    return tuple(runs)


def _read_evaluations(path: Path, runs: Sequence[str]) -> list[ScoredRun]:
    table = Table.read_csv(path)
    columns: dict[str, Any] = {
        "run": table.text("run"),
        "corpus": table.text("corpus" if "corpus" in table.columns else "domain"),
        "domain": table.text("domain"),
        "role": table.text("role"),
        "scoring": table.text("scoring"),
        "nats_per_token": table.numbers("nats_per_token"),
        "standard_error": table.numbers("standard_error", positive=False, least=0.0, optional=True),
        "bits_per_byte": table.numbers("bits_per_byte", optional=True),
        "perplexity": table.numbers("perplexity", optional=True),
        "num_tokens": table.numbers("num_tokens"),
        "share": table.numbers("share", optional=True) if "share" in table.columns else [math.nan] * len(table),
        "made_with": _made_with(table),
    }
    for key, allowed in (("run", runs), ("role", ROLES), ("scoring", SCORINGS)):
        for i, value in enumerate(columns[key]):
            if value not in allowed:
                raise UserError(f"{path}, {table.row(i)}: unknown {key} {value!r}{nearest(value, allowed)}")
    return [ScoredRun(*row) for row in zip(*columns.values(), strict=True)]


def _made_with(table: Table) -> list[str]:
    """Returns what made each row, in words, as far as the table says."""
    columns = {
        "max_windows": "at most {} windows", "seed": "seed {}", "split": "split {}", "measure": "measure {}",
        "store_fingerprint": "store {:.12}",
    }  # fmt: skip
    known = {name: table.text(name) for name in columns if name in table.columns}
    return [
        ", ".join(columns[name].format(values[i]) for name, values in known.items() if values[i])
        for i in range(len(table))
    ]


def _read_run_folder(folder: Path, required: bool) -> tuple[dict[str, np.ndarray], dict[str, dict[float, float]], str]:
    path, config = folder / "metrics.jsonl", folder / "config.gin"
    if not required and not path.exists():
        return {}, {}, _read(config) if config.exists() else ""
    by_step: dict[float, list[float]] = {}
    tasks: dict[str, dict[float, float]] = {}
    for number, line in enumerate(_read(path).splitlines(), start=1):
        if line.strip():
            entry = _object(path, line, f", line {number}")
            values = [_metric(entry, path, number, key) for key in METRICS]
            by_step[values[0]] = values  # A resumed run logs some steps again: the last entry counts.
            for key in entry:
                if "/" in key and entry[key] is not None:
                    tasks.setdefault(key, {})[values[0]] = _metric(entry, path, number, key, -math.inf)
    if required and not by_step:
        raise UserError(f"{path}: empty, expected one JSON object for each logged step")
    rows = np.array([by_step[step] for step in sorted(by_step)]).reshape(-1, len(METRICS))
    return dict(zip(METRICS, rows.T, strict=True)), tasks, _read(config)


def _metric(entry: dict, path: Path, number: int, key: str, least: float = math.ulp(0.0)) -> float:
    if key not in entry:
        raise UserError(f"{path}, line {number}: no key {key!r}{nearest(key, entry)}")
    value = entry[key]
    least = 0.0 if key == "step" else least
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < least:
        expected = "a number above zero" if least >= 0 else "a number"
        raise UserError(f"{path}, line {number}: {key} is {value!r}, expected {expected}")
    return float(value)


def _read(path: Path) -> str:
    try:
        return read_regular(path, _MOST_BYTES).decode()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; a study folder needs it") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _object(path: Path, text: str, where: str) -> dict:
    value = schema.parse(text, f"{path}{where}")
    if not isinstance(value, dict):
        raise UserError(f"{path}{where}: expected a JSON object, not {type(value).__name__}")
    return value


def _fact(facts: dict, path: Path, key: str, kind):
    if key not in facts:
        raise UserError(f"{path}: no key {key!r}{nearest(key, facts)}")
    if not isinstance(facts[key], kind) or isinstance(facts[key], bool):
        names = {str: "text", list: "a list", dict: "an object"}
        raise UserError(f"{path}: {key!r} is {facts[key]!r}, expected {names.get(kind, 'a number')}")
    return facts[key]
