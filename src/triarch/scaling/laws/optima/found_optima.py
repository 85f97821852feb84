"""What the laws have in common that find optima in runs and draw lines through them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from triarch.scaling.checks.comparison import Comparison
from triarch.scaling.checks.frontier import Frontier
from triarch.scaling.figures.optimum_figures import line_panel
from triarch.scaling.figures.style import Panel
from triarch.scaling.fitting.allocation import LINES, Allocation
from triarch.scaling.laws.costs import costs_of, flops_of
from triarch.scaling.laws.law import FittedPart, Law
from triarch.scaling.laws.optima.optimum import Optima, Optimum, budgets_or_usual
from triarch.scaling.tables.columns import Columns


class FoundOptima(Law):
    """A law whose fit is an Allocation; it resamples residuals or whole runs, so that pairs are named, not weighted."""

    def optima(self, fit: Allocation, columns: Columns, budgets: Sequence[float]) -> Optima:
        """Returns the best runs on the lines, in the convention of FLOPs that they were drawn in."""
        cost = costs_of(columns)[0]
        wanted = budgets_or_usual(budgets, flops_of(columns))
        return Optima.checked([_on_lines(fit, cost.name, budget) for budget in wanted])

    def frontiers(self, part: FittedPart) -> list[Frontier]:
        """Returns the line through the losses of the optima."""
        return [Frontier.of_allocation(part.fit, next(iter(part.columns.several.get("flops", {})), "6ND"))]

    def compare(self, names: tuple[str, str], first: FittedPart, second: FittedPart, pairs: int) -> Comparison:
        """Compares exponents and frontiers; of pairs, by those resamples alone that both have."""
        if pairs:
            a, b = first.fit.together(second.fit)
            first, second = dataclasses.replace(first, fit=a), dataclasses.replace(second, fit=b)
        return super().compare(names, first, second, pairs)

    def panels(self, part: FittedPart, stem: str) -> list[Panel]:
        """Returns the law and each of its lines."""
        lines = [line_panel(f"{stem}optimal-{which}", part.fit, which) for which in LINES]
        return [self.panel(part, f"{stem}law"), *lines]


def _on_lines(fit: Allocation, cost: str, flops: float) -> Optimum:
    found = fit.optimum(flops)
    return Optimum(flops, cost, *found["N"], *found["D"], *found["loss"], flops / float(fit.flops.max()))
