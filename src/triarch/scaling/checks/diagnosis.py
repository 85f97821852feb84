"""All that is asked of a fit once it is made: profiles, held-out error, influence, and what follows in warnings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from triarch.scaling.checks.extrapolation import SHARE, HeldOut, held_out
from triarch.scaling.checks.influence import Influence, influence
from triarch.scaling.checks.mean_objective import MeanObjective, stopped_early
from triarch.scaling.checks.profile import Profile, profiles
from triarch.scaling.fitting.result import Fit
from triarch.scaling.tables.table import MAX_NAMED_ROWS

# A held-out error this many times the fitted one is no extrapolation to trust.
POOR_EXTRAPOLATION = 3.0
# A stop this far above the minimum, as a share of it, is an early one.
EARLY = 0.01
# What an early stop is told by; scales say little.
SHOWN = ("alpha", "beta", "E")


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What was found; a part is None where it does not apply. `numbers` says how messages call each row."""

    profiles: tuple[Profile, ...]
    influence: Influence
    held_out: HeldOut | None
    mean_objective: MeanObjective | None
    warnings: tuple[str, ...]
    numbers: tuple[int, ...]

    def to_json(self, fit: Any) -> dict[str, object]:
        """Returns the keys that `triarch fit --json` adds to the estimates; rows are counted from 1."""
        residual = self.influence.residual
        return {
            "profile_intervals": {profile.name: list(profile.interval) for profile in self.profiles},
            "held_out": self.held_out.to_json(self.numbers) if self.held_out else None,
            "residuals": {
                "of": "log loss" if fit.form.log_target else "value",
                "rms": float(np.sqrt(np.mean(residual**2))),
                "robust_spread": self.influence.spread,
                "largest": float(np.abs(residual).max()),
            },
            "influential_rows": [
                {"row": self.numbers[row], "parameter": self._parameter(row), "standard_errors": self._shift(row)}
                for row in self.influence.influential
            ],
            "outlying_rows": [
                {"row": self.numbers[row], "residual": float(residual[row])} for row in self.influence.outlying
            ],
            "mean_objective": dataclasses.asdict(self.mean_objective) if self.mean_objective else None,
        }

    def _parameter(self, row: int) -> str:
        return self.influence.names[int(np.abs(self.influence.shift[row]).argmax())]

    def _shift(self, row: int) -> float:
        shift = self.influence.shift[row]
        return float(shift[np.abs(shift).argmax()])


def diagnose(fit: Fit, share: float = SHARE, numbers: Sequence[int] | None = None) -> Diagnosis:
    """Profiles the fit, holds out its largest runs, leaves out each row in turn, and says what is amiss.

    Args:
      fit: the law.
      share: of rows to hold out; 0 for none.
      numbers: how messages call each row; counted from 1 without.
    """
    numbers = tuple(numbers or range(1, fit.num_points + 1))
    found = tuple(profiles(fit))
    rows = influence(fit)
    outside = held_out(fit, share) if share else None
    mean = stopped_early(fit)
    diagnosis = Diagnosis(found, rows, outside, mean, (), numbers)
    warnings = [
        *_unbounded(fit, found),
        *_rows(fit, diagnosis),
        *(_extrapolation(fit, outside, share) if share else []),
        *_early(fit, mean),
    ]
    return dataclasses.replace(diagnosis, warnings=tuple(warnings))


def _unbounded(fit: Fit, found: tuple[Profile, ...]) -> list[str]:
    warnings = []
    for profile in found:
        low, high = profile.interval
        if low is None and high is None:
            warnings.append(f"{profile.name} is not identified: the likelihood hardly falls however far it is moved")
        elif profile.name == "E" and low is None:
            warnings.append("the offset E is not identified from below: the likelihood does not rule out 0")
        elif low is None or high is None:
            side = "below" if low is None else "above"
            warnings.append(f"{profile.name} is not bounded from {side}: the likelihood hardly falls that way")
    return warnings + fit.form.at_bounds(fit.parameters, fit.fixed)


def _rows(fit: Fit, diagnosis: Diagnosis) -> list[str]:
    warnings = []
    rows = diagnosis.influence
    if rows.influential:
        named = ", ".join(
            f"{diagnosis.numbers[row]} ({diagnosis._parameter(row)} by {abs(diagnosis._shift(row)):.1f})"
            for row in rows.influential[:MAX_NAMED_ROWS]
        )
        more = len(rows.influential) - MAX_NAMED_ROWS
        warnings.append(
            f"influential row{'s' * (len(rows.influential) > 1)} {named}{f' and {more} more' if more > 0 else ''}:"
            " without it an estimate moves by more than a standard error"
        )
    if rows.outlying:
        named = ", ".join(
            f"{diagnosis.numbers[row]} ({_amount(fit, float(rows.residual[row]), '+')})"
            for row in rows.outlying[:MAX_NAMED_ROWS]
        )
        more = len(rows.outlying) - MAX_NAMED_ROWS
        warnings.append(
            f"outlying row{'s' * (len(rows.outlying) > 1)} {named}{f' and {more} more' if more > 0 else ''}: further"
            f" from the law than 6 robust standard deviations of the residuals ({_amount(fit, rows.spread)} each)"
        )
    return warnings


def _amount(fit: Fit, value: float, sign: str = "") -> str:
    """Returns a residual in writing: a share where it is a difference of logarithms."""
    return format(value, f"{sign}.2%" if fit.form.log_target else f"{sign}.3g")


def _extrapolation(fit: Fit, outside: HeldOut | None, share: float) -> list[str]:
    if outside is None:
        return [f"too few sizes to hold out the largest {share:.0%} and fit the rest: extrapolation is not tested"]
    if outside.rms > POOR_EXTRAPOLATION * max(outside.rms_fitted, 1e-6):
        times = outside.rms / max(outside.rms_fitted, 1e-6)
        return [
            f"fitted up to {outside.by} = {outside.cut:.3g}, the law misses the larger runs by"
            f" {_amount(fit, outside.rms)} ({times:.0f} times its error where fitted)"
        ]
    return []


def _early(fit: Fit, mean: MeanObjective | None) -> list[str]:
    if mean is None or mean.excess <= EARLY or fit.objective < 1e-12:
        return []
    shown = ", ".join(f"{name} {mean.parameters[name]:.3f}" for name in SHOWN if name in mean.parameters)
    return [
        "a mean objective stops early here: L-BFGS-B on the mean of the losses ends"
        f" {min(mean.excess, 99.0):.0%} above the minimum ({shown}); this fit minimises the sum"
    ]
