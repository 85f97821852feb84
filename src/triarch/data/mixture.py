"""Several token stores as one run's data: by weight or temperature, in phases."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from triarch.errors import UserError

# Weights become whole numbers of this fraction of the largest, so that every host counts alike to the last example.
_RESOLUTION = 2**40


@dataclasses.dataclass(frozen=True)
class MixturePhase:
    """The weights that hold from a step on.

    Attributes:
      start: first step of the phase.
      weights: one for each store, in any unit; a store of weight 0 is not read in this phase. None: as many as the
        store has examples.
      temperature: T; each weight is raised to the power 1/T (Raffel et al. 2020, section 3.5.2): 1 keeps the weights,
        larger ones bring them nearer to each other.
    """

    start: int = 0
    weights: tuple[float, ...] | None = None
    temperature: float = 1.0

    def validate(self, stores: int) -> None:
        """Checks what can be told without the stores, of which there are so many.

        Raises:
          UserError: naming the field that is out of range.
        """
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise UserError(f"MixturePhase.temperature = {self.temperature!r}: expected a number above 0")
        if self.weights is None:
            return
        if len(self.weights) != stores:
            raise UserError(f"MixturePhase.weights: {len(self.weights)} weights for {stores} stores, expected one each")
        if not all(0 <= weight < math.inf for weight in self.weights):
            raise UserError(f"MixturePhase.weights = {self.weights}: expected no negative or infinite weight")
        if not sum(self.weights) > 0:
            raise UserError(f"MixturePhase.weights = {self.weights}: the weights sum to nothing")

    def whole_weights(self, sizes: Sequence[int]) -> list[int]:
        """Returns the weights of stores that hold `sizes` examples as whole numbers."""
        weights = sizes if self.weights is None else self.weights
        largest = max(weights)
        scaled = [round((weight / largest) ** (1 / self.temperature) * _RESOLUTION) for weight in weights]
        return [max(1, whole) if weight > 0 else 0 for whole, weight in zip(scaled, weights, strict=True)]


@dataclasses.dataclass(frozen=True)
class StoreMixture:
    """Stores that are read side by side; of each, epoch follows epoch at its own pace.

    Attributes:
      stores: folders of token stores of one vocabulary, window and layout.
      phases: in the order of their starts, the first one from step 0 on.
    """

    stores: tuple[str, ...]
    phases: tuple[MixturePhase, ...] = (MixturePhase(),)

    def validate(self) -> None:
        """Checks what can be told without the stores.

        Raises:
          UserError: there is no store or phase, a store is there twice, a phase is out of order or its weights are not
            in order.
        """
        if not self.stores or not self.phases:
            raise UserError("StoreMixture: expected at least one store in stores and one phase in phases")
        folders = [Path(store).resolve() for store in self.stores]
        twice = [store for store, folder in zip(self.stores, folders, strict=True) if folders.count(folder) > 1]
        if twice:
            raise UserError(f"StoreMixture.stores: {twice[-1]} is there twice: give it one entry of a larger weight")
        if self.phases[0].start != 0:
            raise UserError(f"MixturePhase.start = {self.phases[0].start!r}: the first phase must start at step 0")
        for phase, following in itertools.pairwise(self.phases):
            if following.start <= phase.start:
                raise UserError(
                    f"MixturePhase.start = {following.start!r}: phases out of order, the one before starts at "
                    f"{phase.start!r}"
                )
        for phase in self.phases:
            phase.validate(len(self.stores))


def whole_phases(phases: Sequence[MixturePhase], first_step: int, sizes: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Returns the phases that hold from `first_step` on: (first step, a whole weight for each store), ascending.

    Args:
      phases: in the order of their starts.
      first_step: phases that end before it are left out.
      sizes: examples in each store.
    """
    found = [(max(phase.start, first_step), phase.whole_weights(sizes)) for phase in phases]
    return [
        phase
        for phase, following in itertools.zip_longest(found, found[1:])
        if following is None or following[0] > phase[0]
    ]
