"""Rotary frequencies, and how Llama 3 stretches them (arXiv 2104.09864, 2407.21783)."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Llama 3's stretching of slow rotations, by which a model reads longer texts than it began with.

    Attributes:
      factor: by which the slowest frequencies are divided.
      low_freq_factor: frequencies that turn fewer times than this within `original_length` are slow.
      high_freq_factor: those that turn more often than this stay as they are; between the two, a smooth passage.
      original_length: tokens of context before stretching.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_length: int


@dataclasses.dataclass(frozen=True)
class Rope:
    """The rotation of one kind of layer.

    Attributes:
      base: of its frequencies.
      scaling: how they are stretched.
      fraction: of a head's width that is rotated, the first part of it.
    """

    base: float
    scaling: RopeScaling | None = None
    fraction: float = 1.0

    def width(self, head_dim: int) -> int:
        """Returns how many numbers of each head are rotated."""
        return int(head_dim * self.fraction)

    def frequencies(self, head_dim: int) -> np.ndarray:
        """Returns radians a token, float64[width / 2], fastest first."""
        width = self.width(head_dim)
        frequencies = self.base ** -(np.arange(0, width, 2) / width)
        return frequencies if self.scaling is None else _stretched(frequencies, self.scaling)


def _stretched(frequencies: np.ndarray, scaling: RopeScaling) -> np.ndarray:
    turns = scaling.original_length * frequencies / (2 * np.pi)
    span = scaling.high_freq_factor - scaling.low_freq_factor
    kept = np.clip((turns - scaling.low_freq_factor) / span, 0, 1)
    return frequencies * (kept + (1 - kept) / scaling.factor)
