"""What every objective is: a pure function from an example's tokens to a model's features."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from triarch.errors import UserError

Features = dict[str, np.ndarray]
Transform = Callable[[Mapping[str, np.ndarray], np.random.Generator], Features]


@dataclasses.dataclass(frozen=True)
class SpecialTokens:
    """Ids with a meaning of their own.

    Attributes:
      pad: fills what is not there; its loss weight is 0.
      bos: what the decoder reads before its first target ("<s>"); SeqIO and T5 use the pad token.
      eos: ends a document ("[EOD]").
      mask: stands for a token to be guessed; None if the vocabulary has none.
    """

    pad: int
    bos: int
    eos: int
    mask: int | None


class Objective(Protocol):
    """How tokens become a loss: `transform` makes the features, the loss is cross-entropy on their weights."""

    @property
    def name(self) -> str: ...

    def lengths(self, architecture: str, window: int) -> dict[str, int]:
        """Returns {"encoder": E, "decoder": D} for those sides that `architecture` has, for windows of `window`."""
        ...

    def num_scored(self, architecture: str, window: int) -> int:
        """Returns how many tokens of a window carry loss: no more do, so that the loss may skip the others."""
        ...

    def transform(self, architecture: str, special: SpecialTokens, vocab_size: int) -> Transform:
        """Returns the numpy function from {"tokens": int32[window]} to SeqIO-named features.

        Raises:
          UserError: the objective makes no sense for the architecture, or lacks a special token it needs.
        """
        ...


def require_architecture(objective: str, architecture: str, allowed: tuple[str, ...]) -> None:
    """Raises UserError unless `objective` makes sense for `architecture`."""
    if architecture not in allowed:
        raise UserError(f"objective {objective} trains {' or '.join(allowed)} models, not {architecture} ones")


def shift_right(targets: np.ndarray, bos: int) -> np.ndarray:
    """Returns what a decoder reads to predict `targets`: the start token, then all targets but the last."""
    return np.concatenate([np.full((1,), bos, np.int32), targets[:-1]])
