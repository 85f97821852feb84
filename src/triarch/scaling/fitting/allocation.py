"""How the best model and data grow with compute: N = k_N C^a, D = k_D C^b, L = k_L C^c through found optima."""

from __future__ import annotations

import dataclasses

import numpy as np

from triarch.errors import UserError
from triarch.scaling.fitting.options import FitOptions

LINES = {"N": ("k_N", "a"), "D": ("k_D", "b"), "loss": ("k_L", "c")}


@dataclasses.dataclass(frozen=True)
class Allocation:
    """Compute-optimal models found without a law of the loss, and the lines through them.

    Attributes:
      law: "isoflop" or "envelope".
      flops: float64[optima], the budgets.
      optima: float64[optima] for "N", "D" and "loss".
      samples_optima: float64[bootstraps, optima] for each; NaN where a resample has no optimum there.
      parameters: k_N, a, k_D, b, k_L, c.
      intervals: percentile bootstrap intervals of them.
      samples: float64[bootstraps] by parameter.
      objective: half the sum of squared log residuals of N about its line.
      num_points: runs, or points along runs, that the optima were found in.
      options: of the bootstrap.
      bootstraps: resamples that had optima at two budgets or more.
      warnings: sentences on what the estimates do not show.
      resamples: int[bootstraps], which resample each of `samples` is: those without two optima are left out.
      curves: what each optimum was read from, for figures: FLOPs, then float64[points] of N, loss and the curve there.
    """

    law: str
    flops: np.ndarray
    optima: dict[str, np.ndarray]
    samples_optima: dict[str, np.ndarray]
    parameters: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    samples: dict[str, np.ndarray]
    objective: float
    num_points: int
    options: FitOptions
    bootstraps: int
    warnings: tuple[str, ...]
    resamples: np.ndarray
    curves: tuple[tuple[float, np.ndarray, np.ndarray, np.ndarray], ...] = ()

    def together(self, other: Allocation) -> tuple[Allocation, Allocation]:
        """Returns both with those resamples alone that both have, so that pairs drawn together stay together."""
        common = np.intersect1d(self.resamples, other.resamples)

        def chosen(one: Allocation) -> Allocation:
            kept = np.isin(one.resamples, common)
            return dataclasses.replace(
                one, samples={name: column[kept] for name, column in one.samples.items()}, resamples=common
            )

        return chosen(self), chosen(other)

    def optimum(self, flops: float) -> dict[str, tuple[float, tuple[float, float] | None]]:
        """Returns N, D and the loss on the lines at a budget, each with its interval (None without bootstraps)."""
        found = {}
        for name, (scale, exponent) in LINES.items():
            value = self.parameters[scale] * flops ** self.parameters[exponent]
            interval = None
            if self.samples:
                interval = self.options.interval(self.samples[scale] * flops ** self.samples[exponent])
            found[name] = (float(value), interval)
        return found

    def exponents(self) -> dict[str, tuple[float, np.ndarray | None]]:
        """Returns how the best "N" and "D" grow with compute: exponents, each with its draws (None without any)."""
        return {name: (self.parameters[key], self.samples.get(key)) for name, key in (("N", "a"), ("D", "b"))}

    def formula(self) -> str:
        """Returns both lines with their numbers."""
        p = self.parameters
        return f"N = {p['k_N']:.4g} C^{p['a']:.4g}, D = {p['k_D']:.4g} C^{p['b']:.4g}"

    def to_json(self) -> dict[str, object]:
        """Returns the estimates, as `triarch fit --json` writes them."""
        return {
            "law": self.law,
            "parameters": self.parameters,
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "objective": self.objective,
            "num_points": self.num_points,
            "formula": self.formula(),
            "confidence": self.options.confidence,
            "bootstraps": self.bootstraps,
            "seed": self.options.seed,
            "optimal_exponents": {name: value for name, (value, _) in self.exponents().items()},
            "optima": [self._row(index) for index in range(len(self.flops))] if len(self.flops) <= 200 else [],
            "warnings": list(self.warnings),
        }

    def _row(self, index: int) -> dict[str, object]:
        row: dict[str, object] = {"flops": float(self.flops[index])}
        for name, values in self.optima.items():
            row[name] = float(values[index])
            column = self.samples_optima[name][:, index] if name in self.samples_optima else np.empty(0)
            column = column[np.isfinite(column)]
            if len(column) > 1:
                row[f"{name}_interval"] = list(self.options.interval(column))
        return row


def allocate(
    law: str,
    flops: np.ndarray,
    optima: dict[str, np.ndarray],
    samples: dict[str, np.ndarray],
    options: FitOptions,
    num_points: int,
    warnings: list[str],
    curves: tuple = (),
) -> Allocation:
    """Draws the lines through the optima by least squares in logarithms, once for each resample.

    Raises:
      UserError: fewer than two budgets have an optimum.
    """
    if len(np.unique(flops)) < 2:
        raise UserError(
            f"{len(np.unique(flops))} budgets with an optimum inside their sizes: the exponents need at least two"
        )
    parameters, drawn, resamples = {}, {}, np.empty(0, int)
    log_flops = np.log(flops)[None, :]
    for name, (scale, exponent) in LINES.items():
        point = np.log(optima[name])[None, :]
        intercept, slope = lines(log_flops, point, np.ones_like(point))
        parameters[scale], parameters[exponent] = float(np.exp(intercept[0])), float(slope[0])
        if samples:
            logs = np.log(samples[name])
            intercepts, slopes = lines(log_flops, logs, np.isfinite(logs).astype(float))
            drawn[scale], drawn[exponent] = np.exp(intercepts), slopes
    if drawn:
        whole = np.all([np.isfinite(column) for column in drawn.values()], axis=0)
        drawn = {name: column[whole] for name, column in drawn.items()}
        if not whole.all():
            warnings.append(f"{int(np.sum(~whole))} of {len(whole)} resamples had fewer than two optima: left out")
        drawn, resamples = (drawn, np.flatnonzero(whole)) if whole.sum() > 1 else ({}, resamples)
    residual = np.log(optima["N"]) - np.log(parameters["k_N"]) - parameters["a"] * log_flops[0]
    return Allocation(
        law=law,
        flops=flops,
        optima=optima,
        samples_optima=samples,
        parameters=parameters,
        intervals={name: options.interval(column) for name, column in drawn.items()},
        samples=drawn,
        objective=float(0.5 * np.sum(residual**2)),
        num_points=num_points,
        options=options,
        bootstraps=len(next(iter(drawn.values()), ())),
        warnings=tuple(warnings),
        resamples=resamples,
        curves=curves,
    )


def lines(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns intercepts and slopes, float64[fits], of weighted straight lines; NaN where a fit has fewer than two x.

    Args:
      x: float64[fits or 1, points].
      y: float64[fits, points].
      weights: float64[fits, points], zero for a point left out (its y may be anything).
    """
    y = np.where(weights > 0, y, 0.0)
    x = np.broadcast_to(x, y.shape)
    total = weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x, mean_y = (weights * x).sum(axis=1) / total, (weights * y).sum(axis=1) / total
        away = x - mean_x[:, None]
        spread = (weights * away**2).sum(axis=1)
        slope = np.where(spread > 1e-12, (weights * away * y).sum(axis=1) / spread, np.nan)
    return mean_y - slope * mean_x, slope
