"""The columns of a table as laws take them: numbers by role."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from triarch.scaling.tables.table import Table


@dataclasses.dataclass(frozen=True)
class Columns:
    """The numbers of some rows.

    Attributes:
      table: the rows.
      names: the column (or columns, with commas) of each role.
      values: float64[rows] by role, in units of one; roles with several columns hold the first.
      several: for roles that may name several columns, all of them by name.
      warnings: what looks wrong in them.
    """

    table: Table
    names: Mapping[str, str]
    values: Mapping[str, np.ndarray]
    several: Mapping[str, Mapping[str, np.ndarray]]
    warnings: tuple[str, ...] = ()

    @classmethod
    def of_arrays(cls, **arrays: np.ndarray) -> Columns:
        """Returns columns called as the roles are, of arrays [rows]."""
        values = {role: np.asarray(array, np.float64) for role, array in arrays.items()}
        table = Table("arrays", {role: list(array) for role, array in arrays.items()})
        return cls(table, {role: role for role in values}, values, {})

    def called(self, role: str, name: str) -> Columns:
        """Returns these columns with one of them under another name."""
        return dataclasses.replace(self, names={**self.names, role: name})

    def all(self, role: str) -> Mapping[str, np.ndarray]:
        """Returns a role's columns by name, float64[rows] each."""
        return self.several.get(role) or {self.names[role]: self.values[role]}

    def text(self, role: str) -> list[str]:
        """Returns a role's cells as they are written."""
        return self.table.text(self.names[role])

    def numbers(self) -> list[int]:
        """Returns each row's number in its file."""
        return [self.table.number(index) for index in range(len(self.table))]
