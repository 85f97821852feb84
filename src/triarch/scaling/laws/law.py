"""What a law is to everything that fits, checks, compares and draws laws."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Protocol, cast

import numpy as np

from triarch.scaling.checks.comparison import Comparison, compare_frontiers
from triarch.scaling.checks.diagnosis import Diagnosis
from triarch.scaling.checks.frontier import Frontier
from triarch.scaling.checks.rivals import Rival, RivalForm
from triarch.scaling.figures.comparison_figures import comparison_panels
from triarch.scaling.figures.style import Panel
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.laws.optima.optimum import Optima
from triarch.scaling.tables.columns import Columns
from triarch.scaling.tables.roles import Role
from triarch.scaling.tables.table import Table


class AnyFit(Protocol):
    """What every fit has, whatever was fitted."""

    warnings: tuple[str, ...]
    samples: Mapping[str, np.ndarray]

    def formula(self) -> str:
        """Returns the law with its numbers."""

    def to_json(self) -> dict[str, Any]:
        """Returns the estimates, as `triarch fit --json` writes them."""


@dataclasses.dataclass(frozen=True)
class FittedPart:
    """One law fitted to one set of rows.

    Attributes:
      label: which, "" where there is only one: a group, an x column, or both.
      group, x: the two apart; None where not asked for.
      columns: the rows.
      fit: what came of it.
      diagnosis: its checks; None for laws that have other checks of their own.
      rivals: laws ranked by held-out error, if asked for.
      result: the JSON.
    """

    label: str
    group: str | None
    x: str | None
    columns: Columns
    fit: Any
    diagnosis: Diagnosis | None
    rivals: tuple[Rival, ...]
    result: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Units:
    """What a bootstrap of a law draws.

    Attributes:
      values: float64[units, T], their inputs.
      rows: int[units], a row of each.
    """

    values: np.ndarray
    rows: np.ndarray


def setting(
    default: Any, help: str, kind: Callable[[str], Any] | None = None, choices: tuple[str, ...] = (), metavar: str = ""
) -> Any:
    """Returns the field of a law that the command line can set.

    Args:
      default: where it is not set.
      help: what it does.
      kind: from text to value, or ValueError; without, as a value of the default's type is written.
      choices: the values it may have; any without.
      metavar: what help calls the value.
    """
    facts = {"help": help, "kind": kind or _kind(default), "choices": choices, "metavar": metavar or None}
    return dataclasses.field(default=default, metadata=facts)


def _kind(default: Any) -> Callable[[str], Any]:
    if isinstance(default, bool):
        return truth
    return type(default) if isinstance(default, int | float) else str


def truth(text: str) -> bool:
    """Returns what "true" or "false" says."""
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


class Law(abc.ABC):
    """A law: what it needs of a table, how it is fitted, and what can be done with its fit.

    A law is a frozen dataclass, whose fields (see `setting`) are the settings that it has and no other need have.
    For a law that is given by a formula with parameters see `triarch.scaling.laws.parametric.ParametricLaw`.

    Attributes:
      name: on the command line.
      text: its formula in a line, for help and summaries.
      needs: columns it needs, in the order of its inputs; what it predicts comes last.
      takes: columns it may be given.
      from_flops: whether one of N and D may be left out where FLOPs C = 6 N D are given.
      holds: whether parameters can be held at given values.
      resamples_rows: whether a bootstrap draws rows, so that it can draw whole runs.
      least_squares: whether the objective is half a sum of squares; a sum of Huber losses otherwise.
    """

    name: ClassVar[str]
    text: ClassVar[str]
    needs: ClassVar[tuple[Role, ...]]
    takes: ClassVar[tuple[Role, ...]] = ()
    from_flops: ClassVar[bool] = False
    holds: ClassVar[bool] = False
    resamples_rows: ClassVar[bool] = False
    least_squares: ClassVar[bool] = True

    def roles(self) -> dict[str, Role]:
        """Returns all columns it needs or takes, by name."""
        return {role.name: role for role in (*self.needs, *self.takes)}

    @classmethod
    def settings(cls) -> dict[str, Mapping[str, Any]]:
        """Returns its settings by name: their "default", "help", "kind", "choices" and "metavar"."""
        fields = [field for field in dataclasses.fields(cast(Any, cls)) if field.metadata]
        return {field.name: {"default": field.default, **field.metadata} for field in fields}

    def bind(self, given: Mapping[str, str], columns: Collection[str]) -> tuple[Law, Mapping[str, str]]:
        """Returns the law for a table, and the columns of roles: for a law that finds some of them by their names.

        Args:
          given: the columns named so far, by role.
          columns: the table's; empty where it has not been read.
        """
        return self, given

    def spelled(self) -> str:
        """Returns its formula, for summaries."""
        return self.text

    @abc.abstractmethod
    def fit(self, columns: Columns, options: FitOptions) -> AnyFit:
        """Fits the law.

        Raises:
          UserError: too few points, or values that it cannot be fitted to.
        """

    def split(self, columns: Columns) -> dict[str | None, Columns]:
        """Returns the columns of each fit: one of all, or, for a law of one input, one of each input by its name."""
        return {None: columns}

    def diagnose(self, fit: AnyFit, held_out: float, numbers: Sequence[int]) -> Diagnosis | None:
        """Returns checks of a fit: see `triarch.scaling.checks.diagnosis.diagnose`; None without any."""
        return None

    def optima(self, fit: AnyFit, columns: Columns, budgets: Sequence[float]) -> Optima | None:
        """Returns the best runs for budgets (without any: for the usual ones); None for a law that knows of none."""
        return None

    def candidates(self, columns: Columns) -> list[RivalForm]:
        """Returns what it offers to a ranking of laws of the loss; empty where the columns do not allow it."""
        return []

    def units(self, columns: Columns) -> Units | None:
        """Returns what is drawn where pairs are; None for a law that takes names of rows (see FitOptions.keys)."""
        return None

    def num_parameters(self, columns: Columns) -> int:
        """Returns how many parameters are fitted where none is held."""
        return 0

    def pair_keys(
        self, column: str, tables: Mapping[str, Table], read: Callable[[Table], Columns]
    ) -> dict[str, list[str]]:
        """Returns, for each group, a key for each row; rows of one key are drawn together.

        Args:
          column: the column that pairs.
          tables: the rows of each group.
          read: returns the columns of rows, for a law whose keys need them.
        """
        return {group: own.text(column) for group, own in tables.items()}

    def frontiers(self, part: FittedPart) -> list[Frontier]:
        """Returns the least loss along each axis that two fits are compared on."""
        return []

    def compare(self, names: tuple[str, str], first: FittedPart, second: FittedPart, pairs: int) -> Comparison:
        """Compares fits of two groups; `pairs` were drawn together, 0 if each group was resampled by itself."""
        frontiers = list(zip(self.frontiers(first), self.frontiers(second), strict=True))
        return compare_frontiers(names, (first.fit, second.fit), frontiers, pairs)

    @abc.abstractmethod
    def panel(self, part: FittedPart, name: str) -> Panel:
        """Draws the law over its data."""

    def panels(self, part: FittedPart, stem: str) -> list[Panel]:
        """Returns every figure of a fit, `panel` first; their names begin with `stem`."""
        return [self.panel(part, f"{stem}law")]

    def comparison_panels(self, parts: Sequence[FittedPart], comparisons: Sequence[Comparison]) -> list[Panel]:
        """Returns the figures that show several groups."""
        return comparison_panels(comparisons)

    def summary(self, result: Mapping[str, Any]) -> list[str]:
        """Returns what is to be said of a fit's JSON beside its estimates, in lines."""
        if "optimal_exponents" not in result:
            return []
        exponents = result["optimal_exponents"]
        return [f"compute-optimal: N grows as C^{exponents['N']:.3f}, D as C^{exponents['D']:.3f}"]
