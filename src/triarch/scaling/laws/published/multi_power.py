"""The multi-power law of whole curves under any learning-rate schedule: Luo et al. 2025, arXiv 2503.12811."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from triarch.errors import UserError
from triarch.scaling.checks.rivals import RivalForm
from triarch.scaling.fitting.curve_objective import MetricObjective
from triarch.scaling.fitting.estimate import estimate
from triarch.scaling.fitting.form import Form
from triarch.scaling.fitting.options import FitOptions
from triarch.scaling.fitting.problem import Coordinate, Problem
from triarch.scaling.fitting.result import Fit
from triarch.scaling.laws.checked import checked
from triarch.scaling.laws.law import setting
from triarch.scaling.laws.parametric import ParametricLaw
from triarch.scaling.laws.published.tissue import WARMUP_HELP
from triarch.scaling.laws.schedules import STEP, RateCurve, schedules, spread_over_rows
from triarch.scaling.tables.columns import Columns
from triarch.scaling.tables.roles import LEARNING_RATE, LOSS, RUN

NAMES = ("L_0", "A", "alpha", "B", "C", "beta", "gamma")
# Falls of the learning rate are joined until a run has no more than these: each costs as much as a term of the law.
MOST_FALLS = 48
WARMUP_PARTS = 8
# Of the loss, what a start gives to the offset and what to the falls.
SHARES = ((0.6, 0.02), (0.8, 0.05))


@dataclasses.dataclass(frozen=True, eq=False)
class MultiPower(Form):
    """L(t) = L_0 + A / S(t)^alpha - B sum_k (eta_(k-1) - eta_k) (1 - (1 + C eta_k^-gamma S_k(t))^-beta), eq. 2.

    S(t) is the sum of the learning rate up to step t, warm-up included, and S_k(t) that from step k on.

    Attributes:
      falls: for each run float64[falls] of the sum at, the learning rate at, and the size of each fall.
    """

    falls: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]

    law = "multi_power"
    inputs = ("S", "run")
    names = NAMES

    def problem(self, values: np.ndarray, target: np.ndarray, delta: float) -> Problem:
        """theta = [log L_0, log A, alpha, log B, log C, log beta, gamma], A and C at typical sums and rates."""
        log_s, log_loss = np.log(values[:, 0]), np.log(target)
        centre, level = float(log_s.mean()), float(log_loss.mean())
        rate, size = self._typical(values)

        def curve(theta: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
            offset, scale, alpha, log_b, log_c, log_beta, gamma = theta.T[:, :, None]
            away = log_s - centre
            power, fallen = np.exp(scale - alpha * away), np.exp(log_b)
            total, by_c, by_beta, by_gamma = self._fallen(values, log_c - np.log(size), log_beta, gamma, rate)
            loss = np.exp(offset) + power - fallen * total
            slopes = [np.exp(offset), power, -power * away]
            slopes += [-fallen * one for one in (total, by_c, by_beta, by_gamma)]
            return np.log(loss), [slope / loss for slope in slopes]

        unit = np.eye(7)
        coordinates = (
            Coordinate("L_0", unit[0], 0, level, log=True),
            Coordinate("A", unit[1] + centre * unit[2], 1, level, log=True),
            Coordinate("alpha", unit[2], 2),
            Coordinate("B", unit[3], 3, level, log=True),
            Coordinate("C", unit[4] + np.log(rate) * unit[6], 4, -np.log(size), log=True),
            Coordinate("beta", unit[5], 5, log=True),
            Coordinate("gamma", unit[6], 6),
        )
        return Problem(MetricObjective(curve, log_loss - level, 7, delta), _starts(rate), coordinates)

    def predict(self, parameters: Mapping[str, object], inputs: Sequence[np.ndarray | float]) -> np.ndarray:
        """Returns the loss where the learning rate of a run, by its number, has added up to S."""
        p = {name: np.asarray(parameters[name], np.float64) for name in NAMES}
        total_rate, run = np.broadcast_arrays(*(np.asarray(one, np.float64) for one in inputs))
        values = np.column_stack([total_rate.ravel(), run.ravel()])
        log_c, log_beta, gamma = np.log(p["C"]), np.log(p["beta"]), p["gamma"]
        log_c, log_beta, gamma = (np.reshape(one, (-1, 1)) for one in (log_c, log_beta, gamma))
        total = self._fallen(values, log_c, log_beta, gamma, 1.0)[0]
        total = total.reshape(np.broadcast_shapes(total_rate.shape, p["C"].shape))
        return np.asarray(p["L_0"] + p["A"] * total_rate ** -p["alpha"] - p["B"] * total)

    def formula(self, parameters: Mapping[str, float], digits: int) -> str:
        """Returns the law with its numbers."""
        p = {name: f"{value:.{digits}g}" for name, value in parameters.items()}
        falls = f"(1 - (1 + {p['C']} S_k / eta_k^{p['gamma']})^-{p['beta']})"
        return f"{p['L_0']} + {p['A']} / S^{p['alpha']} - {p['B']} sum_k (eta_(k-1) - eta_k) {falls}"

    def _typical(self, values: np.ndarray) -> tuple[float, float]:
        """Returns the size of learning rates and of their sums."""
        rates = np.concatenate([rate for _, rate, _ in self.falls])
        size = float(np.exp(np.log(values[:, 0]).mean()))
        return (float(np.exp(np.log(rates).mean())) if len(rates) else size), size

    def _fallen(self, values: np.ndarray, log_c, log_beta, gamma, unit: float) -> list[np.ndarray]:
        """Returns the sum over falls, and its derivatives by log C, log beta and gamma, float64[fits, points] each.

        `log_c`, `log_beta` and `gamma` are float64[fits, 1]; C is of learning rates in units of `unit`.
        """
        found = [np.zeros((len(log_c), len(values))) for _ in range(4)]
        beta = np.exp(log_beta)[:, :, None]
        for number, (at, rate, fall) in enumerate(self.falls, start=1):
            rows = np.flatnonzero(values[:, 1] == number)
            if not len(rows) or not len(at):
                continue
            log_rate = np.log(rate / unit)
            since = np.maximum(values[rows, 0, None] - at, 0.0)
            grown = np.exp(log_c[:, :, None] - gamma[:, :, None] * log_rate) * since
            log_grown = np.log1p(grown)
            left = np.exp(-beta * log_grown)
            found[0][:, rows] = (1.0 - left) @ fall
            by_log = beta * left * (grown / (1.0 + grown))
            found[1][:, rows] = by_log @ fall
            found[2][:, rows] = (beta * left * log_grown) @ fall
            found[3][:, rows] = -by_log @ (log_rate * fall)
        return found


@dataclasses.dataclass(frozen=True)
class MultiPowerLaw(ParametricLaw):
    """The law of curves of several schedules together."""

    name = "multi_power"
    text = "L = L_0 + A / S^alpha - B sum_k (eta_(k-1) - eta_k) (1 - (1 + C S_k / eta_k^gamma)^-beta)"
    needs = (RUN, STEP, LEARNING_RATE, LOSS)

    warmup: float = setting(0.0, WARMUP_HELP, metavar="STEPS")

    def inputs(self, columns: Columns) -> dict[str, np.ndarray]:
        """Returns the sum of the learning rate so far, and the number of the run."""
        found = list(schedules(columns, self.warmup).values())
        numbers = [np.full(len(one.rows), float(k)) for k, one in enumerate(found, start=1)]
        return {
            "S": spread_over_rows(found, [one.total for one in found]),
            "run": spread_over_rows(found, numbers),
        }

    def form(self, columns: Columns) -> MultiPower:
        """Returns the law of these runs' schedules."""
        return MultiPower(tuple(_falls(one) for one in schedules(columns, self.warmup).values()))

    def num_parameters(self, columns: Columns) -> int:
        """Returns seven."""
        return len(NAMES)

    def fit(self, columns: Columns, options: FitOptions) -> Fit:
        """Fits the law.

        Raises:
          UserError: the learning rate of no run falls, or bad values.
        """
        form = self.form(columns)
        if not any(np.any(size > 0) for _, _, size in form.falls):
            raise UserError("the learning rate of no run falls: B, C, beta and gamma are not identified; fit tissue")
        fewest = len(NAMES) - len(options.fixed)
        values, loss = checked(list(self.inputs(columns).values()), columns.values["loss"], form.inputs, fewest)
        return estimate(form, values, loss, options)

    def candidates(self, columns: Columns) -> list[RivalForm]:
        """Returns nothing: a curve is not a law of finished runs."""
        return []


def _falls(run: RateCurve) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the sum of the learning rate at, the learning rate at, and the size of each fall of a run.

    As in the published code a warm-up counts, as falls below zero: L_0 is what is left of the loss without it.
    """
    chosen = np.flatnonzero(np.abs(run.fall) > 1e-9 * run.rate)
    groups = np.array_split(chosen, min(len(chosen), MOST_FALLS)) if len(chosen) else []
    weights = [np.abs(run.fall[own]) for own in groups]
    at = [np.average(run.middle_total[own], weights=w) for own, w in zip(groups, weights, strict=True)]
    rate = [np.average(run.rate[own], weights=w) for own, w in zip(groups, weights, strict=True)]
    size = [run.fall[own].sum() for own in groups]
    if run.warmup:
        risen = (np.arange(WARMUP_PARTS) + 0.5) / WARMUP_PARTS
        at = [*(0.5 * run.peak * run.warmup * risen**2), *at]
        rate = [*(run.peak * risen), *rate]
        size = [*np.full(WARMUP_PARTS, -run.peak / WARMUP_PARTS), *size]
    return np.array(at), np.array(rate), np.array(size)


def _starts(rate: float) -> np.ndarray:
    """Returns starts, float64[starts, 7]; losses are about 1, learning rates about `rate`."""
    grid = itertools.product(SHARES, (0.3, 0.6), (0.3, 3.0), (0.3, 1.0), (0.3, 0.8))
    return np.array(
        [(np.log(share), np.log(1.0 - share), alpha, np.log(fall / rate), np.log(growth), np.log(beta), gamma)
         for (share, fall), alpha, growth, beta, gamma in grid]
    )  # fmt: skip
