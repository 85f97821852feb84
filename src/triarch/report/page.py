"""The report: one HTML page with a study's findings, figures, tables, costs, laws, commands and configs."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import jinja2
import markupsafe

from triarch.errors import UserError
from triarch.report.analysis import AXES, FamilyLaw, family_laws, is_size
from triarch.report.budgets import analyse_budgets, has_budgets
from triarch.report.evaluations import analysis_sections, study_tasks, suite_table, task_table
from triarch.report.explorer import explorer_data, packed_plotly
from triarch.report.findings import Finding, findings
from triarch.report.study import ROLE_WORDS, ScoredCorpus, StudyFolder, StudyRun, read_study
from triarch.report.tuning_figures import TEXT, read_rankers, tuning_panels
from triarch.scaling.figures.panels import Curve, Series, frontier_panel, scaling_panel, training_panel
from triarch.scaling.figures.style import SERIES, SERIES_DARK, Panel, write_output
from triarch.scaling.fitting.result import Fit
from triarch.scaling.words import duration, four_decimals, scientific, short_number

SCORING_WORDS = {"paired": "paired", "native": "native", "pseudo_likelihood": "pseudo-likelihood"}
TOKENS_AXIS = "training tokens"
COMPUTE_AXES = {"flops_paper": "FLOPs so far, paper convention", "flops_train": "FLOPs so far, train convention"}


@dataclasses.dataclass(frozen=True)
class Section:
    """Figures that belong together."""

    title: str
    text: str
    panels: Sequence[Panel]


@dataclasses.dataclass(frozen=True)
class Report:
    """A rendered page and what it says.

    Attributes:
      html: the page.
      panels: its figures, to be saved on their own.
      findings: its headline sentences.
      laws: each fitted law's JSON, with family, role and axis.
    """

    html: str
    panels: tuple[Panel, ...]
    findings: tuple[str, ...]
    laws: tuple[dict[str, object], ...]


def render_report(folder: str | Path, *, bootstraps: int = 1000, seed: int = 0) -> Report:
    """Renders the report of a study folder; the same folder gives the same bytes.

    Args:
      folder: holds study.json, results.csv, evaluations.csv and runs/ (see triarch.report.study), and may hold
        analysis/ (see triarch.report.evaluations).
      bootstraps: resamples behind every interval and band.
      seed: of the resampling.

    Raises:
      UserError: a file of the folder is missing or misshapen.
    """
    study = read_study(folder)
    budgets = analyse_budgets(study, bootstraps, seed) if has_budgets(study) else None
    laws = [] if budgets else family_laws(study, bootstraps, seed)
    tasks = study_tasks(study)
    sections = [
        _training_section(study),
        *(Section(*parts) for parts in (budgets.sections if budgets else ())),
        _scaling_section(study, laws, "num_params"),
        _scaling_section(study, laws, "flops"),
        _frontier_section(study),
        *(Section(*parts) for parts in analysis_sections(study, tasks)),
    ]
    sentences = [*(Finding(*words) for words in (budgets.findings if budgets else ())), *findings(study, laws)]
    template = _environment().get_template("report.html.j2")
    page = template.render(
        study=study,
        findings=sentences,
        facts=_facts(study),
        sections=[section for section in sections if section.panels],
        evaluations=_evaluation_tables(study),
        suite=suite_table(study.folder),
        tasks=task_table(tasks),
        costs=[(study.label(run.family), run) for run in study.runs],
        laws=[_law_row(study, law) for law in laws if law.fit],
        budgets=budgets,
        warnings=[*_segment_warnings(study), *_law_warnings(study, laws), *(budgets.warnings if budgets else ())],
        explorer=explorer_data(study),
        packed_plotly=packed_plotly,
        configs=[(run, run.config) for run in study.runs if run.config],
        palette=list(zip(SERIES, SERIES_DARK, strict=True)),
        bootstraps=bootstraps,
        seed=seed,
    )
    panels = tuple(panel for section in sections for panel in section.panels)
    fitted = [
        {"family": law.family, "role": law.corpus.role, "corpus": law.corpus.name, "axis": law.axis} | law.fit.to_json()
        for law in laws
        if law.fit
    ]
    fitted += budgets.fits if budgets else ()
    return Report(page, panels, tuple(map(str, sentences)), tuple(fitted))


def _segment_warnings(study: StudyFolder) -> list[tuple[str, list[str]]]:
    """Returns each way in which runs were trained under several configs, as config.gin tells it, with the runs."""
    about: dict[str, list[str]] = {}
    for run in study.runs:
        lines = [line.removeprefix("# ") for line in run.config.splitlines() if line.startswith("# from step ")]
        if lines:
            about.setdefault(f"trained in {len(lines)} segments: {', '.join(lines)}", []).append(run.name)
    return list(about.items())


def render_tuning(folders: Sequence[str | Path]) -> Report:
    """Renders what `triarch evaluate --rank_file` found of models before and after tuning.

    Args:
      folders: each the --output of an evaluation; models are compared with those of all.

    Raises:
      UserError: a table is missing or misshapen.
    """
    rankers = [one for folder in folders for one in read_rankers(Path(folder))]
    panels = tuning_panels(rankers)
    page = (
        _environment()
        .get_template("tuning.html.j2")
        .render(panels=panels, rankers=rankers, text=TEXT, palette=list(zip(SERIES, SERIES_DARK, strict=True)))
    )
    return Report(page, tuple(panels), (), ())


def write_report(
    folder: str | Path | None,
    output: str | Path,
    *,
    bootstraps: int = 1000,
    seed: int = 0,
    figures_folder: str | Path | None = None,
    ranks: Sequence[str | Path] = (),
) -> Report:
    """Renders a study's report into one HTML file, and its figures (.svg, .png, .csv each) into a folder if asked.

    Without a study, that of `ranks`; see `render_tuning`.

    Raises:
      UserError: as `render_report`; or the output is no .html path or cannot be written.
    """
    output = Path(output)
    if output.suffix not in (".html", ".htm"):
        raise UserError(f"{output}: expected an output path that ends in .html")
    if seed < 0:
        raise UserError(f"--seed={seed}: expected a whole number from 0 on")
    report = render_tuning(ranks) if folder is None else render_report(folder, bootstraps=bootstraps, seed=seed)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if figures_folder is not None:
            Path(figures_folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be made: {error.strerror}") from None
    if figures_folder is not None:
        for panel in report.panels:
            for suffix in (".svg", ".png", ".csv"):
                panel.save(Path(figures_folder) / (panel.name + suffix))
    write_output(output, report.html.encode())
    return report


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("triarch.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "drawn": lambda panel: markupsafe.Markup(panel.svg()),
        "data_uri": lambda panel: "data:text/csv;base64," + base64.b64encode(panel.csv().encode()).decode(),
        "short": short_number,
        "scientific": scientific,
        "duration": duration,
        "decimals": lambda value, digits: f"{value:.{digits}f}" if math.isfinite(value) else "\N{EN DASH}",
        "result": lambda value: "\N{EN DASH}" if math.isnan(value) else four_decimals(value),
        "percent": lambda value: f"{value:.1%}" if math.isfinite(value) else "\N{EN DASH}",
        "whole": lambda value: f"{value:,.0f}" if math.isfinite(value) else "\N{EN DASH}",
    }
    return environment


def _facts(study: StudyFolder) -> list[tuple[str, str]]:
    finished = [run for run in study.runs if run.finished]
    sizes = [run.numbers["num_params"] for run in finished]
    return [
        ("runs", str(len(finished))),
        ("families", ", ".join(study.label(family) for family in study.families)),
        ("parameters", f"{short_number(min(sizes))} to {short_number(max(sizes))}"),
        (
            "tokens each",
            " to ".join(
                dict.fromkeys(short_number(f(r.numbers["train_tokens"] for r in finished)) for f in (min, max))
            ),
        ),
        *([("time, begin to end", duration(study.elapsed))] if study.elapsed else []),
        ("time of all stages", duration(study.seconds)),
        ("hardware", study.hardware),
    ]


def _curves(study: StudyFolder, family: str, axis: str) -> list[tuple[Curve, StudyRun]]:
    runs = [run for run in study.of_family(family) if len(run.metrics["step"]) > 1]
    label = study.label(family)
    return [(Curve(run.size, label, run.metrics[axis], run.metrics["loss"]), run) for run in runs]


def _training_section(study: StudyFolder) -> Section:
    panels = []
    for index, family in enumerate(study.families):
        # Of several runs of a size the longest: more curves than sizes cannot be told apart.
        longest = {run.size: run for run in sorted(study.of_family(family), key=lambda r: r.numbers["train_tokens"])}
        curves = [curve for curve, run in _curves(study, family, "tokens") if longest[run.size] is run]
        if curves:
            panel = training_panel(f"training-{index}", study.label(family), curves, index, TOKENS_AXIS)
            panels.append(_captioned(panel, f"{study.label(family)}'s own objective, by size"))
    text = (
        "Training loss of each run, smoothed, against tokens read; stronger lines are larger models. Each family's"
        " loss is that of its own objective, so curves are comparable within a panel, not between panels."
    )
    return Section("Loss along training", text, panels)


def _scaling_section(study: StudyFolder, laws: Sequence[FamilyLaw], kind: str) -> Section:
    """Returns the figures on the axes of a kind; families of different scorings are not in one."""
    panels = []
    scorings = dict.fromkeys(law.scoring for law in laws)
    for axis in [axis for axis in AXES if axis.startswith(kind)]:
        for corpus in study.corpora:
            for scoring in scorings:
                series = [_series(study, laws, family, corpus, axis, scoring) for family in study.families]
                if any(series):
                    panels.append(_scaling_panel(study, corpus, axis, scoring, series))
    explained = (
        "Each point is a finished run with its 95% interval from evaluation; lines are the fitted power laws, bands"
        " their bootstrap intervals. Hollow points are pseudo-likelihoods, in figures of their own: these see what"
        " comes after a token too."
    )
    if is_size(kind):
        return Section("Loss against parameters", explained, panels)
    conventions = (
        " The paper convention counts the forward pass only, the whole attention square and the embedding as a matrix"
        " product; the train convention counts forward and backward passes and the causal half of attention."
    )
    return Section("Loss against compute", explained + conventions, panels)


def _scaling_panel(
    study: StudyFolder, corpus: ScoredCorpus, axis: str, scoring: str, series: Sequence[Series | None]
) -> Panel:
    title, label = corpus.title, "parameters"
    if not is_size(axis):
        convention = f", {axis.removeprefix('flops_')} convention"
        title, label = f"{title}{convention}", f"training FLOPs{convention}"
    elif axis != "num_params":
        title, label = f"{title}, without the embedding", "parameters without the embedding"
    name = f"{axis.replace('_', '-')}-{corpus.slug}"
    if scoring != "paired":
        name, title = f"{name}-{scoring.replace('_', '-')}", f"{title}, {SCORING_WORDS[scoring]}"
    panel = scaling_panel(name, title, series, label, powers=not is_size(axis))
    return _captioned(panel, f"{_listed(series)} {corpus.words}, {_SCORED[scoring]}")


# What scorings ask of a model, in captions.
_SCORED = {
    "paired": "the same targets after the same prefix",
    "pseudo_likelihood": "each token given all others",
    "native": "each by its own objective",
}


def _listed(series: Sequence[Series | None]) -> str:
    return ", ".join(one.label for one in series if one is not None)


def _captioned(panel: Panel, caption: str) -> Panel:
    return dataclasses.replace(panel, caption=caption)


def _series(
    study: StudyFolder, laws: Sequence[FamilyLaw], family: str, corpus: ScoredCorpus, axis: str, scoring: str
) -> Series | None:
    for law in laws:
        if (law.family, law.corpus, law.axis, law.scoring) == (family, corpus, axis, scoring):
            note = "" if law.scoring == "paired" else SCORING_WORDS[law.scoring]
            names = [f"{study.label(family)} {run.size}" for run in law.runs]
            return Series(study.label(family), names, law.x, law.loss, law.error, law.fit, note)
    return None


def _frontier_section(study: StudyFolder) -> Section:
    """Returns the figures of loss along training; architectures, whose losses are not of the same tokens after the same
    text, are not in one."""
    panels = []
    architectures = dict.fromkeys(run.architecture for family in study.families for run in study.of_family(family))
    for axis, label in COMPUTE_AXES.items():
        convention = axis.removeprefix("flops_")
        for architecture in architectures:
            own = [family for family in study.families for run in study.of_family(family)[:1]
                   if run.architecture == architecture]  # fmt: skip
            curves = [curve for family in own for curve, _ in _curves(study, family, axis)]
            if curves:
                groups = [study.label(family) for family in study.families]
                names = ", ".join(study.label(family) for family in own)
                panel = frontier_panel(
                    f"frontier-{convention}-{architecture}", f"{names}, {convention} convention", curves, groups, label
                )
                panels.append(_captioned(panel, f"training loss of {names}; circles are ends of runs"))
    text = (
        "Thin lines are runs, thick lines a family's frontier: the least training loss any of its runs had reached with"
        " so much compute. Circles are where runs end. Before that a run is in the middle of its schedule: where its"
        " rate is still to fall it has not annealed, and a run that ended there would have reached less. Architectures"
        " have figures of their own, for their losses are of other tokens after other text."
    )
    return Section("Loss against compute along training", text, panels)


def _evaluation_tables(study: StudyFolder) -> list[dict[str, object]]:
    """Returns a table for each corpus, and an empty one for each role that has none."""
    tables: list[dict[str, object]] = []
    for corpus in study.corpora:
        rows = [
            (study.label(run.family), run, evaluation, SCORING_WORDS[evaluation.scoring])
            for run in study.runs
            for evaluation in run.evaluations
            if evaluation.corpus == corpus.name
        ]
        made = dict.fromkeys(evaluation.made_with for _, _, evaluation, _ in rows if evaluation.made_with)
        tables.append({"title": corpus.title, "rows": rows, "made_with": list(made)})
    missing = [role for role in ROLE_WORDS if role not in {corpus.role for corpus in study.corpora}]
    return tables + [{"title": ROLE_WORDS[role].capitalize(), "rows": [], "made_with": []} for role in missing]


def _law_row(study: StudyFolder, law: FamilyLaw) -> dict[str, object]:
    fit = law.fit
    return {
        "family": study.label(law.family),
        "corpus": law.corpus.title,
        "axis": AXES[law.axis],
        "formula": fit.formula(),
        "alpha": _estimate(fit, "alpha"),
        "A": _estimate(fit, "A"),
        "E": _estimate(fit, "E") if fit.offset_fitted else "not identified",
        "points": fit.num_points,
        "objective": fit.objective,
        "values": fit.parameters,
    }


def _estimate(fit: Fit, name: str) -> str:
    value = f"{fit.parameters[name]:.3g}"
    if name not in fit.intervals:
        return value
    low, high = fit.intervals[name]
    return f"{value} [{low:.3g}, {high:.3g}]"


def _law_warnings(study: StudyFolder, laws: Sequence[FamilyLaw]) -> list[tuple[str, list[str]]]:
    """Returns each different warning with the laws it is about."""
    about: dict[str, list[str]] = {}
    for law in laws:
        name = f"{study.label(law.family)}, {law.corpus.title}, {AXES[law.axis]}"
        reasons = law.fit.warnings if law.fit else (f"{len(law.x)} run: a law needs at least two sizes",)
        for warning in reasons:
            about.setdefault(warning, []).append(name)
    return list(about.items())
