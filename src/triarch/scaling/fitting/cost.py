"""What a run costs in FLOPs, and what is the best run for a budget under a law."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Cost:
    """C = coefficient * N^exponent * D: linear in tokens, nearly so in parameters.

    Attention and embeddings make FLOPs grow otherwise than with N, and an encoder-decoder spends less on each token
    than a decoder of its size: a table's own FLOPs say how, architecture by architecture.

    Attributes:
      coefficient: FLOPs for each token and parameter^exponent; 6 for training by the usual rule.
      exponent: of N.
      name: the convention, as results call it.
    """

    coefficient: float = 6.0
    exponent: float = 1.0
    name: str = "6ND"

    @classmethod
    def of_runs(cls, params: np.ndarray, tokens: np.ndarray, flops: np.ndarray, name: str) -> Cost:
        """Fits the cost to runs (float64[points] each) by least squares in logarithms."""
        log_params, log_rate = np.log(params), np.log(flops / tokens)
        if len(np.unique(params)) < 2:
            return cls(float(np.exp(log_rate.mean() - log_params.mean())), 1.0, name)
        exponent, intercept = np.polyfit(log_params, log_rate, 1)
        return cls(float(np.exp(intercept)), float(exponent), name)

    def flops(self, params: np.ndarray | float, tokens: np.ndarray | float) -> np.ndarray:
        """Returns C."""
        return self.coefficient * np.power(params, self.exponent) * tokens

    def tokens(self, params: np.ndarray | float, flops: np.ndarray | float) -> np.ndarray:
        """Returns the tokens that a budget buys for a model."""
        return np.asarray(flops) / (self.coefficient * np.power(params, self.exponent))

    def optimum(self, parameters: Mapping[str, Any], flops: Any) -> tuple[np.ndarray, np.ndarray]:
        """Returns N and D of the least E + A / N^alpha + B / D^beta at cost C: Hoffmann et al. 2022, eq. 4.

        With M = N^exponent the cost is linear in M and D, and the law a power law in each. NaN where the loss does not
        fall along both: there is no optimum then.
        """
        alpha, beta = self._exponents(parameters)
        total = alpha + beta
        budget = flops / self.coefficient
        balance = (alpha * parameters["A"] / (beta * parameters["B"])) ** (1.0 / total)
        size = balance * budget ** (beta / total)
        return size ** (1.0 / self.exponent), budget / size

    def frontier(self, parameters: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Returns K and gamma of the least loss for a budget, E + K / C^gamma."""
        alpha, beta = self._exponents(parameters)
        gamma = alpha * beta / (alpha + beta)
        params, tokens = self.optimum(parameters, 1.0)
        reducible = parameters["A"] * params ** -parameters["alpha"] + parameters["B"] * tokens**-beta
        return reducible, gamma

    def _exponents(self, parameters: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Returns alpha and beta in M and D, NaN where one is not above zero."""
        alpha, beta = (np.asarray(parameters[name], np.float64) for name in ("alpha", "beta"))
        falling = (alpha > 0) & (beta > 0)
        return np.where(falling, alpha / self.exponent, np.nan), np.where(falling, beta, np.nan)
