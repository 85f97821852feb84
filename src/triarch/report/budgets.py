"""What a report says of a study that trains each size for several budgets: IsoFLOP curves, optima, the law of N and D.

There a law of the loss in N alone, or in C alone, would mix runs of different lengths; the laws are of both.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from triarch.errors import UserError
from triarch.report.study import ScoredRun, StudyFolder, StudyRun
from triarch.scaling.checks.comparison import Comparison
from triarch.scaling.checks.frontier import Frontier
from triarch.scaling.figures.chinchilla_figures import slices_panel
from triarch.scaling.figures.comparison_figures import frontiers_panel
from triarch.scaling.figures.optimum_figures import isoflop_panel, line_panel
from triarch.scaling.figures.style import Panel
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.chinchilla import Chinchilla
from triarch.scaling.laws.costs import costs_of
from triarch.scaling.laws.law import FittedPart, Law
from triarch.scaling.laws.optima.isoflop import Isoflop
from triarch.scaling.requests.outcome import Outcome, fit_table
from triarch.scaling.requests.request import FitRequest
from triarch.scaling.requests.text import describe_comparison
from triarch.scaling.tables.table import Table
from triarch.scaling.words import join, scientific, short_number, signed

_COLUMNS = {"params": "N", "tokens": "D", "loss": "loss", "flops": "flops_train"}
_FIGURES = (
    "Each curve is a compute budget: its runs, the parabola in log N through them, and the vertex (a star), which is"
    " the best size for that budget. Losses are on the text trained on; families that share no scoring do not compare."
)
_LAW = (
    "L = E + A / N^alpha + B / D^beta, fitted to all runs of a family: slices of it at equal compute, each run moved"
    " onto the nearest slice along the law, so that only its residual shows. The dashed line joins the best sizes."
    " Bands are bootstrap intervals; thin dashes beyond the runs are extrapolation."
)
_LINES = (
    "The best size for a budget, with bootstrap intervals, and the loss of the best run for a budget. Lines go a decade"
    " beyond what was measured, where they are extrapolations."
)


@dataclasses.dataclass(frozen=True)
class BudgetAnalysis:
    """The laws of such a study.

    Attributes:
      sections: title, text and figures of each.
      rows: a law of a family each: family, scoring, law, formula, exponent of N with interval, runs.
      optima: family, FLOPs, and the best N, tokens and loss there, each with its interval.
      comparisons: names of two families, the law they are compared by, and what was found, in lines.
      findings: headline and detail of the main results.
      warnings: each with the laws it is about.
      fits: the laws as JSON.
    """

    sections: tuple[tuple[str, str, list[Panel]], ...]
    rows: tuple[dict[str, str], ...]
    optima: tuple[tuple[str, ...], ...]
    comparisons: tuple[tuple[str, list[str]], ...]
    findings: tuple[tuple[str, str], ...]
    warnings: tuple[tuple[str, list[str]], ...]
    fits: tuple[dict[str, object], ...]


def has_budgets(study: StudyFolder) -> bool:
    """Returns whether any size of a family was trained more than once."""
    sizes = [(run.family, run.size) for run in study.runs if run.finished]
    return len(set(sizes)) < len(sizes)


def analyse_budgets(study: StudyFolder, bootstraps: int, seed: int) -> BudgetAnalysis:
    """Fits IsoFLOP parabolas and the parametric law to every family, and compares those that share a scoring."""
    groups: dict[str, list[str]] = {}
    for family in study.families:
        if any(_loss(study, run) is not None for run in study.of_family(family)):
            groups.setdefault(_scoring(study, family), []).append(family)
    outcomes: list[tuple[str, Outcome]] = []
    warnings: dict[str, list[str]] = {}
    parabolas: list[tuple[str, FittedPart]] = []
    surfaces: list[tuple[str, FittedPart]] = []
    for scoring, families in groups.items():
        for law, found in ((Isoflop(), parabolas), (Chinchilla(), surfaces)):
            try:
                outcome = _fitted(study, families, law, bootstraps, seed)
            except UserError as error:
                warnings.setdefault(str(error), []).append(f"{law.name}, {join(map(study.label, families))}")
                continue
            outcomes.append((scoring, outcome))
            found += [(scoring, part) for part in outcome.parts]
    parts = [(scoring, part) for scoring, outcome in outcomes for part in outcome.parts]
    for _, part in parts:
        for warning in part.result["warnings"]:
            warnings.setdefault(warning, []).append(f"{part.group}, {part.fit.law}")
    return BudgetAnalysis(
        sections=_sections(parabolas, surfaces),
        rows=tuple(_row(scoring, part) for scoring, part in parts),
        optima=tuple(row for _, part in parabolas for row in _optima(part)),
        comparisons=tuple(
            (f"{one.second} against {one.first}, {outcome.request.law.name}", describe_comparison(one)[1:])
            for _, outcome in outcomes
            for one in outcome.comparisons
        ),
        findings=tuple(_findings(parabolas, _headline_comparisons(outcomes))),
        warnings=tuple(warnings.items()),
        fits=tuple(
            {"family": part.group, "role": "in_domain", "corpus": study.main_corpus.name if study.main_corpus else ""}
            | part.result
            for _, part in parts
        ),
    )


def _scoring(study: StudyFolder, family: str) -> str:
    """Returns what a family is scored by: paired if it can be, else its own objective, whose noise is the least."""
    scorings = {e.scoring for run in study.of_family(family) for e in _of_main_corpus(study, run)}
    return next((one for one in ("paired", "native", "pseudo_likelihood") if one in scorings), "")


def _of_main_corpus(study: StudyFolder, run: StudyRun) -> list[ScoredRun]:
    return [e for e in run.evaluations if study.main_corpus and e.corpus == study.main_corpus.name]


def _loss(study: StudyFolder, run: StudyRun, scoring: str | None = None) -> float | None:
    """Returns the nats per token on the text trained on; None where there are none."""
    own = [e.nats_per_token for e in _of_main_corpus(study, run) if scoring in (None, e.scoring)]
    return math.fsum(own) / len(own) if own else None


def _fitted(study: StudyFolder, families: Sequence[str], law: Law, bootstraps: int, seed: int) -> Outcome:
    rows = []
    for family in families:
        scoring = _scoring(study, family)
        for run in study.of_family(family):
            if (loss := _loss(study, run, scoring)) is not None:
                numbers = run.numbers
                rows.append({
                    "family": study.label(family), "N": numbers["num_params_non_embedding"],
                    "D": numbers["train_tokens"], "loss": loss, "flops_train": numbers["flops_train"],
                })  # fmt: skip
    table = Table.from_rows(rows, "results.csv")
    options = FitOptions(bootstraps=bootstraps, seed=seed)
    request = FitRequest(law, _COLUMNS, group="family", options=options, held_out=0.0)
    if len(families) > 1:
        return fit_table(table, request)
    # Alone it has nothing to be compared with, but keeps its name.
    outcome = fit_table(table, dataclasses.replace(request, group=None))
    label = study.label(families[0])
    parts = tuple(dataclasses.replace(part, group=label, label=label) for part in outcome.parts)
    return dataclasses.replace(outcome, parts=parts)


def _sections(
    found: Sequence[tuple[str, FittedPart]], surfaces: Sequence[tuple[str, FittedPart]]
) -> tuple[tuple[str, str, list[Panel]], ...]:
    curves = [
        isoflop_panel(f"isoflop-{index}", part.fit, f"{part.group} ({_spelt(scoring)})")
        for index, (scoring, part) in enumerate(found)
    ]
    lines = [
        line_panel(f"best-size-{index}", part.fit, "N", f"{part.group}: ") for index, (_, part) in enumerate(found)
    ]
    for index, scoring in enumerate(dict.fromkeys(scoring for scoring, _ in found)):
        fronts = [
            (part.group or "", Frontier.of_allocation(part.fit, "FLOPs, train convention"))
            for own, part in found
            if own == scoring
        ]
        title = f"Loss at the best size ({_spelt(scoring)})"
        lines.append(frontiers_panel(f"best-loss-{index}", title, fronts))
    return (
        ("Loss at equal compute", _FIGURES, curves),
        ("The best run for a budget", _LINES, lines),
        ("The law of size and data", _LAW, _law_panels(surfaces)),
    )


def _law_panels(parts: Sequence[tuple[str, FittedPart]]) -> list[Panel]:
    found = [(scoring, part, costs_of(part.columns)[0]) for scoring, part in parts]
    panels = [
        slices_panel(f"law-{index}", part.fit, cost, f"{part.group} ({_spelt(scoring)})")
        for index, (scoring, part, cost) in enumerate(found)
    ]
    for index, scoring in enumerate(dict.fromkeys(scoring for scoring, _, _ in found)):
        own = [(part.group or "", Frontier.of_chinchilla(part.fit, cost)) for s, part, cost in found if s == scoring]
        if len(own) > 1:
            panels.append(frontiers_panel(f"law-frontiers-{index}", f"Least loss by the law ({_spelt(scoring)})", own))
    return panels


def _spelt(scoring: str) -> str:
    return scoring.replace("_", "-")


def _row(scoring: str, part: FittedPart) -> dict[str, str]:
    fit = part.fit
    exponent, drawn = fit.exponents()["N"]
    interval = None if drawn is None else fit.options.interval(drawn)
    return {
        "family": part.group,
        "scoring": _spelt(scoring),
        "law": fit.law,
        "formula": fit.formula(),
        "exponent": f"{exponent:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""),
        "points": str(fit.num_points),
    }


def _optima(part: FittedPart) -> list[tuple[str, ...]]:
    rows = []
    for row in part.result["optima"]:
        cells = [part.group or "", scientific(row["flops"])]
        for name, write in (("N", short_number), ("D", short_number), ("loss", "{:.3f}".format)):
            ends = row.get(f"{name}_interval")
            cells.append(write(row[name]) + (f" [{write(ends[0])}, {write(ends[1])}]" if ends else ""))
        rows.append(tuple(cells))
    return rows


def _headline_comparisons(outcomes: Sequence[tuple[str, Outcome]]) -> list[Comparison]:
    """Returns those of the first law that compares the families of a scoring: of the parabolas, if they could be."""
    chosen: dict[str, list[Comparison]] = {}
    for scoring, outcome in outcomes:
        if found := [one for one in outcome.comparisons if one.axes]:
            chosen.setdefault(scoring, found)
    return [one for found in chosen.values() for one in found]


def _findings(parabolas: Sequence[tuple[str, FittedPart]], comparisons: Sequence[Comparison]) -> list[tuple[str, str]]:
    found = []
    lines = [part for _, part in parabolas]
    if lines:
        listed = join(f"{part.fit.parameters['a']:.2f}{_ends(part.fit.intervals.get('a'))} for {part.group}"
                      for part in lines)  # fmt: skip
        low, high = (pick(part.fit.parameters["a"] for part in lines) for pick in (min, max))
        span = f"{low:.2f} to {high:.2f}" if len(lines) > 1 else f"{low:.2f}"
        detail = f"From IsoFLOP parabolas, N without the embedding, FLOPs in the train convention: {listed}."
        found.append((f"The best size for a budget grows as compute to the power {span}.", detail))
    for one in comparisons:
        for axis in one.axes:
            gap = axis.gaps[-1]
            ahead, behind = (one.second, one.first) if gap.difference < 0 else (one.first, one.second)
            size = f"{abs(gap.difference):.3f} nats per token"
            headline = f"With equal compute, {ahead}'s best run is {size} below {behind}'s."
            if not gap.shown():
                headline = f"With equal compute no difference is shown between {one.first} and {one.second}."
            assert gap.at is not None
            detail = (
                f"At {scientific(gap.at)} FLOPs ({axis.axis}), {one.second} minus {one.first}:"
                f" {signed(gap.difference)}{_ends(gap.interval)}."
            )
            found.append((headline, detail))
    return found


def _ends(interval: tuple[float | None, float | None] | None) -> str:
    if interval is None:
        return ""
    return " [{}, {}]".format(*("open" if end is None else signed(end) for end in interval))
