"""Accuracy of a run by its size and data, in two steps: Bhagia et al. 2024, arXiv 2412.04403 (the OLMo ladder)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from triarch.scaling.figures.fit_figures import agreement_panel, curve_panel
from triarch.scaling.figures.style import Panel
from triarch.scaling.fitting.bootstrap import is_few, resample_weights
from triarch.scaling.fitting.options import DEFAULTS, FitOptions
from triarch.scaling.fitting.result import Fit
from triarch.scaling.laws.chinchilla import fit_chinchilla, optima
from triarch.scaling.laws.costs import costs_of, flops_of
from triarch.scaling.laws.law import FittedPart, Law, Units
from triarch.scaling.laws.optima.optimum import Optima, budgets_or_usual
from triarch.scaling.laws.published.downstream import ACCURACY, fit_downstream
from triarch.scaling.tables.columns import Columns
from triarch.scaling.tables.roles import FLOPS, LOSS, PARAMS, TOKENS

PARAMETERS = 5


@dataclasses.dataclass(frozen=True)
class TwoSteps:
    """The task's loss by size and data, and accuracy by that loss; resamples of both are of the same rows.

    Attributes:
      loss: Chinchilla's law of the loss on the task's right answers.
      accuracy: the sigmoid of it.
    """

    loss: Fit
    accuracy: Fit

    @property
    def steps(self) -> dict[str, Fit]:
        """Returns both laws by what they are of."""
        return {"loss": self.loss, "accuracy": self.accuracy}

    @property
    def options(self) -> FitOptions:
        return self.loss.options

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(f"{what}: {warning}" for what, fit in self.steps.items() for warning in fit.warnings)

    @property
    def parameters(self) -> dict[str, float]:
        return {f"{what}_{name}": float(v) for what, fit in self.steps.items() for name, v in fit.parameters.items()}

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        return {f"{what}_{name}": ends for what, fit in self.steps.items() for name, ends in fit.intervals.items()}

    @property
    def samples(self) -> dict[str, np.ndarray]:
        """Returns the bootstrap's estimates of both; none where one of them has none."""
        if not all(fit.samples for fit in self.steps.values()):
            return {}
        return {f"{what}_{name}": drawn for what, fit in self.steps.items() for name, drawn in fit.samples.items()}

    def predict(self, params: np.ndarray | float, tokens: np.ndarray | float) -> np.ndarray:
        """Returns the accuracy of N parameters after D tokens."""
        return self.accuracy.predict(self.loss.predict(params, tokens))

    def interval(self, params: float, tokens: float) -> tuple[float, float] | None:
        """Returns the interval of that accuracy; None without bootstraps."""
        if not self.samples:
            return None
        losses = self.loss.draws(np.array([params]), np.array([tokens]))
        drawn = self.accuracy.form.predict({n: v[:, None] for n, v in self.accuracy.samples.items()}, [losses])
        return self.options.interval(drawn[:, 0])

    def formula(self) -> str:
        """Returns both laws with their numbers."""
        return f"loss = {self.loss.formula(4)}, accuracy = {self.accuracy.formula(4)}"

    def to_json(self) -> dict[str, object]:
        """Returns the estimates, as `triarch fit --json` writes them, and what they say of each row's run."""
        params, tokens = self.loss.values.T
        missed = self.accuracy.target - self.predict(params, tokens)
        largest = int(np.argmax(params * tokens))
        interval = self.interval(float(params[largest]), float(tokens[largest]))
        return {
            "law": "bhagia",
            "parameters": self.parameters,
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "objective": self.loss.objective,
            "accuracy_objective": self.accuracy.objective,
            "num_points": self.loss.num_points,
            "formula": self.formula(),
            "confidence": self.loss.confidence,
            "bootstraps": min(fit.bootstraps for fit in self.steps.values()),
            "seed": self.loss.seed,
            "huber_delta": self.loss.delta,
            "least_squares": self.loss.least_squares,
            "accuracy_rms": float(np.sqrt(np.mean(missed**2))),
            "largest_run": {
                "params": float(params[largest]),
                "tokens": float(tokens[largest]),
                "accuracy": float(self.accuracy.target[largest]),
                "predicted": float(self.predict(params[largest], tokens[largest])),
                "interval": list(interval) if interval else None,
            },
            "warnings": list(self.warnings),
        }


@dataclasses.dataclass(frozen=True)
class Bhagia(Law):
    """Loss on a task by size and data, and accuracy by that loss."""

    name = "bhagia"
    text = "loss = E + A / N^alpha + B / D^beta, accuracy = ceiling / (1 + exp(k (loss - midpoint)))"
    needs = (PARAMS, TOKENS, LOSS, ACCURACY)
    takes = (FLOPS,)
    resamples_rows = True
    least_squares = False

    def fit(self, columns: Columns, options: FitOptions) -> TwoSteps:
        """Fits both steps: see `fit_bhagia`."""
        params, tokens, loss, accuracy = (columns.values[role.name] for role in self.needs)
        return fit_bhagia(params, tokens, loss, accuracy, options)

    def units(self, columns: Columns) -> Units:
        """Returns the rows."""
        values = np.column_stack([columns.values["params"], columns.values["tokens"]])
        return Units(values, np.arange(len(values)))

    def num_parameters(self, columns: Columns) -> int:
        """Returns those of the first step."""
        return PARAMETERS

    def optima(self, fit: TwoSteps, columns: Columns, budgets: Sequence[float]) -> Optima:
        """Returns the runs of the least loss on the task."""
        wanted = budgets_or_usual(budgets, flops_of(columns))
        return Optima.checked([row for cost in costs_of(columns) for row in optima(fit.loss, cost, wanted)])

    def panel(self, part: FittedPart, name: str) -> Panel:
        """Draws accuracy against the task's loss."""
        return curve_panel(name, f"{part.label}: accuracy" if part.label else "accuracy", part.fit.accuracy, "accuracy")

    def panels(self, part: FittedPart, stem: str) -> list[Panel]:
        """Returns both steps."""
        return [self.panel(part, f"{stem}law"), agreement_panel(f"{stem}loss", "Task loss", part.fit.loss, "loss")]


def fit_bhagia(
    params: np.ndarray, tokens: np.ndarray, loss: np.ndarray, accuracy: np.ndarray, options: FitOptions = DEFAULTS
) -> TwoSteps:
    """Fits the loss on a task by size and data, and accuracy by that loss.

    Args:
      params, tokens: float[points], N and D.
      loss: float[points], of the task's right answers (in bits for each byte, in the paper), above zero.
      accuracy: float[points], from 0 to 1.
      options: of both; what is held fixed is not for this law.

    Raises:
      UserError: too few points, or values that a step cannot be fitted to.
    """
    values = np.column_stack([params, tokens])
    if options.weights is None and options.bootstraps and not is_few(values, PARAMETERS):
        weights = resample_weights(values, options.bootstraps, PARAMETERS, options.seed)
        options = dataclasses.replace(options, weights=weights)
    first = fit_chinchilla(params, tokens, loss, options)
    second = fit_downstream(loss, accuracy, options, inputs=("loss", "accuracy"))
    return TwoSteps(first, second)
