"""The objective every law here is fitted by: the sum of Huber losses of log residuals, for many fits at once."""

from __future__ import annotations

import dataclasses

import numpy as np

DELTA = 1e-3
# Rows handled together: their intermediate arrays stay in the second-level cache.
CHUNK_ELEMENTS = 16_384


@dataclasses.dataclass(frozen=True)
class HuberObjective:
    """sum_i w_i Huber_delta(log f(x_i) - log L_i), where f is a sum of powers and perhaps an offset.

    log f(x) = logsumexp(c_1 - gamma_1 z_1, ..., c_T - gamma_T z_T[, e]), z the logarithms of the inputs. With T = 2 and
    the offset this is Hoffmann et al. 2022 (arXiv 2203.15556), eq. 3; T = 1 is a power law.

    It is the sum, not the mean: with the mean a quasi-Newton method meets its tolerance too early
    (Besiroglu et al. 2024, arXiv 2404.10102).

    Attributes:
      log_inputs: float64[points, T], best centred (the coefficients are then nearly uncorrelated).
      log_loss: float64[points].
      offset: whether e is a parameter.
      delta: where the Huber loss turns from square to absolute, in log units.
    """

    log_inputs: np.ndarray
    log_loss: np.ndarray
    offset: bool
    delta: float = DELTA

    @property
    def num_terms(self) -> int:
        return self.log_inputs.shape[1]

    @property
    def num_parameters(self) -> int:
        """Length of theta = [c_1..c_T, gamma_1..gamma_T, e if offset]."""
        return 2 * self.num_terms + self.offset

    def value_and_gradient(
        self, theta: np.ndarray, weights: np.ndarray | None = None, noise: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Evaluates many parameter vectors.

        Args:
          theta: float64[fits, parameters].
          weights: float64[fits, points], how often a point counts in each fit (a bootstrap's); None counts each once.
          noise: float64[fits, points], what is added to log_loss in each fit; None for nothing.

        Returns:
          The objective divided by delta, float64[fits], and its gradient, float64[fits, parameters]. The division keeps
          values of order one, so that tolerances mean what they say.
        """
        fits, points = len(theta), len(self.log_loss)
        value, gradient = np.empty(fits), np.empty_like(theta)
        chunk = max(1, CHUNK_ELEMENTS // points)
        for start in range(0, fits, chunk):
            rows = slice(start, start + chunk)
            own = (None if one is None else one[rows] for one in (weights, noise))
            value[rows], gradient[rows] = self._chunk(theta[rows], *own)
        return value, gradient

    def _chunk(
        self, theta: np.ndarray, weights: np.ndarray | None, noise: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        shares, residual = self._shares_and_residual(theta)
        if noise is not None:
            residual -= noise
        slope = np.clip(residual / self.delta, -1.0, 1.0)
        residual -= (0.5 * self.delta) * slope
        if weights is None:
            value = np.einsum("fp,fp->f", slope, residual)
        else:
            value = np.einsum("fp,fp,fp->f", weights, slope, residual)
            slope *= weights
        gradient = np.empty_like(theta)
        terms = self.num_terms
        for k in range(terms):
            part = slope * shares[k]
            gradient[:, k] = part.sum(axis=1)
            gradient[:, terms + k] = -(part @ self.log_inputs[:, k])
        if self.offset:
            gradient[:, -1] = np.einsum("fp,fp->f", slope, shares[terms])
        return value, gradient

    def _shares_and_residual(self, theta: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Returns the softmax shares of the terms (float64[fits, points] each) and log f - log L."""
        terms = self.num_terms
        logs = [theta[:, k, None] - theta[:, terms + k, None] * self.log_inputs[:, k] for k in range(terms)]
        top = logs[0] if terms == 1 else np.maximum(logs[0], logs[1])
        if self.offset:
            top = np.maximum(top, theta[:, -1:])
            logs.append(np.broadcast_to(theta[:, -1:], top.shape))
        shares = [np.exp(term - top) for term in logs]
        total = shares[0].copy()
        for share in shares[1:]:
            total += share
        for share in shares:
            share /= total
        np.log(total, out=total)
        total += top
        total -= self.log_loss
        return shares, total

    def jacobian(self, theta: np.ndarray) -> np.ndarray:
        """Returns the derivative of log f at one theta, float64[points, p]."""
        shares = np.stack([share[0] for share in self._shares_and_residual(theta[None])[0]])
        return np.einsum("kp,kpi->pi", shares, self._directions())

    def metric(self, theta: np.ndarray) -> np.ndarray | None:
        """Returns None: centred logarithms are alike."""
        return None

    def hessian(self, theta: np.ndarray) -> np.ndarray:
        """Returns the (generalised) second derivative of value_and_gradient's value at one theta, float64[p, p].

        Huber's second derivative is 1/delta inside, 0 outside; that of log f follows from its softmax form.
        """
        of_terms, residuals = self._shares_and_residual(theta[None])
        shares, residual = np.stack([share[0] for share in of_terms]), residuals[0]
        directions = self._directions()
        mean = np.einsum("kp,kpi->pi", shares, directions)
        inside = (np.abs(residual) <= self.delta) / self.delta
        slope = np.clip(residual / self.delta, -1.0, 1.0)
        curvature = np.einsum("p,kp,kpi,kpj->ij", slope, shares, directions, directions)
        return curvature + np.einsum("p,pi,pj->ij", inside - slope, mean, mean)

    def _directions(self) -> np.ndarray:
        """Returns d(log term k at point p)/d(theta_i), float64[terms and offset, points, parameters]."""
        terms, points = self.num_terms, len(self.log_loss)
        directions = np.zeros((terms + self.offset, points, self.num_parameters))
        for k in range(terms):
            directions[k, :, k] = 1.0
            directions[k, :, terms + k] = -self.log_inputs[:, k]
        if self.offset:
            directions[terms, :, -1] = 1.0
        return directions
