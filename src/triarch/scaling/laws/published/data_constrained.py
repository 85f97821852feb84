"""The law of repeated data: Muennighoff et al. 2023, "Scaling Data-Constrained Language Models", arXiv 2305.16264."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from triarch.errors import UserError
from triarch.scaling.checks.rivals import RivalForm
from triarch.scaling.fitting.curve_objective import CurveObjective
from triarch.scaling.fitting.estimate import estimate
from triarch.scaling.fitting.form import Form
from triarch.scaling.fitting.options import DEFAULTS, FitOptions
from triarch.scaling.fitting.problem import Coordinate, Problem
from triarch.scaling.fitting.result import Fit
from triarch.scaling.laws.checked import checked, doubts
from triarch.scaling.laws.parametric import ParametricLaw
from triarch.scaling.tables.columns import Columns
from triarch.scaling.tables.roles import LOSS, PARAMS, TOKENS, UNIQUE_TOKENS

NAMES = ("E", "A", "B", "alpha", "beta", "R_D", "R_N")
LEAST_EXPONENT = 1e-4


@dataclasses.dataclass(frozen=True)
class RepeatedData(Form):
    """L(N, D, U) = E + A / N'^alpha + B / D'^beta with what N and D are worth when data repeat (eqs. 5 and 6):

    D' = U + U R_D (1 - exp(-(D / U - 1) / R_D)), and N' likewise from U_N, the size that U different tokens are
    compute-optimal for (or N, if smaller), and R_N. A parameter R is the number of repeats whose worth has faded to
    1/e.

    Attributes:
      inputs: names of N, D and U.
    """

    inputs: tuple[str, str, str] = ("N", "D", "U")

    law = "data_constrained"
    names = NAMES

    def problem(self, values: np.ndarray, target: np.ndarray, delta: float) -> Problem:
        """theta = [log A, log B, alpha, beta, log E, log R_D, log R_N], A, B and E centred."""
        log_values, log_loss = np.log(values), np.log(target)
        centre, level = log_values[:, :2].mean(axis=0), log_loss.mean()
        model = _Curve(log_values, centre, level)
        objective = CurveObjective(model, log_loss, 7, delta)
        unit = np.eye(7)
        coordinates = {
            "E": Coordinate("E", unit[4], 4, level, log=True),
            "A": Coordinate("A", unit[0] + centre[0] * unit[2], 0, level, log=True),
            "B": Coordinate("B", unit[1] + centre[1] * unit[3], 1, level, log=True),
            "alpha": Coordinate("alpha", unit[2], 2),
            "beta": Coordinate("beta", unit[3], 3),
            "R_D": Coordinate("R_D", unit[5], 5, log=True),
            "R_N": Coordinate("R_N", unit[6], 6, log=True),
        }
        return Problem(objective, _starts(), tuple(coordinates[name] for name in NAMES))

    def predict(self, parameters: Mapping[str, Any], inputs: Sequence[np.ndarray | float] | np.ndarray) -> np.ndarray:
        """Returns the loss of N parameters, D tokens seen, U of them different."""
        params, tokens, unique = (np.asarray(values, np.float64) for values in inputs)
        p = parameters
        enough = unique_params(p, unique)
        base = np.minimum(params, enough)
        worth_tokens = _worth(tokens, unique, p["R_D"])
        worth_params = _worth(params, base, p["R_N"])
        return np.asarray(p["E"] + p["A"] * worth_params ** -p["alpha"] + p["B"] * worth_tokens ** -p["beta"])

    def formula(self, parameters: Mapping[str, float], digits: int) -> str:
        """Returns the law with its numbers."""
        p = {name: f"{value:.{digits}g}" for name, value in parameters.items()}
        return f"{p['E']} + {p['A']} / N'^{p['alpha']} + {p['B']} / D'^{p['beta']}, R_D = {p['R_D']}, R_N = {p['R_N']}"


@dataclasses.dataclass(frozen=True)
class DataConstrained(ParametricLaw):
    """Chinchilla's law of what N and D are worth when data repeat."""

    name = "data_constrained"
    text = "L = E + A / N'^alpha + B / D'^beta, what repeated data are worth"
    needs = (PARAMS, TOKENS, UNIQUE_TOKENS, LOSS)

    def form(self, columns: Columns) -> RepeatedData:
        """Returns the law in N, D and U."""
        return RepeatedData()

    def fit(self, columns: Columns, options: FitOptions) -> Fit:
        """Fits the law: see `fit_data_constrained`."""
        v = columns.values
        return fit_data_constrained(v["params"], v["tokens"], v["unique_tokens"], v["loss"], options)

    def candidates(self, columns: Columns) -> list[RivalForm]:
        """Returns the law, where different tokens are told."""
        return [dataclasses.replace(one, label="data-constrained") for one in super().candidates(columns)]


def fit_data_constrained(
    params: np.ndarray,
    tokens: np.ndarray,
    unique_tokens: np.ndarray,
    loss: np.ndarray,
    options: FitOptions = DEFAULTS,
    *,
    inputs: tuple[str, str, str] = ("N", "D", "U"),
) -> Fit:
    """Fits the law of repeated data, L(N, D, U) (Muennighoff et al. 2023, arXiv 2305.16264, eqs. 5 and 6).

    Args:
      params: float[points], model sizes N.
      tokens: float[points], tokens seen D, repeats counted.
      unique_tokens: float[points], different tokens U, at most D.
      loss: float[points], above zero.
      options: how. The paper holds E, A, B, alpha and beta fixed at those of a law fitted to runs
        without repeats, and fits R_D and R_N only.
      inputs: what N, D and U are called in messages.

    Raises:
      UserError: fewer different points than parameters, no repeated data, U above D, or bad values.
    """
    form = RepeatedData(inputs)
    columns = [params, tokens, unique_tokens]
    values, loss = checked(columns, loss, inputs, len(form.names) - len(options.fixed))
    over = np.flatnonzero(values[:, 2] > values[:, 1] * (1 + 1e-9))
    if len(over):
        raise UserError(
            f"{inputs[2]}, row {over[0] + 1}: {values[over[0], 2]:g} different tokens in {values[over[0], 1]:g} seen"
        )
    if not np.any(values[:, 1] > 1.01 * values[:, 2]):
        raise UserError(f"no row repeats data ({inputs[2]} equals {inputs[1]} everywhere): R_D has nothing to show it")
    repeats = values[:, 1] / values[:, 2]
    warnings = []
    if repeats.max() < 4:
        warnings.append(f"data are repeated {repeats.max():.1f} times at most: R_D is told by runs far beyond 4 times")
    return estimate(form, values, loss, options, warnings=warnings, judge=doubts)


def unique_params(parameters: Mapping[str, Any], unique: np.ndarray) -> np.ndarray:
    """Returns the size for which U tokens are compute-optimal: G (U G)^(beta / alpha), Hoffmann et al., eq. 4."""
    alpha, beta = parameters["alpha"], parameters["beta"]
    log_ratio = np.log(alpha * parameters["A"]) - np.log(beta * parameters["B"])
    return np.exp(log_ratio / alpha + (beta / alpha) * np.log(unique))


def _worth(amount: np.ndarray, unique: np.ndarray, repeats: object) -> np.ndarray:
    return unique * (1.0 - repeats * np.expm1(-np.maximum(amount / unique - 1.0, 0.0) / repeats))


@dataclasses.dataclass(frozen=True)
class _Curve:
    """log L - and its derivatives - for many theta, float64[fits, points]."""

    log_values: np.ndarray
    centre: np.ndarray
    level: float

    def __call__(self, theta: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        log_n, log_d, log_u = self.log_values.T
        a, b, alpha, beta, e, log_rd, log_rn = (theta[:, i, None] for i in range(7))
        alpha, beta = np.maximum(alpha, LEAST_EXPONENT), np.maximum(beta, LEAST_EXPONENT)
        log_ratio = (np.log(alpha) + a + self.centre[0] * alpha) - (np.log(beta) + b + self.centre[1] * beta)
        log_enough = log_ratio / alpha + (beta / alpha) * log_u
        # Where N is the smaller, nothing is in excess and what is enough does not matter.
        log_base = np.minimum(log_n, log_enough)
        worth_d, by_rd, _ = _log_worth(log_d, log_u, np.exp(log_rd))
        worth_n, by_rn, by_base = _log_worth(log_n, log_base, np.exp(log_rn))
        by_base = np.where(log_enough < log_n, by_base, 0.0)
        terms = [a - alpha * (worth_n - self.centre[0]), b - beta * (worth_d - self.centre[1]), e]
        top = np.maximum(np.maximum(terms[0], terms[1]), terms[2])
        total = sum(np.exp(term - top) for term in terms)
        share_n, share_d, share_e = (np.exp(term - top) / total for term in terms)
        pull = -alpha * share_n * by_base
        enough_by_alpha = (-log_ratio / alpha + 1.0 / alpha + self.centre[0] - (beta / alpha) * log_u) / alpha
        enough_by_beta = (log_u - 1.0 / beta - self.centre[1]) / alpha
        derivatives = [
            share_n + pull / alpha,
            share_d - pull / alpha,
            -share_n * (worth_n - self.centre[0]) + pull * enough_by_alpha,
            -share_d * (worth_d - self.centre[1]) + pull * enough_by_beta,
            share_e,
            -beta * share_d * by_rd,
            -alpha * share_n * by_rn,
        ]
        return top + np.log(total) + self.level, derivatives


def _log_worth(log_amount, log_unique, repeats) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the log of what an amount is worth, and its derivatives by log R and by log of the unique amount."""
    excess = np.expm1(np.maximum(log_amount - log_unique, 0.0))
    faded = np.exp(-excess / repeats)
    gain = 1.0 - repeats * np.expm1(-excess / repeats)
    by_repeats = (repeats * (1.0 - faded) - excess * faded) / gain
    by_unique = (gain - faded * (1.0 + excess)) / gain
    return log_unique + np.log(gain), by_repeats, by_unique


def _starts() -> np.ndarray:
    """Returns starts, float64[starts, 7]; the centred log losses have mean 0 and scale 1."""
    shares = [(0.2, 0.3, 0.5), (0.3, 0.2, 0.5), (0.1, 0.1, 0.8), (0.4, 0.4, 0.2)]
    exponents = [(0.2, 0.2), (0.35, 0.35), (0.5, 0.35), (0.35, 0.6)]
    repeats = [(1.0, 1.0), (5.0, 5.0), (15.0, 5.0), (15.0, 50.0), (100.0, 100.0)]
    grid = itertools.product(shares, exponents, repeats)
    return np.array(
        [(np.log(a), np.log(b), alpha, beta, np.log(e), np.log(rd), np.log(rn))
         for (a, b, e), (alpha, beta), (rd, rn) in grid]
    )  # fmt: skip
