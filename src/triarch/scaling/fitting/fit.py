"""From a request and its columns to the fit it asks for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from triarch.scaling.fitting.request import Request
from triarch.scaling.fitting.result import Fit
from triarch.scaling.laws.allocation import Allocation
from triarch.scaling.laws.cost import Cost
from triarch.scaling.laws.envelope import fit_envelope
from triarch.scaling.laws.hyperparameters import TOLERANCE, Hyperparameters, fit_hyperparameters
from triarch.scaling.laws.isoflop import fit_isoflop
from triarch.scaling.laws.log_linear import fit_log_linear
from triarch.scaling.laws.losses import fit_chinchilla, fit_data_constrained, fit_downstream, fit_power
from triarch.scaling.tables.columns import Columns

FitResult = Fit | Allocation | Hyperparameters


def fit_columns(
    request: Request, columns: Columns, weights: np.ndarray | None = None, x: str | None = None
) -> FitResult:
    """Fits the law that a request names to columns that were read for it.

    Args:
      request: the law and its options.
      columns: the numbers.
      weights: float64[bootstraps, points], resamples drawn elsewhere (pairs).
      x: of the laws of one input, which of its columns; the first without.

    Raises:
      UserError: too few points, or values that the law cannot be fitted to.
    """
    v = columns.values
    options = {"bootstraps": request.bootstraps, "confidence": request.confidence, "seed": request.seed}
    drawn = options | {"weights": weights, "fixed": request.fixed}
    if request.law == "chinchilla":
        offset = "free" if request.offset == "auto" else request.offset
        return fit_chinchilla(v["params"], v["tokens"], v["loss"], offset=offset, **drawn)
    if request.law == "power":
        name = x or next(iter(columns.several["x"]))
        single = len(columns.several["x"]) == 1
        return fit_power(
            columns.several["x"][name], v["loss"], offset=request.offset, name="x" if single else name, **drawn
        )
    if request.law == "data_constrained":
        return fit_data_constrained(v["params"], v["tokens"], v["unique_tokens"], v["loss"], **drawn)
    if request.law == "log_linear":
        inputs = columns.several["x"]
        return fit_log_linear(list(inputs.values()), v["y"], inputs=tuple(inputs), output=request.columns["y"], **drawn)
    if request.law == "downstream":
        names = (request.columns["loss"], request.columns["y"])
        return fit_downstream(v["loss"], v["y"], floor=request.floor, inputs=names, **drawn)
    if request.law == "hyperparameters":
        roles = ("params", "tokens", "learning_rate", "batch", "loss")
        tolerance = TOLERANCE if request.tolerance is None else request.tolerance
        return fit_hyperparameters(*(v[role] for role in roles), tolerance=tolerance, weights=weights, **options)
    # These resample residuals or whole runs: pairs are named, not weighted.
    if request.group and request.pair:
        options["keys"] = columns.table.text(request.pair)
    curves = (v["params"], v["tokens"], v["loss"], flops_of(columns))
    if request.law == "isoflop":
        return fit_isoflop(*curves, window=request.window, **options)
    return fit_envelope(columns.table.text(request.columns["run"]), *curves, **options)


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


def cost_warnings(columns: Columns, costs: list[Cost]) -> list[str]:
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
