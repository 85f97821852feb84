"""Several objectives in one run, each example under one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import cast

import numpy as np

from triarch.data.features import Features, Transform
from triarch.errors import UserError
from triarch.objectives.base import Objective, PairFunction, PairObjective, SpecialTokens
from triarch.objectives.token_objective import TokenObjective


@dataclasses.dataclass(frozen=True)
class Mixture(TokenObjective):
    """Puts each example under one of several objectives, drawn by weight from the example's own generator.

    Features have the lengths of the longest, whatever the objective drawn; the rest is padding.

    Attributes:
      objectives: to choose from.
      weights: one for each, in any unit; an objective of weight 0 is left out.
    """

    objectives: tuple[Objective, ...]
    weights: tuple[float, ...]

    name = "mixture"

    @property
    def layouts(self) -> tuple[str, ...]:
        """Layouts of stores that all of the objectives take."""
        first, *others = (part.layouts for part in self._parts())
        return tuple(layout for layout in first if all(layout in other for other in others))

    def lengths(self, architecture: str, window: int) -> dict[str, int]:
        """Returns the tokens each side reads."""
        every = [objective.lengths(architecture, window) for objective in self._parts()]
        return {side: max(lengths[side] for lengths in every) for side in every[0]}

    def num_scored(self, architecture: str, window: int) -> int:
        """Returns how many tokens of a window carry loss, at most."""
        return max(objective.num_scored(architecture, window) for objective in self._parts())

    def transform(self, architecture: str, special: SpecialTokens, vocab_size: int, window: int) -> Transform:
        """Returns the function from a window to the features of one of the objectives."""
        lengths = self.lengths(architecture, window)
        transforms = [part.transform(architecture, special, vocab_size, window) for part in self._parts()]
        # Every batch needs the same features, and not every objective makes all of them.
        tokens = np.full(window, special.eos, np.int32)
        probe = {"tokens": tokens, "inputs": tokens[:1], "targets": tokens[:1]}
        names = {name for transform in transforms for name in transform(probe, np.random.default_rng(0))}
        draw = self._drawing()

        def features(example: Mapping[str, np.ndarray], rng: np.random.Generator) -> Features:
            made = transforms[draw(rng)](example, rng)
            return {name: _padded(made.get(name), name, lengths, special.pad) for name in sorted(names | made.keys())}

        return features

    def pair(self, special: SpecialTokens, window: int) -> PairFunction:
        """Returns the function from tokens to the inputs and targets of one of the objectives.

        Raises:
          UserError: one of them makes no pairs.
        """
        for part in self._parts():
            if not hasattr(part, "pair"):
                raise UserError(f"objective {part.name} has no inputs and targets, which this mixture is asked for")
        pairs = [cast(PairObjective, part).pair(special, window) for part in self._parts()]
        draw = self._drawing()
        return lambda tokens, rng: pairs[draw(rng)](tokens, rng)

    def _parts(self) -> tuple[TokenObjective, ...]:
        """Returns the objectives that may be drawn, having checked the fields."""
        if len(self.objectives) != len(self.weights):
            raise UserError(
                f"Mixture: {len(self.weights)} weights for {len(self.objectives)} objectives: expected one for each"
            )
        if not all(0 <= weight < np.inf for weight in self.weights) or not sum(self.weights) > 0:
            raise UserError(f"Mixture.weights = {self.weights}: expected none negative, and not all 0")
        parts = []
        for part, weight in zip(self.objectives, self.weights, strict=True):
            if not isinstance(part, TokenObjective):
                raise UserError(f"Mixture.objectives: objective {part.name} predicts no tokens, so it cannot be mixed")
            if weight > 0:
                parts.append(part)
        return tuple(parts)

    def _drawing(self) -> Callable[[np.random.Generator], int]:
        """Returns the function that draws the index of one of `_parts`."""
        weights = np.array([weight for weight in self.weights if weight > 0], np.float64)
        bounds = np.cumsum(weights)[:-1] / weights.sum()
        return lambda rng: int(np.searchsorted(bounds, rng.random(), side="right"))


def _padded(values: np.ndarray | None, name: str, lengths: Mapping[str, int], pad: int) -> np.ndarray:
    """Returns a feature at its side's full length; all zeros where an objective does not make it."""
    length = lengths[name.partition("_")[0]]
    if values is None:
        return np.zeros(length, np.int32)
    if len(values) == length:
        return values
    padded = np.full(length, pad if name.endswith("_tokens") else 0, values.dtype)
    padded[: len(values)] = values
    return padded
