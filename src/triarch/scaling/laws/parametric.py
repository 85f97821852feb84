"""Laws given by a formula with parameters: fitted under a Huber loss, with all checks and figures."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from triarch.scaling.checks.diagnosis import Diagnosis, diagnose
from triarch.scaling.checks.rivals import RivalForm
from triarch.scaling.figures.fit_figures import agreement_panel, check_panels, curve_panel
from triarch.scaling.figures.style import Panel
from triarch.scaling.fitting.estimate import estimate
from triarch.scaling.fitting.form import Form
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.fitting.result import Fit
from triarch.scaling.laws.checked import check_varies, checked, doubts
from triarch.scaling.laws.law import FittedPart, Law, Units
from triarch.scaling.tables.columns import Columns
from triarch.scaling.tables.roles import Role


class ParametricLaw(Law):
    """A law that a Form says whole; the last of `needs` is what it predicts.

    A subclass has `name`, `text`, `needs` and `form`; all else follows.
    """

    holds: ClassVar[bool] = True
    resamples_rows: ClassVar[bool] = True
    least_squares: ClassVar[bool] = False

    @abc.abstractmethod
    def form(self, columns: Columns) -> Form:
        """Returns the form for these columns."""

    def target(self) -> Role:
        """Returns what is predicted."""
        return self.needs[-1]

    def inputs(self, columns: Columns) -> dict[str, np.ndarray]:
        """Returns the inputs by column, float64[rows] each."""
        return {name: values for role in self.needs[:-1] for name, values in columns.all(role.name).items()}

    def fit(self, columns: Columns, options: FitOptions) -> Fit:
        """Fits the form to the columns."""
        target = columns.values[self.target().name]
        return fit_form(self.form(columns), list(self.inputs(columns).values()), target, options)

    def diagnose(self, fit: Fit, held_out: float, numbers: Sequence[int]) -> Diagnosis:
        """Returns profiles, influence of rows and the error on the largest runs."""
        return diagnose(fit, held_out, numbers)

    def candidates(self, columns: Columns) -> list[RivalForm]:
        """Returns the law itself, if it is one of the loss and the columns have its inputs."""
        if self.target().name != "loss" or not all(role.name in columns.values for role in self.needs[:-1]):
            return []
        return [RivalForm(self.name, self.form(columns), tuple(self.inputs(columns).values()))]

    def units(self, columns: Columns) -> Units:
        """Returns the rows."""
        values = np.column_stack(list(self.inputs(columns).values()))
        return Units(values, np.arange(len(values)))

    def num_parameters(self, columns: Columns) -> int:
        """Returns how many parameters the law has."""
        return len(self.form(columns).names)

    def panel(self, part: FittedPart, name: str) -> Panel:
        """Draws the law's curve; of several inputs, predicted against observed."""
        draw = curve_panel if len(part.fit.inputs) == 1 else agreement_panel
        return draw(name, self.title(part), part.fit, part.fit.form.output)

    def panels(self, part: FittedPart, stem: str) -> list[Panel]:
        """Returns the law, figures of its own, and those of its checks."""
        own = [self.panel(part, f"{stem}law"), *self.own_panels(part, stem)]
        return own if part.diagnosis is None else own + check_panels(stem, part.fit, part.diagnosis)

    def own_panels(self, part: FittedPart, stem: str) -> list[Panel]:
        """Returns figures that only this law has."""
        return []

    @staticmethod
    def title(part: FittedPart) -> str:
        """Returns the title of a figure of the law."""
        return f"{part.label}: {part.fit.formula()}" if part.label else part.fit.formula()


def fit_form(form: Form, inputs: Sequence[np.ndarray], loss: np.ndarray, options: FitOptions) -> Fit:
    """Fits a form of the loss, or of another amount above zero.

    Args:
      form: the law.
      inputs: float[points] each, above zero.
      loss: float[points], above zero.
      options: how.

    Raises:
      UserError: fewer different points than parameters, an input with one value, or bad values.
    """
    fewest = len(form.names) - len(form.constants) - len(options.fixed)
    values, loss = checked(inputs, loss, form.inputs, fewest)
    check_varies(values, form.inputs)
    return estimate(form, values, loss, options, judge=doubts)
