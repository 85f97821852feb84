"""Chinchilla's law of size and data: Hoffmann et al. 2022, arXiv 2203.15556."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from triarch.errors import UserError
from triarch.scaling.checks.comparison import Comparison, compare_chinchilla
from triarch.scaling.checks.frontier import Frontier
from triarch.scaling.checks.rivals import RivalForm
from triarch.scaling.figures.chinchilla_figures import contour_panel, slices_panel
from triarch.scaling.figures.panels import parametric_panel
from triarch.scaling.figures.style import Panel
from triarch.scaling.fitting.cost import Cost
from triarch.scaling.fitting.estimate import estimate
from triarch.scaling.fitting.options import DEFAULTS, FitOptions
from triarch.scaling.fitting.result import Fit
from triarch.scaling.laws.checked import check_varies, checked, doubts
from triarch.scaling.laws.costs import cost_warnings, costs_of, flops_of
from triarch.scaling.laws.law import FittedPart, setting
from triarch.scaling.laws.optima.optimum import Optima, Optimum, budgets_or_usual
from triarch.scaling.laws.parametric import ParametricLaw
from triarch.scaling.laws.power_sum import PowerSum
from triarch.scaling.tables.columns import Columns
from triarch.scaling.tables.roles import FLOPS, LOSS, PARAMS, TOKENS


@dataclasses.dataclass(frozen=True)
class Chinchilla(ParametricLaw):
    """L(N, D) = E + A / N^alpha + B / D^beta."""

    name = "chinchilla"
    text = "L = E + A / N^alpha + B / D^beta"
    needs = (PARAMS, TOKENS, LOSS)
    takes = (FLOPS,)
    from_flops = True

    offset: str = setting(
        "auto", "E; auto sets the power law's to zero, with a warning, where data do not identify it (default: auto)",
        choices=("auto", "free", "zero"),
    )  # fmt: skip

    def form(self, columns: Columns) -> PowerSum:
        """Returns the sum of two powers, with its offset unless that is zero."""
        return PowerSum(("N", "D"), self.offset != "zero")

    def fit(self, columns: Columns, options: FitOptions) -> Fit:
        """Fits the law: see `fit_chinchilla`."""
        v = columns.values
        offset = "free" if self.offset == "auto" else self.offset
        return fit_chinchilla(v["params"], v["tokens"], v["loss"], options, offset=offset)

    def optima(self, fit: Fit, columns: Columns, budgets: Sequence[float]) -> Optima:
        """Returns the runs of the least loss, in each convention of FLOPs."""
        costs = costs_of(columns)
        wanted = budgets_or_usual(budgets, flops_of(columns))
        rows = [row for cost in costs for row in optima(fit, cost, wanted)]
        return Optima.checked(rows, cost_warnings(columns, costs))

    def candidates(self, columns: Columns) -> list[RivalForm]:
        """Returns the law with and without offset."""
        if not {"params", "tokens"} <= columns.values.keys():
            return []
        inputs = tuple(self.inputs(columns).values())
        return [
            RivalForm("chinchilla", PowerSum(("N", "D")), inputs),
            RivalForm("chinchilla without offset", PowerSum(("N", "D"), offset=False), inputs),
        ]

    def frontiers(self, part: FittedPart) -> list[Frontier]:
        """Returns the least loss for a budget in each convention of FLOPs."""
        return [Frontier.of_chinchilla(part.fit, cost) for cost in costs_of(part.columns)]

    def compare(self, names: tuple[str, str], first: FittedPart, second: FittedPart, pairs: int) -> Comparison:
        """Compares parameters, losses at equal N and at equal D, and frontiers."""
        costs = list(zip(costs_of(first.columns), costs_of(second.columns), strict=True))
        return compare_chinchilla(names, first.fit, second.fit, costs, pairs)

    def panel(self, part: FittedPart, name: str) -> Panel:
        """Draws loss against tokens, with lines of equal size."""
        params, tokens = part.fit.values.T
        return parametric_panel(name, self.title(part), part.fit, params, tokens, part.fit.target)

    def own_panels(self, part: FittedPart, stem: str) -> list[Panel]:
        """Returns contours and slices, where the law has a compute optimum."""
        fit = part.fit
        if min(fit.parameters["alpha"], fit.parameters["beta"]) <= 0:
            return []
        cost = costs_of(part.columns)[0]
        return [contour_panel(f"{stem}contours", fit, cost), slices_panel(f"{stem}isoflop-slices", fit, cost)]


def fit_chinchilla(
    params: np.ndarray,
    tokens: np.ndarray,
    loss: np.ndarray,
    options: FitOptions = DEFAULTS,
    *,
    offset: str = "free",
    inputs: tuple[str, str] = ("N", "D"),
) -> Fit:
    """Fits L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, section 3.3, eqs. 2 and 3).

    All 4,500 starts of the published grid are minimised and the best minimum is brought to rounding error.

    Args:
      params: float[points], model sizes N in any unit; A comes in the same.
      tokens: float[points], training tokens D in any unit; B comes in the same.
      loss: float[points], above zero.
      options: how.
      offset: "free" fits E > 0; "zero" leaves it out.
      inputs: what N and D are called in messages.

    Raises:
      UserError: fewer different (N, D) than parameters, one size only, one number of tokens only, or bad values.
    """
    if offset not in ("free", "zero"):
        raise UserError(f"offset is {offset!r}, expected free or zero for this law")
    form = PowerSum(inputs, offset == "free")
    values, loss = checked([params, tokens], loss, inputs, len(form.names) - len(form.constants) - len(options.fixed))
    check_varies(values, inputs)
    return estimate(form, values, loss, options, warnings=_warnings(values, inputs), judge=doubts)


def compute_optimal(fit: Fit, flops: float, cost: Cost | None = None) -> tuple[float, float]:
    """Returns the parameters N and tokens D of the least loss for a budget (Hoffmann et al. 2022, eq. 4).

    Args:
      fit: a Chinchilla law.
      flops: the budget C.
      cost: what a run costs; C = 6 N D without one.
    """
    params, tokens = (cost or Cost()).optimum(fit.parameters, flops)
    return float(params), float(tokens)


def optima(fit: Fit, cost: Cost, budgets: Sequence[float]) -> list[Optimum]:
    """Returns the best run for each budget under a Chinchilla law and a cost."""
    return [_optimum(fit, cost, budget) for budget in budgets]


def _optimum(fit: Fit, cost: Cost, flops: float) -> Optimum:
    params, tokens = cost.optimum(fit.parameters, flops)
    loss = fit.predict(params, tokens)
    intervals: list = [None, None, None]
    if fit.samples:
        with np.errstate(all="ignore"):
            n, d = cost.optimum(fit.samples, flops)
            drawn = np.column_stack([n, d, fit.form.predict(fit.samples, (n, d))])
        drawn = drawn[np.isfinite(drawn).all(axis=1)]
        intervals = [fit.options.interval(column) for column in drawn.T] if len(drawn) > 1 else intervals
    largest = float(np.max(cost.flops(*fit.values[:, :2].T)))
    return Optimum(flops, cost.name, float(params), intervals[0], float(tokens), intervals[1], float(loss),
                   intervals[2], flops / largest)  # fmt: skip


def _warnings(values: np.ndarray, names: Sequence[str]) -> list[str]:
    warnings = []
    if len(np.unique(values, axis=0)) == 5:
        warnings.append("5 different points and 5 parameters: the law passes through every point, nothing checks it")
    for name, column in zip(names, values.T, strict=True):
        distinct = len(np.unique(column))
        if distinct < 3:
            warnings.append(f"{name} takes only {distinct} different values: its exponent is not identified beside E")
    correlation = np.corrcoef(np.log(values).T)[0, 1]
    if abs(correlation) > 0.995:
        warnings.append(
            f"log {names[0]} and log {names[1]} move together (correlation {correlation:.4f}): their two terms can"
            " hardly be told apart; add runs with other ratios of tokens to parameters"
        )
    return warnings
