"""A law posed over data: what is minimised, from where, and how its published parameters are read off."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from triarch.errors import UserError, nearest


class Objective(Protocol):
    """A sum of Huber losses, divided by delta, for many parameter vectors at once."""

    @property
    def num_parameters(self) -> int:
        """Entries of theta."""

    def value_and_gradient(self, theta: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Evaluates theta float64[fits, parameters] with weights float64[fits, points]."""

    def hessian(self, theta: np.ndarray) -> np.ndarray:
        """theta float64[parameters] -> float64[parameters, parameters]."""


@dataclasses.dataclass(frozen=True)
class Coordinate:
    """A published parameter as a function of theta: theta @ vector + shift, or the exponential of it.

    Attributes:
      name: of the parameter.
      vector: float64[parameters]; its entry at `lead` is 1.
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


@dataclasses.dataclass(frozen=True)
class Problem:
    """An objective with its starts (float64[starts, parameters]) and its published parameters."""

    objective: Objective
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

    def pin(self, values: Mapping[str, float]) -> Problem:
        """Returns the problem with some parameters held at given values; only the others are fitted.

        Raises:
          UserError: an unknown parameter, or a value it cannot have.
        """
        if not values:
            return self
        pinned = [self.coordinate(name) for name in values]
        change = _change(pinned, self.starts.shape[1])
        starts = self.starts.copy()
        for coordinate, value in zip(pinned, values.values(), strict=True):
            starts[:, coordinate.lead] = coordinate.linear(value)
        moved = [dataclasses.replace(one, vector=one.vector @ change) for one in self.coordinates]
        objective = Pinned(self.objective, change, tuple(one.lead for one in pinned))
        return Problem(objective, np.unique(starts, axis=0), tuple(moved))


@dataclasses.dataclass(frozen=True)
class Pinned:
    """An objective in coordinates phi, theta = change @ phi, of which those `held` stay where a start puts them."""

    objective: Objective
    change: np.ndarray
    held: tuple[int, ...]

    @property
    def num_parameters(self) -> int:
        return self.objective.num_parameters - len(self.held)

    def value_and_gradient(self, phi: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As the objective's own; the gradient of what is held is zero."""
        value, gradient = self.objective.value_and_gradient(phi @ self.change.T, weights)
        gradient = gradient @ self.change
        gradient[:, list(self.held)] = 0.0
        return value, gradient

    def hessian(self, phi: np.ndarray) -> np.ndarray:
        """As the objective's own; what is held has rows and columns of the identity."""
        hessian = self.change.T @ self.objective.hessian(self.change @ phi) @ self.change
        held = list(self.held)
        hessian[held, :], hessian[:, held] = 0.0, 0.0
        hessian[held, held] = np.abs(hessian).max() or 1.0
        return hessian


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
