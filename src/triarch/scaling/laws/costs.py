"""What the runs of a table cost, in each convention of FLOPs that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from triarch.scaling.fitting.cost import Cost
from triarch.scaling.tables.columns import Columns


def flops_of(columns: Columns) -> np.ndarray:
    """Returns the table's (first) FLOPs, or 6 N D."""
    if "flops" in columns.values:
        return columns.values["flops"]
    return Cost().flops(columns.values["params"], columns.values["tokens"])


def costs_of(columns: Columns) -> list[Cost]:
    """Returns what runs cost in each convention the table has FLOPs of; C = 6 N D where it has none."""
    conventions: Mapping[str, np.ndarray] = columns.several.get("flops", {})
    if not conventions:
        return [Cost()]
    params, tokens = columns.values["params"], columns.values["tokens"]
    return [Cost.of_runs(params, tokens, flops, name) for name, flops in conventions.items()]


def cost_warnings(columns: Columns, costs: Sequence[Cost]) -> list[str]:
    """Returns warnings on FLOPs that no cost k N^e D describes within 10 %."""
    warnings = []
    for cost, flops in zip(costs, columns.several.get("flops", {}).values(), strict=False):
        predicted = cost.flops(columns.values["params"], columns.values["tokens"])
        worst = float(np.abs(np.log(flops / predicted)).max())
        if worst > 0.1:
            warnings.append(
                f"{cost.name} is up to {np.expm1(worst):.0%} off {cost.coefficient:.3g} N^{cost.exponent:.3g} D, which"
                " frontiers and optima are computed with"
            )
    return warnings
