"""Rotary frequencies, and how they are slowed for texts longer than those of training (arXiv 2104.09864)."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """How rotations are slowed, by which a model reads longer texts than it began with.

    Attributes:
      factor: by which the slowest frequencies are divided; of "dynamic", by which the base grows with the text.
      low_freq_factor: of "llama3": frequencies that go round fewer times than this within `original_length` are slow.
      high_freq_factor: of "llama3": those that go round more often stay as they are; between the two, a smooth passage.
      original_length: tokens of context before stretching; every kind but "linear" needs it.
      kind: "llama3" divides slow frequencies (arXiv 2407.21783), "linear" all of them (arXiv 2306.15595), "yarn" those
        behind a ramp, and makes attention sharper (arXiv 2309.00071); "dynamic" leaves texts of up to
        `original_length` alone and raises the base with the length of longer ones (NTK-aware scaling): that of the
        whole row, so that what comes later changes what was read before. A decoder's cache keeps keys as they were
        rotated when they were read, as transformers does.
      beta_fast: of "yarn": frequencies that go round more often than this within `original_length` stay as they are.
      beta_slow: of "yarn": those that go round fewer times are slow.
      attention_factor: of "yarn": factor on rotated queries and on rotated keys; None is 0.1 ln(factor) + 1.
      truncate: of "yarn": begin and end the ramp at a whole pair of dimensions.
    """

    factor: float
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    original_length: int | None = None
    kind: Literal["llama3", "linear", "dynamic", "yarn"] = "llama3"
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    truncate: bool = True


@dataclasses.dataclass(frozen=True)
class Rope:
    """The rotation of one kind of layer.

    Attributes:
      base: of its frequencies.
      scaling: how they are slowed.
      fraction: of a head's width that is rotated, the first part of it.
    """

    base: float
    scaling: RopeScaling | None = None
    fraction: float = 1.0

    def width(self, head_dim: int) -> int:
        """Returns how many numbers of each head are rotated."""
        return int(head_dim * self.fraction)

    def frequencies(self, head_dim: int) -> np.ndarray:
        """Returns radians a token, float64[width / 2], fastest first; of "dynamic", those of short texts."""
        width = self.width(head_dim)
        frequencies = self.base ** -(np.arange(0, width, 2) / width)
        scaling = self.scaling
        if scaling is None:
            return frequencies
        if scaling.kind == "linear":
            return frequencies / scaling.factor
        if scaling.kind == "llama3":
            return _llama3(frequencies, scaling)
        return _yarn(frequencies, scaling, self.base) if scaling.kind == "yarn" else frequencies

    def exponents(self, head_dim: int) -> np.ndarray:
        """Returns the power of a grown base's growth that each frequency is divided by, float64[width / 2]."""
        width = self.width(head_dim)
        return np.arange(0, width, 2) / (width - 2)

    @property
    def magnitude(self) -> float:
        """Factor on what is rotated."""
        scaling = self.scaling
        if scaling is None or scaling.kind != "yarn":
            return 1.0
        sharper = 0.1 * math.log(max(scaling.factor, 1.0)) + 1.0
        return sharper if scaling.attention_factor is None else scaling.attention_factor


def _llama3(frequencies: np.ndarray, scaling: RopeScaling) -> np.ndarray:
    assert scaling.original_length and scaling.high_freq_factor and scaling.low_freq_factor  # Checked with the config.
    turns = scaling.original_length * frequencies / (2 * np.pi)
    span = scaling.high_freq_factor - scaling.low_freq_factor
    kept = np.clip((turns - scaling.low_freq_factor) / span, 0, 1)
    return frequencies * (kept + (1 - kept) / scaling.factor)


def _yarn(frequencies: np.ndarray, scaling: RopeScaling, base: float) -> np.ndarray:
    pairs = np.arange(len(frequencies))
    width, length = 2 * len(frequencies), scaling.original_length
    assert length is not None

    def pair_of(turns: float) -> float:
        return width * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(base))

    first, last = pair_of(scaling.beta_fast), pair_of(scaling.beta_slow)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, width - 1)
    slowed = np.clip((pairs - first) / (last - first or 0.001), 0, 1)
    return frequencies * (1 - slowed + slowed / scaling.factor)
