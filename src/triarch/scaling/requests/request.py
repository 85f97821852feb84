"""What `fit` is asked for: a law, the columns it is fitted to, and what else is wanted of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

import numpy as np

from triarch.errors import UserError, nearest
from triarch.scaling.fitting.options import DEFAULTS, FitOptions
from triarch.scaling.laws.law import Law
from triarch.scaling.tables.roles import ROLES, Role

LOSSES = ("nats", "bits", "perplexity")


@dataclasses.dataclass(frozen=True)
class FitRequest:
    """What to fit and how.

    Attributes:
      law: with its settings.
      columns: the column (or columns, with commas) of each role given: "params", "tokens", "x", "loss", ...
      units: what to multiply the columns of a role by: {"params": 1e6}.
      where: conditions that all hold of rows to keep; each is one or several, of which one is enough, of a column, a
        relation ("=", "!=", "<", "<=", ">", ">=") and a value.
      last_of: keep the last row of each value of this column, such as a run's name; None for all rows.
      skip_empty: whether to leave out rows with an empty cell, or one that is not finite, in a column used.
      loss_in: what the loss column holds, "nats", "bits" or "perplexity"; laws are fitted to nats.
      run: the column that tells which rows are points of one run, and are resampled together; "none" where each row is
        a run of its own, None where the table may tell.
      group, pair: columns that name architectures, and what pairs their runs; None without.
      options: of the fit.
      held_out: share of rows, the largest sizes, to hold out; 0 for none.
      compare_laws: whether to rank laws by their held-out error.
      budgets: FLOPs to find the best run for; empty for the largest measured and ten times that.
    """

    law: Law
    columns: Mapping[str, str]
    units: Mapping[str, float] = dataclasses.field(default_factory=dict)
    where: tuple[tuple[tuple[str, str, str], ...], ...] = ()
    last_of: str | None = None
    skip_empty: bool = False
    loss_in: str = "nats"
    run: str | None = None
    group: str | None = None
    pair: str | None = None
    options: FitOptions = DEFAULTS
    held_out: float = 0.2
    compare_laws: bool = False
    budgets: tuple[float, ...] = ()

    def bound(self, columns: Collection[str] = ()) -> FitRequest:
        """Returns the request with a law that finds some columns by their names bound to those of a table."""
        law, named = self.law.bind(self.columns, columns)
        return dataclasses.replace(self, law=law, columns=named)

    def role(self, name: str) -> Role:
        """Returns what a column stands for: as the law has it, or else as laws usually do."""
        return self.law.roles().get(name) or ROLES.get(name) or Role(name, "")

    def names(self, role: str) -> list[str]:
        """Returns the columns of a role."""
        given = self.columns.get(role, "")
        return [name.strip() for name in given.split(",") if name.strip()] if self.role(role).several else [given]

    def missing(self) -> list[str]:
        """Returns the roles that the law needs a column for and has none."""
        roles = [role.name for role in self.law.needs if not self.columns.get(role.name)]
        return [] if self.columns.get("flops") and self.can_follow(roles) else roles

    def can_follow(self, roles: list[str]) -> bool:
        """Returns whether columns of these roles would follow from FLOPs."""
        return self.law.from_flops and roles in (["params"], ["tokens"])

    def check(self) -> None:
        """Raises UserError where a column is given that the law has no use for, or an option that it has not."""
        name = self.law.name
        if self.loss_in not in LOSSES:
            raise UserError(f"loss_in is {self.loss_in!r}{nearest(self.loss_in, LOSSES)}")
        roles = self.law.roles()
        takes = " and ".join(role.flag for role in roles.values())
        for role, given in self.columns.items():
            flag = self.role(role).flag
            if given and role not in roles:
                raise UserError(f"fit --law={name} has no {flag}; it takes {takes}")
            if given and not self.names(role):
                raise UserError(f"{flag}={given}: names no column")
        if not 0.0 <= self.held_out < 1.0:
            raise UserError(f"held-out share is {self.held_out:g}, expected a number from 0 (none) to below 1")
        if self.pair and not self.group:
            raise UserError("--pair_column pairs the runs of architectures: it needs --group_column=NAME")
        if self.options.seed < 0:
            raise UserError(f"--seed={self.options.seed}: expected a whole number from 0 on")
        for held, value in self.options.fixed.items():
            if not isinstance(value, str) and not np.isfinite(value):
                raise UserError(f"--fixed={held}={value:g}: expected a finite number")
        if self.options.fixed and not self.law.holds:
            raise UserError(f"fit --law={name} holds no parameter fixed")
        bad = [budget for budget in self.budgets if not (np.isfinite(budget) and budget > 0)]
        if bad:
            raise UserError(f"budget {bad[0]:g}: expected FLOPs above zero")
