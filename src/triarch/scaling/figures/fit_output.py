"""The figures of an outcome, and the folder it is written to."""

from __future__ import annotations

import json
import re
from pathlib import Path

from triarch.errors import UserError
from triarch.scaling.figures import panels
from triarch.scaling.figures.chinchilla_figures import contour_panel, slices_panel
from triarch.scaling.figures.comparison_figures import frontiers_panel, gap_panel, settings_panel
from triarch.scaling.figures.fit_figures import (
    agreement_panel,
    curve_panel,
    held_out_panel,
    profile_panel,
    residual_panel,
)
from triarch.scaling.figures.fit_text import describe
from triarch.scaling.figures.optimum_figures import envelope_panel, isoflop_panel, line_panel
from triarch.scaling.figures.style import Panel, csv_text, write_output
from triarch.scaling.fitting.fit import costs_of
from triarch.scaling.fitting.outcome import Outcome, Part, residual_table, sample_table
from triarch.scaling.fitting.result import Fit
from triarch.scaling.laws.allocation import Allocation
from triarch.scaling.laws.frontier import Frontier
from triarch.scaling.laws.hyperparameters import Hyperparameters

SUFFIXES = (".svg", ".pdf", ".png", ".csv")


def main_panel(outcome: Outcome) -> Panel:
    """Returns the one figure that shows the law over its data; of several groups, all of them."""
    if outcome.comparisons:
        compared = _comparison_panels(outcome)
        if compared:
            return compared[0]
    return _law_panel(outcome.parts[0], "fit")


def all_panels(outcome: Outcome) -> list[Panel]:
    """Returns every figure."""
    panels = []
    for part in outcome.parts:
        panels += _part_panels(part)
    return panels + _comparison_panels(outcome)


def write_folder(outcome: Outcome, folder: str | Path) -> list[str]:
    """Writes fit.json, summary.txt, the residuals and resamples of each law, and every figure with its data.

    Returns:
      The names of the files written.

    Raises:
      UserError: the folder cannot be made or written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}") from None
    content = {
        "fit.json": json.dumps(outcome.result, indent=2, allow_nan=False) + "\n",
        "summary.txt": describe(outcome) + "\n",
    }
    for part in outcome.parts:
        for name, (columns, rows) in (("residuals", residual_table(part)), ("resamples", sample_table(part))):
            if columns:
                content[f"{_stem(part)}{name}.csv"] = csv_text(columns, rows)
    for name, text in content.items():
        write_output(folder / name, text.encode())
    written = list(content)
    for panel in all_panels(outcome):
        for suffix in SUFFIXES:
            written.append(panel.save(folder / f"{panel.name}{suffix}").name)
    return written


def _stem(part: Part) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", part.label) + "-" if part.label else ""


def _law_panel(part: Part, name: str) -> Panel:
    fit, label = part.fit, f"{part.label}: " if part.label else ""
    if isinstance(fit, Allocation):
        return isoflop_panel(name, fit) if fit.law == "isoflop" else envelope_panel(name, fit)
    if isinstance(fit, Hyperparameters):
        return agreement_panel(name, f"{label}best learning rate", fit.learning_rate, "learning rate")
    title = f"{label}{fit.formula()}"
    if fit.law == "chinchilla":
        return panels.parametric_panel(name, title, fit, *fit.values.T, fit.target)
    if fit.law == "power":
        return panels.law_panel(name, title, fit, fit.values[:, 0], fit.target)
    y_label = getattr(fit.form, "output", "loss" if fit.form.log_target else "accuracy")
    if len(fit.inputs) == 1:
        return curve_panel(name, title, fit, y_label)
    return agreement_panel(name, title, fit, y_label)


def _part_panels(part: Part) -> list[Panel]:
    fit, stem = part.fit, _stem(part)
    panels = [_law_panel(part, f"{stem}law")]
    if isinstance(fit, Allocation):
        return panels + [line_panel(f"{stem}optimal-{which}", fit, which) for which in ("N", "D", "loss")]
    if isinstance(fit, Hyperparameters):
        return [*panels, curve_panel(f"{stem}batch", "Best batch", fit.batch, "batch")]
    if fit.law == "chinchilla" and min(fit.parameters["alpha"], fit.parameters["beta"]) > 0:
        cost = costs_of(part.columns)[0]
        panels += [contour_panel(f"{stem}contours", fit, cost), slices_panel(f"{stem}isoflop-slices", fit, cost)]
    return panels + _check_panels(part, fit, stem)


def _check_panels(part: Part, fit: Fit, stem: str) -> list[Panel]:
    numbers, found = part.columns.numbers(), part.diagnosis
    panels = [
        residual_panel(
            f"{stem}residuals-{_word(name)}", f"Residuals against {name}", fit, axis, found.influence, numbers
        )
        for axis, name in enumerate(fit.inputs)
    ]
    panels += [profile_panel(f"{stem}profile-{_word(one.name)}", one, fit) for one in found.profiles]
    if found.held_out is not None:
        panels.append(held_out_panel(f"{stem}held-out", fit, found.held_out, numbers))
    return panels


def _comparison_panels(outcome: Outcome) -> list[Panel]:
    """Returns, for each axis, all groups' frontiers (or best settings) together, and the gap of every two."""
    if isinstance(outcome.parts[0].fit, Hyperparameters) and outcome.comparisons:
        return _settings_panels(outcome)
    along: dict[str, dict[str, Frontier]] = {}
    gaps = []
    for comparison in outcome.comparisons:
        names = (comparison.first, comparison.second)
        for axis in comparison.axes:
            along.setdefault(axis.axis, {}).update(zip(names, axis.frontiers, strict=True))
            name = "-".join(["gap", _word(axis.axis), *map(_word, names)])
            gaps.append(gap_panel(name, f"{names[1]} against {names[0]}", names, axis))
    together = [
        frontiers_panel(f"frontiers-{_word(axis)}", f"Least loss along {axis}", list(members.items()))
        for axis, members in along.items()
    ]
    return together + gaps


def _settings_panels(outcome: Outcome) -> list[Panel]:
    panels = []
    for what in ("learning_rate", "batch"):
        laws = [(part.label, getattr(part.fit, what)) for part in outcome.parts]
        word = what.replace("_", " ")
        for axis, name in enumerate(laws[0][1].inputs):
            panels.append(settings_panel(f"best-{_word(word)}-{name}", f"Best {word} along {name}", laws, axis, word))
    return panels


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)
