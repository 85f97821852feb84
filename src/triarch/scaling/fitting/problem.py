"""A law posed over data: what is minimised, from where, and how its published parameters are read off."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import scipy.special

from triarch.errors import UserError, nearest

# How near a bounded parameter comes to its bounds, as a share of what lies between them: beyond it, predictions differ
# by rounding.
SMALLEST_SHARE = 1e-13


class FitObjective(Protocol):
    """A sum of Huber losses, divided by delta, for many parameter vectors at once."""

    @property
    def num_parameters(self) -> int:
        """Entries of theta."""

    def value_and_gradient(
        self, theta: np.ndarray, weights: np.ndarray | None = None, noise: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Evaluates theta float64[fits, parameters] with weights, and noise on the target, float64[fits, points]."""

    def hessian(self, theta: np.ndarray) -> np.ndarray:
        """theta float64[parameters] -> float64[parameters, parameters]."""

    def jacobian(self, theta: np.ndarray) -> np.ndarray:
        """theta float64[parameters] -> the derivative of what is predicted, float64[points, parameters]."""

    def metric(self, theta: np.ndarray) -> np.ndarray | None:
        """theta float64[fits, parameters] -> a curvature to begin with, float64[fits, parameters, parameters]."""


@dataclasses.dataclass(frozen=True)
class Coordinate:
    """A published parameter as a function of theta: theta @ vector + shift, or the exponential of it.

    Attributes:
      name: of the parameter.
      vector: float64[parameters]; its entry at `lead` is not 0.
      lead: the entry of theta that is this parameter's own.
      shift: what centring took away.
      log: whether the parameter is the exponential (and so above zero).
    """

    name: str
    vector: np.ndarray
    lead: int
    shift: float = 0.0
    log: bool = False

    def read(self, theta: np.ndarray) -> np.ndarray:
        """Returns the parameter, float64[fits], of theta float64[fits, parameters]."""
        linear = theta @ self.vector + self.shift
        # A resample that leaves a term open may drive its scale beyond what a float holds.
        return np.exp(np.clip(linear, -700.0, 700.0)) if self.log else linear

    def linear(self, value: float) -> float:
        """Returns what theta @ vector is where the parameter has this value."""
        if self.log and value <= 0:
            raise UserError(f"{self.name} is {value:g}, expected a number above zero")
        return (np.log(value) if self.log else value) - self.shift

    def slope(self, value: np.ndarray) -> np.ndarray:
        """Returns the derivative of the parameter by its linear part, where it has this value."""
        return value if self.log else np.ones_like(value)


@dataclasses.dataclass(frozen=True)
class Bounded(Coordinate):
    """A parameter between two bounds, or above one; theta @ vector says where.

    Attributes:
      low, high: the bounds; `high` may be infinite.
    """

    low: float = 0.0
    high: float = 1.0

    def read(self, theta: np.ndarray) -> np.ndarray:
        linear = theta @ self.vector
        if np.isinf(self.high):
            return self.low + np.exp(np.clip(linear, -700.0, 700.0))
        return self.low + (self.high - self.low) * scipy.special.expit(linear)

    def linear(self, value: float) -> float:
        if np.isinf(self.high):
            if value <= self.low:
                raise UserError(f"{self.name} is {value:g}, expected a number above {self.low:g}")
            return float(np.log(value - self.low))
        share = (value - self.low) / (self.high - self.low)
        if not 0.0 <= share <= 1.0:
            raise UserError(f"{self.name} is {value:g}, expected a number from {self.low:g} to {self.high:g}")
        return float(scipy.special.logit(np.clip(share, SMALLEST_SHARE, 1.0 - SMALLEST_SHARE)))

    def slope(self, value: np.ndarray) -> np.ndarray:
        above = value - self.low
        return above if np.isinf(self.high) else above * (self.high - value) / (self.high - self.low)


@dataclasses.dataclass(frozen=True)
class Problem:
    """An objective with its starts (float64[starts, parameters]) and its published parameters."""

    objective: FitObjective
    starts: np.ndarray
    coordinates: tuple[Coordinate, ...]

    def parameters(self, theta: np.ndarray) -> dict[str, np.ndarray]:
        """Returns float64[fits] by name, of theta float64[fits, parameters]."""
        return {coordinate.name: coordinate.read(theta) for coordinate in self.coordinates}

    def coordinate(self, name: str) -> Coordinate:
        """Returns a parameter by name. Raises UserError for one the law does not have."""
        for coordinate in self.coordinates:
            if coordinate.name == name:
                return coordinate
        known = [coordinate.name for coordinate in self.coordinates]
        raise UserError(f"the law has no parameter {name!r}{nearest(name, known)}")

    def pin(self, values: Mapping[str, float | str]) -> Problem:
        """Returns the problem with some parameters held; only the others are fitted.

        Args:
          values: the number that each is held at, or the name of the parameter that it is held equal to.

        Raises:
          UserError: an unknown parameter, a value it cannot have, or two that cannot be equal.
        """
        if not values:
            return self
        known = {coordinate.name for coordinate in self.coordinates}
        for name, value in values.items():
            if isinstance(value, str) and value not in known:
                raise UserError(f"--fixed={name}={value}: no number, and no parameter {value!r}{nearest(value, known)}")
        pinned = [
            _difference(self.coordinate(name), self.coordinate(value), values)
            if isinstance(value, str)
            else self.coordinate(name)
            for name, value in values.items()
        ]
        change = _change(pinned, self.starts.shape[1])
        starts = self.starts.copy()
        for coordinate, value in zip(pinned, values.values(), strict=True):
            starts[:, coordinate.lead] = coordinate.linear(0.0 if isinstance(value, str) else value)
        moved = [dataclasses.replace(one, vector=one.vector @ change) for one in self.coordinates]
        objective = Pinned(self.objective, change, tuple(one.lead for one in pinned))
        return Problem(objective, np.unique(starts, axis=0), tuple(moved))


@dataclasses.dataclass(frozen=True)
class Pinned:
    """An objective in coordinates phi, theta = change @ phi, of which those `held` stay where a start puts them."""

    objective: FitObjective
    change: np.ndarray
    held: tuple[int, ...]

    @property
    def num_parameters(self) -> int:
        return self.objective.num_parameters - len(self.held)

    def value_and_gradient(
        self, phi: np.ndarray, weights: np.ndarray | None = None, noise: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As the objective's own; the gradient of what is held is zero."""
        value, gradient = self.objective.value_and_gradient(phi @ self.change.T, weights, noise)
        gradient = gradient @ self.change
        gradient[:, list(self.held)] = 0.0
        return value, gradient

    def jacobian(self, phi: np.ndarray) -> np.ndarray:
        """As the objective's own; nothing depends on what is held."""
        jacobian = self.objective.jacobian(self.change @ phi) @ self.change
        jacobian[:, list(self.held)] = 0.0
        return jacobian

    def metric(self, phi: np.ndarray) -> np.ndarray | None:
        """As the objective's own; what is held is apart from the rest."""
        metric = self.objective.metric(phi @ self.change.T)
        if metric is None:
            return None
        metric = self.change.T @ metric @ self.change
        held = list(self.held)
        metric[:, held, :], metric[:, :, held] = 0.0, 0.0
        metric[:, held, held] = 1.0
        return metric

    def hessian(self, phi: np.ndarray) -> np.ndarray:
        """As the objective's own; what is held has rows and columns of the identity."""
        hessian = self.change.T @ self.objective.hessian(self.change @ phi) @ self.change
        held = list(self.held)
        hessian[held, :], hessian[:, held] = 0.0, 0.0
        hessian[held, held] = np.abs(hessian).max() or 1.0
        return hessian


def _difference(one: Coordinate, other: Coordinate, values: Mapping[str, float | str]) -> Coordinate:
    """Returns a coordinate that is 0 where two parameters are equal."""
    if other.name in values:
        raise UserError(f"--fixed={one.name}={other.name}: {other.name} is held itself; hold {one.name} as it is")
    if one.name == other.name or type(one) is not type(other) or one.log != other.log or _bounds(one) != _bounds(other):
        raise UserError(f"--fixed={one.name}={other.name}: only parameters of the same bounds can be held equal")
    vector = one.vector - other.vector
    return Coordinate(f"{one.name} - {other.name}", vector, one.lead, one.shift - other.shift)


def _bounds(one: Coordinate) -> tuple[float, float] | None:
    return (one.low, one.high) if isinstance(one, Bounded) else None


def _change(pinned: Sequence[Coordinate], size: int) -> np.ndarray:
    """Returns the matrix from phi to theta that makes each pinned parameter a coordinate of its own."""
    inverse = np.eye(size)
    for coordinate in pinned:
        inverse[coordinate.lead] = coordinate.vector
    return np.linalg.inv(inverse)


def pin_each(problem: Problem, coordinate: Coordinate) -> tuple[Pinned, int, np.ndarray]:
    """Returns the objective with one parameter held, the entry of phi it is, and the matrix from phi to theta."""
    change = _change([coordinate], problem.starts.shape[1])
    return Pinned(problem.objective, change, (coordinate.lead,)), coordinate.lead, change
