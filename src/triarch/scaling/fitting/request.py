"""What `fit` is asked for: the laws, the columns each needs, and how it is to be fitted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from triarch.errors import UserError, nearest

# For each law: the columns it needs, those it may be given, and what it is.
LAWS = {
    "chinchilla": (("params", "tokens", "loss"), ("flops",), "L = E + A / N^alpha + B / D^beta"),
    "power": (("x", "loss"), (), "L = A / x^alpha + E"),
    "data_constrained": (
        ("params", "tokens", "unique_tokens", "loss"), (),
        "L = E + A / N'^alpha + B / D'^beta, what repeated data are worth",
    ),
    "isoflop": (("params", "tokens", "loss"), ("flops",), "parabolas at equal FLOPs: N = k_N C^a, D = k_D C^b"),
    "envelope": (
        ("run", "params", "tokens", "loss"), ("flops",),
        "envelope of training curves: N = k_N C^a, D = k_D C^b",
    ),
    "hyperparameters": (
        ("params", "tokens", "learning_rate", "batch", "loss"), (),
        "learning rate = c N^p D^q, batch = k D^r",
    ),
    "log_linear": (("x", "y"), (), "y = coefficient * x^exponent, least squares in logarithms"),
    "downstream": (("loss", "y"), (), "accuracy = floor + (ceiling - floor) / (1 + exp(k (loss - midpoint)))"),
}  # fmt: skip
# Roles that may name several columns, with commas between.
SEVERAL = ("x", "flops")
# Laws that need either N and D, or one of them and the FLOPs, C = 6 N D.
FROM_FLOPS = ("chinchilla", "isoflop", "envelope")
LOSSES = ("nats", "bits", "perplexity")


@dataclasses.dataclass(frozen=True)
class Request:
    """What to fit and how.

    Attributes:
      law: one of LAWS.
      columns: the column (or columns, with commas) of each role given: "params", "tokens", "x", "loss", ...
      units: what to multiply the columns of a role by: {"params": 1e6}.
      where: column, relation ("=", "!=", "<", "<=", ">", ">=") and value of rows to keep.
      skip_empty: whether to leave out rows with an empty cell, or one that is not finite, in a column used.
      loss_in: what the loss column holds, "nats", "bits" or "perplexity"; laws are fitted to nats.
      group, pair: columns that name architectures, and what pairs their runs; None without.
      offset: of the power law: "auto", "free" or "zero".
      fixed: parameters held at given values.
      bootstraps, confidence, seed: of the intervals.
      held_out: share of rows, the largest sizes, to hold out; 0 for none.
      compare_laws: whether to rank laws by their held-out error.
      budgets: FLOPs to find the best run for; empty for the largest measured and ten times that.
      window: of IsoFLOP parabolas, a factor of N around the best; None for all sizes.
      tolerance: of the learning-rate law: how far from the least loss is near it.
      floor: accuracy of guessing.
    """

    law: str
    columns: Mapping[str, str]
    units: Mapping[str, float] = dataclasses.field(default_factory=dict)
    where: tuple[tuple[str, str, str], ...] = ()
    skip_empty: bool = False
    loss_in: str = "nats"
    group: str | None = None
    pair: str | None = None
    offset: str = "auto"
    fixed: Mapping[str, float] = dataclasses.field(default_factory=dict)
    bootstraps: int = 1000
    confidence: float = 0.95
    seed: int = 0
    held_out: float = 0.2
    compare_laws: bool = False
    budgets: tuple[float, ...] = ()
    window: float | None = None
    tolerance: float | None = None
    floor: float = 0.0

    def names(self, role: str) -> list[str]:
        """Returns the columns of a role."""
        given = self.columns.get(role, "")
        return [name.strip() for name in given.split(",") if name.strip()] if role in SEVERAL else [given]

    def missing(self) -> list[str]:
        """Returns the roles that the law needs a column for and has none."""
        roles = [role for role in LAWS[self.law][0] if not self.columns.get(role)]
        follows = self.law in FROM_FLOPS and self.columns.get("flops") and roles in (["params"], ["tokens"])
        return [] if follows else roles

    def check(self) -> None:
        """Raises UserError where a column is given that the law has no use for, or an option that it has not."""
        if self.law not in LAWS:
            raise UserError(f"no law {self.law!r}{nearest(self.law, LAWS)}")
        if self.loss_in not in LOSSES:
            raise UserError(f"loss_in is {self.loss_in!r}{nearest(self.loss_in, LOSSES)}")
        needed, optional, _ = LAWS[self.law]
        takes = " and ".join(f"--{role}_column" for role in (*needed, *optional))
        for role in self.columns:
            if self.columns[role] and role not in (*needed, *optional):
                raise UserError(f"fit --law={self.law} has no --{role}_column; it takes {takes}")
            if self.columns[role] and not self.names(role):
                raise UserError(f"--{role}_column={self.columns[role]}: names no column")
        if not 0.0 <= self.held_out < 1.0:
            raise UserError(f"held-out share is {self.held_out:g}, expected a number from 0 (none) to below 1")
        if self.pair and not self.group:
            raise UserError("--pair_column pairs the runs of architectures: it needs --group_column=NAME")
        if self.window is not None and self.law != "isoflop":
            raise UserError(f"fit --law={self.law} has no --window; it is of IsoFLOP parabolas")
        if self.seed < 0:
            raise UserError(f"--seed={self.seed}: expected a whole number from 0 on")
        if self.tolerance is not None and self.law != "hyperparameters":
            raise UserError(f"fit --law={self.law} has no --tolerance; it is of the hyperparameters' law")
        for name, value in self.fixed.items():
            if not np.isfinite(value):
                raise UserError(f"--fixed={name}={value:g}: expected a finite number")
        if self.fixed and self.law in ("isoflop", "envelope", "hyperparameters"):
            raise UserError(f"fit --law={self.law} holds no parameter fixed")
        bad = [budget for budget in self.budgets if not (np.isfinite(budget) and budget > 0)]
        if bad:
            raise UserError(f"budget {bad[0]:g}: expected FLOPs above zero")
