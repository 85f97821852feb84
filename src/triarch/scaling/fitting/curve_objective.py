"""The Huber objective for laws that are no plain sum of powers: the curve and its derivatives come from the law."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

CHUNK_ELEMENTS = 16_384
# Of the central differences of the gradient that make a Hessian.
STEP = 1e-6


@dataclasses.dataclass(frozen=True)
class CurveObjective:
    """sum_i w_i Huber_delta(f_theta(x_i) - y_i), divided by delta.

    Attributes:
      curve: theta float64[fits, parameters] -> f float64[fits, points] and its derivative by each parameter, a list of
        arrays that broadcast to f's shape.
      target: float64[points], y: log losses, or accuracies.
      num_parameters: length of theta.
      delta: where the Huber loss turns from square to absolute, in units of y.
    """

    curve: Callable[[np.ndarray], tuple[np.ndarray, list[np.ndarray]]]
    target: np.ndarray
    num_parameters: int
    delta: float

    def value_and_gradient(self, theta: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Evaluates many parameter vectors; see HuberObjective.value_and_gradient."""
        value, gradient = np.empty(len(theta)), np.empty_like(theta)
        chunk = max(1, CHUNK_ELEMENTS // len(self.target))
        for start in range(0, len(theta), chunk):
            rows = slice(start, start + chunk)
            value[rows], gradient[rows] = self._chunk(theta[rows], None if weights is None else weights[rows])
        return value, gradient

    def _chunk(self, theta: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        # A line search may try parameters at which the curve overflows; an infinite value sends it back.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            predicted, derivatives = self.curve(theta)
            residual = predicted - self.target
            slope = np.clip(residual / self.delta, -1.0, 1.0)
            loss = slope * (residual - (0.5 * self.delta) * slope)
            if weights is not None:
                loss, slope = loss * weights, slope * weights
            gradient = np.stack([(slope * one).sum(axis=1) for one in derivatives], axis=1)
            value = loss.sum(axis=1)
        poor = ~(np.isfinite(value) & np.isfinite(gradient).all(axis=1))
        value[poor], gradient[poor] = np.inf, 0.0
        return value, gradient

    def jacobian(self, theta: np.ndarray) -> np.ndarray:
        """Returns the derivative of the curve at one theta, float64[points, p]."""
        with np.errstate(all="ignore"):
            derivatives = self.curve(theta[None])[1]
        shape = (1, len(self.target))
        return np.nan_to_num(np.stack([np.broadcast_to(one, shape)[0] for one in derivatives], axis=1))

    def metric(self, theta: np.ndarray) -> np.ndarray | None:
        """Returns what distances are measured by at theta, float64[fits, p, p]; None where all entries are alike."""
        return None

    def steps(self, theta: np.ndarray) -> np.ndarray:
        """Returns by how much each entry of one theta is moved for a difference, float64[p]."""
        return STEP * np.maximum(1.0, np.abs(theta))

    def hessian(self, theta: np.ndarray) -> np.ndarray:
        """Returns the second derivative at one theta, float64[p, p], from differences of the gradient."""
        step = self.steps(theta)
        moves = np.concatenate([theta + np.diag(step), theta - np.diag(step)])
        gradient = self.value_and_gradient(moves)[1]
        half = len(theta)
        hessian = (gradient[:half] - gradient[half:]) / (2 * step[:, None])
        return 0.5 * (hessian + hessian.T)


@dataclasses.dataclass(frozen=True)
class MetricObjective(CurveObjective):
    """The objective of a curve whose parameters may be of any size and move together."""

    def metric(self, theta: np.ndarray) -> np.ndarray:
        """Returns the curvature of reweighted least squares at theta, float64[fits, p, p]."""
        found = np.empty((len(theta), theta.shape[1], theta.shape[1]))
        chunk = max(1, CHUNK_ELEMENTS // len(self.target))
        for start in range(0, len(theta), chunk):
            rows = slice(start, start + chunk)
            with np.errstate(all="ignore"):
                predicted, slopes = self.curve(theta[rows])
                jacobian = np.stack(slopes, axis=2)
                weight = 1.0 / np.maximum(np.abs(predicted - self.target), self.delta)
                found[rows] = np.einsum("fp,fpi,fpj->fij", weight, jacobian, jacobian)
        return found

    def steps(self, theta: np.ndarray) -> np.ndarray:
        """Returns steps for differences that change what is predicted by about as much each."""
        return STEP / np.maximum(np.sqrt((self.jacobian(theta) ** 2).mean(axis=0)), 1e-12)
