"""Everything `triarch fit` finds in a table: estimates, checks, optima and comparisons; as objects and as JSON."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from triarch.errors import UserError
from triarch.scaling.checks.comparison import Comparison
from triarch.scaling.checks.rivals import Rival, compare_laws
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.law import AnyFit, FittedPart, Law
from triarch.scaling.laws.registry import candidates
from triarch.scaling.requests.pairing import pair
from triarch.scaling.requests.reading import chosen_rows, read_columns
from triarch.scaling.requests.request import FitRequest
from triarch.scaling.requests.runs import by_run, runs_of
from triarch.scaling.tables.columns import Columns
from triarch.scaling.tables.table import Table

Key = TypeVar("Key", bound=Hashable)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a request: its parts, comparisons between groups, and all of it as JSON."""

    request: FitRequest
    parts: tuple[FittedPart, ...]
    comparisons: tuple[Comparison, ...]
    result: dict[str, Any]


def fit_table(
    table: Table, request: FitRequest, step: Callable[[str], None] = lambda phase: None, notes: Sequence[str] = ()
) -> Outcome:
    """Fits what a request asks for to a table.

    Args:
      table: the runs.
      request: what to fit.
      step: called with the name of each phase as it begins.
      notes: warnings on how the table came to be.

    Raises:
      UserError: a column, value or option is wrong, or the rows are too few.
    """
    request = request.bound(table.columns)
    request.check()
    table, found = chosen_rows(table, request)
    notes = [*notes, *found]
    if request.group is None:
        options, found = by_run(table, request, request.options, runs_of(table, request))
        parts = _parts({None: table}, {None: options}, request, step)
        for part in parts:
            part.result["warnings"] = [*notes, *found, *part.result["warnings"]]
        name = request.law.name
        result = parts[0].result if len(parts) == 1 else {"law": name, "fits": [part.result for part in parts]}
        return Outcome(request, parts, (), result)
    pairs = pair(_split(table, request), request)
    parts = _parts(pairs.tables, pairs.options, request, step)
    step("comparing groups")
    of_group = {group: [part for part in parts if part.group == group] for group in pairs.tables}
    comparisons = [
        request.law.compare((first, second), a, b, pairs.count)
        for first, second in itertools.combinations(pairs.tables, 2)
        for a, b in zip(of_group[first], of_group[second], strict=True)
    ]
    results = {group: [part.result for part in own] for group, own in of_group.items()}
    result = {
        "law": request.law.name,
        "groups": {group: own[0] if len(own) == 1 else {"fits": own} for group, own in results.items()},
        "comparisons": [one.to_json() for one in comparisons],
        "warnings": [*notes, *pairs.warnings],
    }
    return Outcome(request, parts, tuple(comparisons), result)


def fit_groups(
    law: Law,
    groups: Mapping[Key, Columns],
    options: Mapping[Key, FitOptions],
    step: Callable[[Key], None] = lambda group: None,
) -> dict[Key, AnyFit]:
    """Fits a law to each of several groups of rows.

    Args:
      law: the law.
      groups: the rows of each.
      options: how each is fitted: its resamples are its own, or drawn together with the others'.
      step: called with each group as its turn comes.

    Raises:
      UserError: a group has too few points, or values that the law cannot be fitted to.
    """
    fits = {}
    for group, columns in groups.items():
        step(group)
        fits[group] = law.fit(columns, options[group])
    return fits


def _parts(
    tables: Mapping[Any, Table],
    options: Mapping[Any, FitOptions],
    request: FitRequest,
    step: Callable[[str], None],
) -> tuple[FittedPart, ...]:
    law = request.law
    inputs = {group: law.split(read_columns(table, request)) for group, table in tables.items()}
    groups = {(group, x): own for group, columns in inputs.items() for x, own in columns.items()}

    def label(key: tuple[str | None, str | None]) -> str:
        group, x = key
        return " / ".join(word for word in (group, x if len(inputs[group]) > 1 else None) if word)

    def phase(what: str, key: tuple[str | None, str | None]) -> None:
        step(f"{what} ({label(key)})" if label(key) else what)

    fits = fit_groups(
        law, groups, {key: options[key[0]] for key in groups}, lambda key: phase(f"fitting {law.name}", key)
    )
    return tuple(
        _part(label(key), *key, groups[key], fit, request, functools.partial(phase, key=key))
        for key, fit in fits.items()
    )


def _part(
    label: str,
    group: str | None,
    x: str | None,
    columns: Columns,
    fit: AnyFit,
    request: FitRequest,
    step: Callable[[str], None],
) -> FittedPart:
    law = request.law
    rivals: tuple[Rival, ...] = ()
    result = fit.to_json()
    warnings = [*columns.warnings, *result["warnings"]]
    step("checking")
    diagnosis = law.diagnose(fit, request.held_out, columns.numbers())
    if diagnosis is not None:
        result |= diagnosis.to_json(fit)
        warnings += diagnosis.warnings
    if x is not None:
        result["x_column"] = x
    optima = law.optima(fit, columns, request.budgets)
    if optima is not None:
        warnings += optima.warnings
        result["optima_for_budgets"] = [dataclasses.asdict(row) for row in optima.rows]
    if request.compare_laws:
        step("comparing laws")
        rivals = tuple(_rivals(columns, request))
        result["laws_compared"] = [rival.to_json() for rival in rivals]
    if group is not None:
        result["group"] = group
    result["warnings"] = list(dict.fromkeys(warnings))
    return FittedPart(label, group, x, columns, fit, diagnosis, rivals, result)


def _rivals(columns: Columns, request: FitRequest) -> list[Rival]:
    law, options = request.law, request.options
    if not law.candidates(columns):
        raise UserError(f"--compare_laws ranks laws of the loss in N and D, or in x; --law={law.name} is none")
    by = law.needs[0].name
    share = request.held_out or 0.2
    return compare_laws(
        candidates(columns, law), columns.values["loss"], by, columns.values[by],
        share=share, confidence=options.confidence, seed=options.seed,
    )  # fmt: skip


def _split(table: Table, request: FitRequest) -> dict[str, Table]:
    assert request.group is not None
    cells = table.text(request.group)
    names = list(dict.fromkeys(cells))
    if len(names) < 2:
        raise UserError(f"{table.name}: {request.group} has one value, {names[0]!r}: a comparison needs two or more")
    return {name: table.select([i for i, cell in enumerate(cells) if cell == name]) for name in names}


def residual_table(part: FittedPart) -> tuple[list[str], list[list[object]]]:
    """Returns each row's inputs, observed and predicted value, residual and influence; empty for laws without."""
    fit = part.fit
    if part.diagnosis is None:
        return [], []
    found = part.diagnosis.influence
    influences = [f"influence_on_{name}" for name in found.names]
    header = ["row", *fit.inputs, fit.form.output, "predicted", "residual", *influences]
    predicted = fit.predict(*fit.values.T)
    rows = [
        [number, *map(float, values), float(seen), float(wanted), float(residual), *map(float, shift)]
        for number, values, seen, wanted, residual, shift in zip(
            part.columns.numbers(), fit.values, fit.target, predicted, found.residual, found.shift, strict=True
        )
    ]
    return header, rows


def sample_table(part: FittedPart) -> tuple[list[str], list[list[object]]]:
    """Returns the bootstrap's estimates, a row for each resample; empty without bootstraps."""
    samples = part.fit.samples
    if not samples:
        return [], []
    return list(samples), [list(map(float, row)) for row in np.column_stack(list(samples.values()))]
