"""A law given by a formula: its derivatives follow from it, and so do starts for the minimiser."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from triarch.errors import UserError
from triarch.scaling.fitting.curve_objective import MetricObjective
from triarch.scaling.fitting.expression import Expression
from triarch.scaling.fitting.form import NEAR_LIMIT, Form
from triarch.scaling.fitting.objective import DELTA
from triarch.scaling.fitting.problem import Bounded, Coordinate, Problem
from triarch.scaling.fitting.starts import FREE, POSITIVE, Domain, find_starts
from triarch.scaling.words import join

# A parameter that changes what is predicted by less than this, whatever it is, has run to where it does not matter.
LEAST_EFFECT = 1e-4
# Columns of the Jacobian that are dependent to this share, at every start, tell parameters apart nowhere.
DEPENDENT = 1e-10
STARTS_LOOKED_AT = 6


@dataclasses.dataclass(frozen=True, eq=False)
class FormulaForm(Form):
    """A formula in named inputs and parameters.

    Attributes:
      law: its name.
      expression: the formula.
      inputs: names in the formula that are columns.
      domains: its parameters, with the lowest and highest value of each.
      starts: float64[starts, parameters], where the minimiser begins.
      output, log_target, delta: as every form has them.
    """

    law: str
    expression: Expression
    inputs: tuple[str, ...]
    domains: Mapping[str, Domain]
    starts: np.ndarray
    output: str = "loss"
    log_target: bool = True
    delta: float = DELTA

    @classmethod
    def over(
        cls,
        law: str,
        expression: Expression,
        inputs: Mapping[str, np.ndarray],
        target: np.ndarray,
        domains: Mapping[str, Domain],
        *,
        output: str = "loss",
        log_target: bool = True,
        delta: float = DELTA,
        starts: Mapping[str, Sequence[float]] | None = None,
    ) -> FormulaForm:
        """Returns the form with starts that suit inputs float64[points], by name, and a target float64[points].

        Raises:
          UserError: the formula has no number at some row.
        """
        found = find_starts(expression, domains, inputs, target, log_target, starts or {})
        return cls(law, expression, tuple(inputs), domains, found, output, log_target, delta)

    @property
    def limits(self) -> dict[str, Domain]:
        return {name: domain for name, domain in self.domains.items() if np.isfinite(domain).all()}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.domains)

    def problem(self, values: np.ndarray, target: np.ndarray, delta: float) -> Problem:
        """theta is the logarithm of a parameter above zero, a free one over its size, or where a bounded one lies."""
        coordinates = self._coordinates()
        inputs = {name: column[None, :] for name, column in zip(self.inputs, values.T, strict=True)}

        def curve(theta: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
            read = {one.name: one.read(theta)[:, None] for one in coordinates}
            value, slopes = self.expression.dual({**inputs, **read}, self.names)
            inner = [one.slope(read[one.name]) * one.vector[one.lead] for one in coordinates]
            by = [slope * slopes.get(name, 0.0) for name, slope in zip(self.names, inner, strict=True)]
            shape = (len(theta), len(target))
            if not self.log_target:
                return np.broadcast_to(value, shape), [np.broadcast_to(one, shape) for one in by]
            return np.broadcast_to(np.log(value), shape), [np.broadcast_to(one / value, shape) for one in by]

        starts = np.column_stack(
            [[one.linear(value) / one.vector[one.lead] for value in column]
             for one, column in zip(coordinates, self.starts.T, strict=True)]
        )  # fmt: skip
        aim = np.log(target) if self.log_target else target
        return Problem(MetricObjective(curve, aim, len(coordinates), delta), starts, coordinates)

    def _coordinates(self) -> tuple[Coordinate, ...]:
        unit, found = np.eye(len(self.domains)), []
        for k, (name, (low, high)) in enumerate(self.domains.items()):
            if (low, high) == FREE:
                # In units of its own size, so that one step suits all parameters.
                size = float(np.median(np.abs(self.starts[:, k]))) or 1.0
                found.append(Coordinate(name, size * unit[k], k))
            elif (low, high) == POSITIVE:
                found.append(Coordinate(name, unit[k], k, log=True))
            else:
                found.append(Bounded(name, unit[k], k, low=low, high=high))
        return tuple(found)

    def predict(self, parameters: Mapping[str, object], inputs: Sequence[np.ndarray | float]) -> np.ndarray:
        """Returns the formula's value."""
        given = dict(zip(self.inputs, inputs, strict=True))
        return self.expression.value({**{name: parameters[name] for name in self.names}, **given})

    def formula(self, parameters: Mapping[str, float], digits: int) -> str:
        """Returns the formula with its numbers."""
        return self.expression.spell({name: f"{parameters[name]:.{digits}g}" for name in self.names})

    def at_bounds(self, parameters: Mapping[str, float], fixed: Mapping[str, object]) -> list[str]:
        """Returns a warning for each bounded parameter that is at one of its bounds."""
        return [
            f"{name} is at its bound of {limit:g}: these data do not show it"
            for name, limits in self.limits.items()
            for limit in limits
            if name not in fixed and abs(parameters[name] - limit) <= NEAR_LIMIT * (limits[1] - limits[0])
        ]

    def doubts(self, parameters: Mapping[str, float], values: np.ndarray, fixed: Mapping[str, object]) -> list[str]:
        """Returns a warning for each parameter above zero that has run to where it no longer matters."""
        found = []
        value, slopes = self._slopes({name: np.array([[parameters[name]]]) for name in self.names}, values)
        for name, domain in self.domains.items():
            if name in fixed or domain != POSITIVE:
                continue
            effect = np.abs(parameters[name] * slopes[name][0] / (value[0] if self.log_target else np.ptp(value)))
            if not effect.max() > LEAST_EFFECT:
                found.append(f"{name} is {parameters[name]:.3g}, where it no longer matters: these data do not show it")
        return found

    def check_identified(self, values: np.ndarray, fixed: Mapping[str, object]) -> None:
        """Raises UserError for parameters that these rows can nowhere tell apart."""
        told: list[str] | None = None
        for start in self.starts[:STARTS_LOOKED_AT]:
            _, slopes = self._slopes({name: np.array([[v]]) for name, v in zip(self.names, start, strict=True)}, values)
            columns = {name: slopes[name][0] * (abs(v) or 1.0) for name, v in zip(self.names, start, strict=True)}
            for name, held in fixed.items():
                moved = columns.pop(name, None)
                if isinstance(held, str) and held in columns and moved is not None:
                    columns[held] = columns[held] + moved
            dependent = _dependent(columns)
            if not dependent:
                return
            told = told or dependent
        if told and len(told) == 1:
            raise UserError(
                f"{told[0]} is not identified: no row's prediction depends on it; hold it with --fixed={told[0]}=NUMBER"
            )
        if told:
            raise UserError(
                f"{join(told)} cannot be told apart by these rows: hold one, as --fixed={told[0]}=NUMBER does, or leave"
                " it out"
            )

    def _slopes(self, parameters: Mapping[str, np.ndarray], values: np.ndarray) -> tuple[np.ndarray, dict]:
        inputs = {name: column[None, :] for name, column in zip(self.inputs, values.T, strict=True)}
        with np.errstate(all="ignore"):
            value, slopes = self.expression.dual({**inputs, **parameters}, self.names)
        shape = (1, len(values))
        whole = {name: np.broadcast_to(slopes.get(name, 0.0), shape) for name in self.names}
        return np.broadcast_to(value, shape), {name: np.nan_to_num(one) for name, one in whole.items()}


def _dependent(columns: Mapping[str, np.ndarray]) -> list[str]:
    """Returns the names of columns that are a combination of each other; one alone that is zero."""
    if not columns:
        return []
    names, matrix = list(columns), np.column_stack(list(columns.values()))
    norm = np.sqrt((matrix**2).sum(axis=0))
    if zero := [name for name, size in zip(names, norm, strict=True) if not size > 0]:
        return zero[:1]
    _, strength, directions = np.linalg.svd(matrix / norm, full_matrices=False)
    if len(strength) < len(names) or strength[-1] > DEPENDENT * strength[0]:
        return []
    weights = np.abs(directions[-1])
    return [name for name, weight in zip(names, weights, strict=True) if weight > 0.05 * weights.max()]
