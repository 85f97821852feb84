"""A fitted law: its numbers, how sure they are, and what it predicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from triarch.scaling.fitting.form import Form
from triarch.scaling.fitting.options import FitOptions


@dataclasses.dataclass(frozen=True)
class Fit:
    """A law with its uncertainty.

    Attributes:
      form: the law.
      parameters: the point estimates, and the constants of the form (E is 0 where it is not fitted).
      intervals: percentile bootstrap intervals of those parameters that were fitted; empty without bootstraps.
      samples: the bootstrap's estimates behind the intervals, float64[bootstraps] by parameter.
      objective: the minimum: sum_i Huber_delta(residual_i).
      values: float64[points, T], the inputs fitted to.
      target: float64[points], the losses (or accuracies) fitted to.
      theta: the minimum in the coordinates of the posed problem.
      options: how it was fitted.
      bootstraps: resamples behind the intervals; 0 where none could be drawn.
      delta: of the Huber loss.
      resample_delta: of the Huber loss that resamples were fitted with.
      warnings: sentences on what the estimates do not show.
    """

    form: Form
    parameters: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    samples: Mapping[str, np.ndarray]
    objective: float
    values: np.ndarray
    target: np.ndarray
    theta: np.ndarray
    options: FitOptions
    bootstraps: int
    delta: float
    resample_delta: float
    warnings: tuple[str, ...]

    @property
    def law(self) -> str:
        return self.form.law

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.form.inputs

    @property
    def num_points(self) -> int:
        return len(self.target)

    @property
    def fixed(self) -> Mapping[str, float | str]:
        return self.options.fixed

    @property
    def confidence(self) -> float:
        return self.options.confidence

    @property
    def seed(self) -> int:
        return self.options.seed

    @property
    def least_squares(self) -> bool:
        """Whether the objective is half a sum of squares; a sum of Huber losses otherwise."""
        return bool(np.isinf(self.form.delta if self.options.delta is None else self.options.delta))

    @property
    def offset_fitted(self) -> bool:
        """Whether E was free; False where it was not identified or not wanted."""
        return "E" in self.parameters and "E" not in self.form.constants

    def predict(self, *inputs: np.ndarray | float) -> np.ndarray:
        """Returns the law's value at the inputs, broadcast together, in the units it was fitted in."""
        return self.form.predict(self.parameters, inputs)

    def draws(self, *inputs: np.ndarray) -> np.ndarray:
        """Returns the bootstrap's predictions at inputs float64[points], float64[bootstraps, points]."""
        columns = {name: values[:, None] for name, values in self.samples.items()}
        return self.form.predict(columns, [np.atleast_1d(values)[None, :] for values in inputs])

    def band(self, *inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns the pointwise bootstrap interval of the law at inputs float64[points]; None without bootstraps.

        It holds the law itself, from which percentiles of a few points' resamples may all lie to one side.
        """
        if not self.samples:
            return None
        tail = 50.0 * (1.0 - self.confidence)
        with np.errstate(all="ignore"):
            drawn = self.draws(*inputs)
            # A resample that leaves a term open may predict no number where the term overflows.
            law = self.predict(*inputs)
        low, high = np.nanpercentile(drawn, [tail, 100.0 - tail], axis=0)
        return np.fmin(low, law), np.fmax(high, law)

    def residuals(self) -> np.ndarray:
        """Returns observed minus predicted, float64[points]: of logarithms (nearly relative errors) for a loss."""
        return self.form.residuals(self.parameters, self.values, self.target)

    def exponents(self) -> dict[str, tuple[float, np.ndarray | None]]:
        """Returns how the best "N" and "D" grow with compute: exponents, each with its draws (None without bootstraps).

        Empty for a law that has no compute optimum.
        """
        drawn = self.form.exponents(self.samples) if self.samples else {}
        return {name: (value, drawn.get(name)) for name, value in self.form.exponents(self.parameters).items()}

    def formula(self, digits: int = 3) -> str:
        """Returns the law with its numbers, "1.69 + 406 / N^0.339 + 411 / D^0.285"."""
        return self.form.formula(self.parameters, digits)

    def to_json(self) -> dict[str, object]:
        """Returns the estimates, as `triarch fit --json` writes them."""
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
            "least_squares": self.least_squares,
            "resample_huber_delta": self.resample_delta,
            "fixed": dict(self.fixed),
            "warnings": list(self.warnings),
        }
        if exponents := self.form.exponents(self.parameters):
            result["optimal_exponents"] = exponents
        return result
