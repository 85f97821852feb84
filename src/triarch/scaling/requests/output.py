"""The figures of an outcome, and the folder it is written to."""

from __future__ import annotations

import json
from pathlib import Path

from triarch.errors import UserError
from triarch.scaling.figures.style import Panel, csv_text, write_output
from triarch.scaling.requests.outcome import Outcome, residual_table, sample_table
from triarch.scaling.requests.text import describe
from triarch.scaling.words import file_name

SUFFIXES = (".svg", ".pdf", ".png", ".csv")


def main_panel(outcome: Outcome) -> Panel:
    """Returns the one figure that shows the law over its data; of several groups, all of them."""
    compared = _comparison_panels(outcome)
    return compared[0] if compared else outcome.request.law.panel(outcome.parts[0], "fit")


def all_panels(outcome: Outcome) -> list[Panel]:
    """Returns every figure."""
    law = outcome.request.law
    panels = [panel for part in outcome.parts for panel in law.panels(part, _stem(part.label))]
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
                content[f"{_stem(part.label)}{name}.csv"] = csv_text(columns, rows)
    for name, text in content.items():
        write_output(folder / name, text.encode())
    written = list(content)
    for panel in all_panels(outcome):
        for suffix in SUFFIXES:
            written.append(panel.save(folder / f"{panel.name}{suffix}").name)
    return written


def _comparison_panels(outcome: Outcome) -> list[Panel]:
    if not outcome.comparisons:
        return []
    return outcome.request.law.comparison_panels(outcome.parts, outcome.comparisons)


def _stem(label: str) -> str:
    return f"{file_name(label)}-" if label else ""
