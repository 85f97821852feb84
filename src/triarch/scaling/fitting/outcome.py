"""Everything `triarch fit` finds in a table: estimates, checks, optima and comparisons; as objects and as JSON."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from triarch.errors import UserError
from triarch.scaling.checks.comparison import Comparison, compare_chinchilla, compare_frontiers, compare_hyperparameters
from triarch.scaling.checks.diagnosis import Diagnosis, diagnose
from triarch.scaling.checks.rivals import Rival, compare_laws
from triarch.scaling.fitting.fit import FitResult, cost_warnings, costs_of, fit_columns, flops_of
from triarch.scaling.fitting.pairing import pair
from triarch.scaling.fitting.request import Request
from triarch.scaling.fitting.result import Fit
from triarch.scaling.laws.allocation import Allocation
from triarch.scaling.laws.frontier import Frontier
from triarch.scaling.laws.hyperparameters import Hyperparameters
from triarch.scaling.laws.optimum import optima
from triarch.scaling.tables.columns import Columns, chosen_rows, read_columns
from triarch.scaling.tables.table import Table


@dataclasses.dataclass(frozen=True)
class Part:
    """One law fitted to one set of rows.

    Attributes:
      label: which, "" where there is only one: a group, an x column, or both.
      group, x: the two apart; None where not asked for.
      columns: the rows.
      fit: the law.
      diagnosis: of a Fit; None for laws that have other checks of their own.
      rivals: laws ranked by held-out error, if asked for.
      result: the JSON.
    """

    label: str
    group: str | None
    x: str | None
    columns: Columns
    fit: FitResult
    diagnosis: Diagnosis | None
    rivals: tuple[Rival, ...]
    result: dict[str, object]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a request: its parts, comparisons between groups, and all of it as JSON."""

    request: Request
    parts: tuple[Part, ...]
    comparisons: tuple[Comparison, ...]
    result: dict[str, object]


def fit_table(table: Table, request: Request, step: Callable[[str], None] = lambda phase: None) -> Outcome:
    """Fits what a request asks for to a table.

    Args:
      table: the runs.
      request: what to fit.
      step: called with the name of each phase as it begins.

    Raises:
      UserError: a column, value or option is wrong, or the rows are too few.
    """
    request.check()
    table, notes = chosen_rows(table, request)
    if request.group is None:
        parts = tuple(_parts(table, request, None, None, step))
        for part in parts:
            part.result["warnings"] = [*notes, *part.result["warnings"]]
        result = parts[0].result if len(parts) == 1 else {"law": request.law, "fits": [p.result for p in parts]}
        return Outcome(request, parts, (), result)
    return _grouped(table, request, notes, step)


def _parts(
    table: Table, request: Request, group: str | None, weights: np.ndarray | None, step: Callable[[str], None]
) -> list[Part]:
    columns = read_columns(table, request)
    xs = list(columns.several["x"]) if request.law == "power" else [None]
    parts = []
    for x in xs:
        label = " / ".join(word for word in (group, x if len(xs) > 1 else None) if word)
        step(f"fitting {request.law}" + (f" ({label})" if label else ""))
        parts.append(_part(label, group, x, columns, request, weights, step))
    return parts


def _part(
    label: str,
    group: str | None,
    x: str | None,
    columns: Columns,
    request: Request,
    weights: np.ndarray | None,
    step: Callable[[str], None],
) -> Part:
    fit = fit_columns(request, columns, weights, x)
    diagnosis, rivals = None, ()
    result = fit.to_json()
    warnings = [*columns.warnings, *result["warnings"]]
    if isinstance(fit, Fit):
        step("checking" + (f" ({label})" if label else ""))
        diagnosis = diagnose(fit, request.held_out, columns.numbers())
        result |= diagnosis.to_json(fit)
        warnings += diagnosis.warnings
    if x is not None:
        result["x_column"] = x
    if request.law in ("chinchilla", "isoflop", "envelope"):
        costs = costs_of(columns)
        warnings += cost_warnings(columns, costs) if request.law == "chinchilla" else []
        budgets = request.budgets or _default_budgets(flops_of(columns))
        if isinstance(fit, Allocation):
            costs = costs[:1]
        rows = [row for cost in costs for row in optima(fit, cost, budgets)]
        if not all(np.isfinite(row.loss) for row in rows):
            warnings.append("the loss does not fall along both N and D: the law has no compute optimum")
            rows = []
        result["optima_for_budgets"] = [dataclasses.asdict(row) for row in rows]
    if request.compare_laws:
        step("comparing laws" + (f" ({label})" if label else ""))
        rivals = tuple(_rivals(columns, request, x))
        result["laws_compared"] = [rival.to_json() for rival in rivals]
    if group is not None:
        result["group"] = group
    result["warnings"] = list(dict.fromkeys(warnings))
    return Part(label, group, x, columns, fit, diagnosis, rivals, result)


def _default_budgets(flops: np.ndarray) -> tuple[float, ...]:
    largest = float(flops.max())
    return (largest, 10.0 * largest)


def _rivals(columns: Columns, request: Request, x: str | None) -> list[Rival]:
    v = columns.values
    if request.law == "power":
        named = {"x": columns.several["x"][x]}
    elif request.law in ("chinchilla", "data_constrained"):
        named = {role: v[role] for role in ("params", "tokens", "unique_tokens") if role in v}
    else:
        raise UserError(f"--compare_laws ranks laws of the loss in N and D, or in x; --law={request.law} is none")
    share = request.held_out or 0.2
    return compare_laws(named, v["loss"], share=share, confidence=request.confidence, seed=request.seed)


def _grouped(table: Table, request: Request, notes: list[str], step: Callable[[str], None]) -> Outcome:
    pairs = pair(_split(table, request), request)
    parts: list[Part] = []
    for index, (group, own) in enumerate(pairs.tables.items()):
        apart = dataclasses.replace(request, seed=request.seed + (0 if pairs.count else index))
        parts += _parts(own, apart, group, pairs.weights[group] if pairs.weights else None, step)
    step("comparing groups")
    comparisons = [
        found
        for first, second in itertools.combinations(pairs.tables, 2)
        for found in _compare(parts, first, second, pairs.count)
    ]
    result = {
        "law": request.law,
        "groups": {group: _of_group(parts, group) for group in pairs.tables},
        "comparisons": [one.to_json() for one in comparisons],
        "warnings": [*notes, *pairs.warnings],
    }
    return Outcome(request, tuple(parts), tuple(comparisons), result)


def _of_group(parts: Sequence[Part], group: str) -> dict[str, object]:
    own = [part.result for part in parts if part.group == group]
    return own[0] if len(own) == 1 else {"fits": own}


def _split(table: Table, request: Request) -> dict[str, Table]:
    cells = table.text(request.group)
    names = list(dict.fromkeys(cells))
    if len(names) < 2:
        raise UserError(f"{table.name}: {request.group} has one value, {names[0]!r}: a comparison needs two or more")
    return {name: table.select([i for i, cell in enumerate(cells) if cell == name]) for name in names}


def _compare(parts: Sequence[Part], first: str, second: str, pairs: int) -> list[Comparison]:
    found = []
    for a, b in zip(*([part for part in parts if part.group == name] for name in (first, second)), strict=True):
        names = (first, second)
        if isinstance(a.fit, Hyperparameters):
            found.append(compare_hyperparameters(names, a.fit, b.fit, pairs))
            continue
        if a.fit.law == "chinchilla":
            costs = list(zip(costs_of(a.columns), costs_of(b.columns), strict=True))
            found.append(compare_chinchilla(names, a.fit, b.fit, costs, pairs))
            continue
        fits, frontiers = (a.fit, b.fit), []
        if a.fit.law == "power":
            frontiers = [(Frontier.of_power(a.fit, a.x), Frontier.of_power(b.fit, b.x))]
        elif isinstance(a.fit, Allocation):
            axis = next(iter(a.columns.several.get("flops", {})), "6ND")
            fits = a.fit.together(b.fit) if pairs else fits
            frontiers = [tuple(Frontier.of_allocation(fit, axis) for fit in fits)]
        found.append(compare_frontiers(names, fits, frontiers, pairs))
    return found


def residual_table(part: Part) -> tuple[list[str], list[list[object]]]:
    """Returns each row's inputs, observed and predicted value, residual and influence; empty for laws without."""
    fit = part.fit
    if not isinstance(fit, Fit) or part.diagnosis is None:
        return [], []
    found = part.diagnosis.influence
    target = getattr(fit.form, "output", "loss" if fit.form.log_target else "accuracy")
    header = ["row", *fit.inputs, target, "predicted", "residual", *(f"influence_on_{name}" for name in found.names)]
    predicted = fit.predict(*fit.values.T)
    rows = [
        [number, *map(float, values), float(seen), float(wanted), float(residual), *map(float, shift)]
        for number, values, seen, wanted, residual, shift in zip(
            part.columns.numbers(), fit.values, fit.target, predicted, found.residual, found.shift, strict=True
        )
    ]
    return header, rows


def sample_table(part: Part) -> tuple[list[str], list[list[object]]]:
    """Returns the bootstrap's estimates, a row for each resample; empty without bootstraps."""
    samples: Mapping[str, np.ndarray] = getattr(part.fit, "samples", {})
    if not samples:
        return [], []
    return list(samples), [list(map(float, row)) for row in np.column_stack(list(samples.values()))]
