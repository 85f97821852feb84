"""Named, weighted sums: what a loss is made of and what is measured beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class WeightedSum:
    """A sum of weighted values, and of their weights: float32 scalars on a device, float64 where they are collected."""

    total: Any
    weight: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sums:
    """What an objective says of a batch, by name. Microbatches, hosts and batches of an evaluation add theirs up.

    Attributes:
      measures: how well the model does; "loss" is one of them. Training reports NAME, an evaluation validation_NAME.
      penalties: what training adds to the loss, as z-loss or a router's balance; an evaluation does not report them.
    """

    measures: Mapping[str, WeightedSum]
    penalties: Mapping[str, WeightedSum] = dataclasses.field(default_factory=dict)

    def __add__(self, other: Sums) -> Sums:
        return jax.tree.map(lambda one, another: one + another, self, other)

    @property
    def named(self) -> dict[str, WeightedSum]:
        """Every sum by name."""
        return {**self.measures, **self.penalties}
