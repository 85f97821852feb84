"""A fitted law: its numbers, how sure they are, and what it predicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

TERMS = (("A", "alpha"), ("B", "beta"))


@dataclasses.dataclass(frozen=True)
class Fit:
    """A law L(x_1, ..., x_T) = E + sum_k A_k / x_k^alpha_k with its uncertainty.

    Attributes:
      law: "power" (one input) or "chinchilla" (parameters and tokens).
      inputs: what each input is called, for sentences and axes.
      parameters: the point estimates; power: A, alpha, E; chinchilla: E, A, B, alpha, beta. E is 0 where not fitted.
      intervals: percentile bootstrap intervals of those parameters that were fitted; empty without bootstraps.
      samples: the bootstrap's estimates behind the intervals, float64[bootstraps] by parameter.
      objective: the minimum, sum_i Huber_delta(log prediction_i - log loss_i).
      num_points: rows the law was fitted to.
      offset_fitted: whether E was free; False where it was not identified or not wanted.
      confidence: of the intervals.
      bootstraps: resamples drawn.
      seed: of the resampling.
      delta: of the Huber loss.
      input_range: smallest and largest value seen of each input.
      warnings: sentences on what the estimates do not show.
    """

    law: str
    inputs: tuple[str, ...]
    parameters: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    samples: Mapping[str, np.ndarray]
    objective: float
    num_points: int
    offset_fitted: bool
    confidence: float
    bootstraps: int
    seed: int
    delta: float
    input_range: tuple[tuple[float, float], ...]
    warnings: tuple[str, ...]

    def predict(self, *inputs: np.ndarray | float) -> np.ndarray:
        """Returns the law's loss at the inputs, broadcast together, in the units it was fitted in."""
        return _evaluate(self.parameters, inputs)

    def band(self, *inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns the pointwise bootstrap interval of the law at inputs float64[points]; None without bootstraps."""
        if not self.samples:
            return None
        columns = {name: values[:, None] for name, values in self.samples.items()}
        curves = _evaluate(columns, [np.asarray(values)[None, :] for values in inputs])
        tail = 50.0 * (1.0 - self.confidence)
        low, high = np.percentile(curves, [tail, 100.0 - tail], axis=0)
        return low, high

    def compute_optimal(self, flops: float, flops_per_token_and_parameter: float = 6.0) -> tuple[float, float]:
        """Returns the parameters N and tokens D of the least loss under C = k N D (Hoffmann et al. 2022, eq. 4).

        Raises:
          ValueError: the law is not "chinchilla".
        """
        if self.law != "chinchilla":
            raise ValueError("only the Chinchilla law has a compute optimum")
        p = self.parameters
        total = p["alpha"] + p["beta"]
        balance = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1.0 / total)
        budget = flops / flops_per_token_and_parameter
        return balance * budget ** (p["beta"] / total), budget ** (p["alpha"] / total) / balance

    def formula(self, digits: int = 3) -> str:
        """Returns the law with its numbers, "1.69 + 406 / N^0.339 + 411 / D^0.285"."""
        parts = [f"{self.parameters['E']:.{digits}g}"] if self.offset_fitted else []
        for (scale, exponent), name in zip(TERMS, self.inputs, strict=False):
            parts.append(f"{self.parameters[scale]:.{digits}g} / {name}^{self.parameters[exponent]:.{digits}g}")
        return " + ".join(parts)

    def to_json(self) -> dict[str, object]:
        """Returns what `triarch fit --json` writes."""
        result: dict[str, object] = {
            "law": self.law,
            "parameters": {name: float(value) for name, value in self.parameters.items()},
            "intervals": {name: [float(low), float(high)] for name, (low, high) in self.intervals.items()},
            "objective": float(self.objective),
            "num_points": self.num_points,
            "offset_fitted": self.offset_fitted,
            "formula": self.formula(4),
            "confidence": self.confidence,
            "bootstraps": self.bootstraps,
            "seed": self.seed,
            "huber_delta": self.delta,
            "warnings": list(self.warnings),
        }
        if self.law == "chinchilla":
            total = self.parameters["alpha"] + self.parameters["beta"]
            result["optimal_exponents"] = {"N": self.parameters["beta"] / total, "D": self.parameters["alpha"] / total}
        return result


def _evaluate(parameters: Mapping[str, object], inputs) -> np.ndarray:
    loss = parameters["E"]
    for (scale, exponent), values in zip(TERMS, inputs, strict=False):
        loss = loss + parameters[scale] * np.asarray(values, np.float64) ** (-1.0 * parameters[exponent])
    return np.asarray(loss)
