"""Laws that are a formula: those that a line says whole, and the one that is given on the command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

import numpy as np

from triarch.errors import UserError, nearest
from triarch.scaling.checks.comparison import Comparison, compare_inputs
from triarch.scaling.checks.rivals import RivalForm
from triarch.scaling.fitting.estimate import estimate
from triarch.scaling.fitting.expression import Expression, parse
from triarch.scaling.fitting.formula_form import FormulaForm
from triarch.scaling.fitting.objective import DELTA
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.fitting.result import Fit
from triarch.scaling.fitting.starts import FREE, POSITIVE, Domain
from triarch.scaling.laws.costs import costs_of, flops_of
from triarch.scaling.laws.law import FittedPart, setting
from triarch.scaling.laws.optima.optimum import Optima, budgets_or_usual
from triarch.scaling.laws.optima.searched_optimum import searched_optimum
from triarch.scaling.laws.parametric import ParametricLaw
from triarch.scaling.tables.columns import Columns
from triarch.scaling.tables.roles import LOSS, ROLES, Role, Y

RESIDUALS = ("log", "plain")


class FormulaLaw(ParametricLaw):
    """A law whose `text` is its formula, "L = E + A / N^alpha", in the letters of its `needs` and its parameters.

    Attributes:
      free: parameters that may be below zero; the others are above it.
      bounds: the lowest and highest value of parameters that have such.
      starts: values to begin at, of parameters that a guess does not find.
      log_target: whether residuals are differences of logarithms.
      delta: where the Huber loss turns from square to absolute; infinite for least squares.
    """

    free: ClassVar[tuple[str, ...]] = ()
    bounds: ClassVar[Mapping[str, Domain]] = {}
    starts: ClassVar[Mapping[str, tuple[float, ...]]] = {}
    log_target: ClassVar[bool] = True
    delta: ClassVar[float] = DELTA

    def expression(self) -> Expression:
        """Returns the formula."""
        return parse(self.text.partition("=")[2])

    def roles_for(self, columns: Columns) -> tuple[Role, ...]:
        """Returns what the columns stand for, what is predicted last."""
        return self.needs

    def inputs(self, columns: Columns) -> dict[str, np.ndarray]:
        """Returns the inputs by their names in the formula, in its order."""
        known = {role.letter: role.name for role in self.roles_for(columns)[:-1]}
        return {name: columns.values[known[name]] for name in self.expression().names() if name in known}

    def domains(self, columns: Columns) -> dict[str, Domain]:
        """Returns the parameters, in the formula's order, with the lowest and highest value of each."""
        inputs = self.inputs(columns)
        names = [name for name in self.expression().names() if name not in inputs]
        return {name: self.bounds.get(name, FREE if name in self.free else POSITIVE) for name in names}

    def form(self, columns: Columns) -> FormulaForm:
        """Returns the formula, with starts that suit the columns."""
        target = self.roles_for(columns)[-1].name
        return FormulaForm.over(
            self.name, self.expression(), self.inputs(columns), columns.values[target], self.domains(columns),
            output=columns.names[target], log_target=self.log_target, delta=self.delta, starts=self.starts,
        )  # fmt: skip

    def num_parameters(self, columns: Columns) -> int:
        """Returns how many parameters the formula has."""
        return len(self.domains(columns))

    def fit(self, columns: Columns, options: FitOptions) -> Fit:
        """Fits the formula.

        Raises:
          UserError: it has no number at some row, its parameters cannot be told apart by these rows, or there are fewer
            different rows than parameters.
        """
        inputs, domains = self.inputs(columns), self.domains(columns)
        role = self.roles_for(columns)[-1].name
        target = np.asarray(columns.values[role], np.float64)
        values = np.column_stack(list(inputs.values()))
        for name, column in {**inputs, columns.names[role]: target}.items():
            bad = np.flatnonzero(~np.isfinite(column) | (self.log_target and column is target) * (column <= 0))
            if len(bad):
                wanted = "a number above zero" if self.log_target and column is target else "a finite number"
                raise UserError(f"{name}, row {bad[0] + 1}: {column[bad[0]]:g}, expected {wanted}")
        for held in options.fixed:
            if held not in domains:
                raise UserError(f"the law has no parameter {held!r}{nearest(held, domains)}")
        fewest = len(domains) - len(options.fixed)
        distinct = len(np.unique(values, axis=0))
        if distinct < max(fewest, 1):
            what = " and ".join(inputs)
            raise UserError(f"{distinct} different points of {what}: {fewest} parameters need at least {fewest}")
        form = self.form(columns)
        form.check_identified(values, options.fixed)
        return estimate(
            form, values, target, options, judge=lambda fit: form.doubts(fit.parameters, values, options.fixed)
        )

    def candidates(self, columns: Columns) -> list[RivalForm]:
        """Returns the law itself, where the columns have its inputs, and losses, which its starts are found from."""
        return super().candidates(columns) if "loss" in columns.values else []

    def optima(self, fit: Fit, columns: Columns, budgets: Sequence[float]) -> Optima | None:
        """Returns the runs of the least loss, for laws of N and D."""
        if set(fit.inputs) != {"N", "D"} or not {"params", "tokens", "loss"} <= columns.values.keys():
            return None
        wanted = budgets_or_usual(budgets, flops_of(columns))
        return Optima.checked([searched_optimum(fit, cost, flops) for cost in costs_of(columns) for flops in wanted])

    def compare(self, names: tuple[str, str], first: FittedPart, second: FittedPart, pairs: int) -> Comparison:
        """Compares parameters, and what is predicted along each input."""
        return compare_inputs(names, first.fit, second.fit, pairs)


@dataclasses.dataclass(frozen=True)
class Formula(FormulaLaw):
    """The formula that a user writes.

    Attributes:
      columns: the roles of the columns that are bound to names of the formula; see `bind`.
    """

    name = "formula"
    text = "a formula of your own, --formula='E + A / N^alpha + B / D^beta'"

    formula: str = setting(
        "", "formula: + - * / ^ ( ), exp, log, log10, sqrt, tanh, sigmoid, min, max, columns and parameters",
        metavar="TEXT",
    )  # fmt: skip
    free_parameters: str = setting(
        "", "formula: parameters that may be below zero (default: all are above it)", metavar="NAME,..."
    )
    parameter_bounds: str = setting(
        "", "formula: the lowest and highest value of parameters; either may be left out", metavar="NAME=LOW:HIGH,..."
    )
    parameter_starts: str = setting(
        "", "formula: values to begin at (default: found)", metavar="NAME=NUMBER:NUMBER:...,..."
    )
    residuals: str = setting(
        "log", "formula: differences of logarithms, or of the values as they are (default: log)", choices=RESIDUALS
    )
    roles_bound: tuple[Role, ...] = ()

    @property
    def needs(self) -> tuple[Role, ...]:
        """The columns that it is bound to, what it predicts last."""
        return self.roles_bound or (self._role(LOSS),)

    @property
    def free(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.free_parameters.split(",") if name.strip())

    @property
    def bounds(self) -> dict[str, Domain]:
        found = {}
        for name, text in _listed(self.parameter_bounds, "parameter_bounds", "NAME=LOW:HIGH"):
            low, colon, high = text.partition(":")
            ends = (_number(low, name, "bounds") if low.strip() else -np.inf,
                    _number(high, name, "bounds") if high.strip() else np.inf)  # fmt: skip
            if not colon or not ends[0] < ends[1]:
                raise UserError(f"--parameter_bounds={name}={text}: expected LOW:HIGH, the lower first")
            if np.isinf(ends[0]) and np.isfinite(ends[1]):
                raise UserError(f"--parameter_bounds={name}={text}: expected a lower bound too")
            found[name] = ends
        return found

    @property
    def starts(self) -> dict[str, tuple[float, ...]]:
        listed = _listed(self.parameter_starts, "parameter_starts", "NAME=NUMBER:NUMBER")
        return {name: tuple(_number(one, name, "starts") for one in text.split(":")) for name, text in listed}

    @property
    def log_target(self) -> bool:
        return self.residuals == "log"

    def spelled(self) -> str:
        """Returns the formula."""
        return f"{self.target().name} = {self.formula}"

    def expression(self) -> Expression:
        """Returns the formula. Raises UserError without one, or for one that cannot be read."""
        if not self.formula:
            raise UserError("fit --law=formula needs --formula=TEXT, such as 'E + A / N^alpha + B / D^beta'")
        return parse(self.formula)

    def bind(self, given: Mapping[str, str], columns: Collection[str]) -> tuple[Formula, dict[str, str]]:
        """Returns the law with its names told apart, and its columns: names are columns where they are given as such,
        or where the table has a column of that name; the others are parameters.

        Raises:
          UserError: a column is given that the formula has no name for, or it has no column at all.
        """
        names = self.expression().names()
        target = Y if given.get("y") and "y" not in names else LOSS
        roles: list[Role] = []
        found = dict(given)
        for name in names:
            role = next((role for role in ROLES.values() if role.letter == name and role is not target), None)
            known = role is not None and (found.get(role.name) or name in columns)
            if role is not None and known and not (found.get(name) and name != role.name):
                roles.append(dataclasses.replace(role, several=False))
            elif found.get(name) or name in columns:
                roles.append(role := Role(name, f"{name} of the formula", positive=False))
            else:
                continue
            found.setdefault(role.name, name)
        if columns and not roles:
            raise UserError(
                f"the formula has no column: none of {', '.join(names)} is given by --column=NAME=COLUMN, or is one of"
                f" the table's{nearest(names[0] if names else '', columns)}"
            )
        for name, column in given.items():
            role = _role(name)
            if column and role.letter not in names and role.name != target.name:
                raise UserError(
                    f"formula {self.formula!r}: no name {role.letter}, as {role.flag} is called in formulas"
                )
        bound = dataclasses.replace(self, roles_bound=(*roles, self._role(target)))
        for name in (*self.free, *self.bounds, *self.starts):
            if name not in names or any(role.letter == name for role in roles):
                parameters = [one for one in names if all(role.letter != one for role in roles)]
                raise UserError(f"the formula has no parameter {name!r}{nearest(name, parameters)}")
        return bound, found

    def roles_for(self, columns: Columns) -> tuple[Role, ...]:
        """Returns the roles that it is bound to: by a request, or else those of all columns."""
        if self.roles_bound:
            return self.roles_bound
        names = {*self.expression().names(), LOSS.letter, Y.letter}
        own = {role: column for role, column in columns.names.items() if _role(role).letter in names}
        return self.bind(own, ())[0].roles_bound

    def candidates(self, columns: Columns) -> list[RivalForm]:
        """Returns the formula, where there is one."""
        return super().candidates(columns) if self.formula and self.roles_bound else []

    def _role(self, target: Role) -> Role:
        return dataclasses.replace(target, positive=self.log_target)


def _role(name: str) -> Role:
    return ROLES.get(name) or Role(name, "")


def _listed(text: str, flag: str, expected: str) -> list[tuple[str, str]]:
    found = []
    for one in filter(str.strip, text.split(",")):
        name, equals, value = one.partition("=")
        if not equals or not name.strip():
            raise UserError(f"--{flag}={text}: expected {expected}, several with commas")
        found.append((name.strip(), value))
    return found


def _number(text: str, name: str, flag: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise UserError(f"--parameter_{flag}: {name}: {text!r} is no finite number")
    return value
