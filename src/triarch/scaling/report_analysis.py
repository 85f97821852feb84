"""What a report shows beside its runs, where it is there: a perplexity suite, length extrapolation, attention.

A study's folder `analysis` holds the tables that `triarch evaluate --suite`, `triarch extrapolate` and `triarch
attention` write when it is their --output.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from triarch.scaling.attention_figures import attention_panels
from triarch.scaling.length_figures import length_panels, quality_panels
from triarch.scaling.style import Panel
from triarch.scaling.table import Table

FOLDER, SUITE = "analysis", "suite.csv"
_COMPARABLE = ("paired", "pseudo_likelihood")
# Of a page that is to be sent around.
_MAP_SIZE = 48
_AVERAGES = {"micro": "every token alike", "macro": "every domain alike", "macro_sources": "every source alike"}


@dataclasses.dataclass(frozen=True)
class SuiteRow:
    """A domain, or an average: what it is, and each model's nats a token and standard error (NaN where unknown)."""

    source: str
    name: str
    is_average: bool
    scores: tuple[tuple[float, float] | None, ...]


@dataclasses.dataclass(frozen=True)
class SuiteTable:
    """The losses of several models on a suite, domains downwards and models across."""

    models: tuple[str, ...]
    rows: tuple[SuiteRow, ...]


def analysis_sections(study: Path) -> list[tuple[str, str, list[Panel]]]:
    """Returns title, text and figures of each section; one without figures has no table in the study.

    Raises:
      UserError: a table is misshapen.
    """
    folder = study / FOLDER
    suite = quality_panels(Table.read_csv(folder / SUITE)) if (folder / SUITE).exists() else []
    quality = (
        "Mean loss over the suite's sources against what reading one window costs, and against parameters, with 95%"
        " intervals. The paper convention counts the whole attention square and embeddings as products; the train"
        " convention's forward pass counts what the mask allows, and lookups as free. Hollow points are"
        " pseudo-likelihoods, not comparable with the filled ones."
    )
    length = (
        "A prefix is given and what follows it scored, up to each total length. Both figures are of the same windows;"
        " the band is a 95% interval over windows."
    )
    attention = (
        "Locality is the attention mass on the nearest tokens. The effective rank is the exponential of the entropy of"
        " the singular values divided by their sum (Roy and Vetterli 2007); dotted lines are what attention spread"
        " evenly over all that the mask allows would have. Points are heads. Maps have a colour scale each, by the"
        " square root of the weight; large ones show the mass on stretches of keys."
    )
    return [
        ("Quality against inference cost", quality, suite),
        ("Beyond the trained length", length, length_panels(folder)),
        ("Attention", attention, attention_panels(folder, _MAP_SIZE)),
    ]


def suite_table(study: Path) -> SuiteTable | None:
    """Returns the suite's table in the scoring that compares models; None where there is none.

    Raises:
      UserError: the table is misshapen.
    """
    path = study / FOLDER / SUITE
    if not path.exists():
        return None
    table = Table.read_csv(path)
    names = ("model", "source", "domain", "average", "scoring")
    models, sources, domains, averages, scorings = (table.text(name) for name in names)
    losses = table.numbers("nats_per_token")
    errors = table.numbers("standard_error", positive=False, optional=True)
    scores: dict[tuple[str, str, str], dict[str, tuple[float, float]]] = {}
    for i, scoring in enumerate(scorings):
        if scoring in _COMPARABLE:
            row = scores.setdefault((sources[i], domains[i], averages[i]), {})
            row[models[i]] = float(losses[i]), float(errors[i])
    columns = tuple(dict.fromkeys(models))
    rows = [
        SuiteRow(
            source or "all",
            domain or _AVERAGES.get(average, average),
            average in _AVERAGES,
            tuple(found.get(model) for model in columns),
        )
        for (source, domain, average), found in scores.items()
    ]
    return SuiteTable(columns, tuple(rows)) if rows else None
