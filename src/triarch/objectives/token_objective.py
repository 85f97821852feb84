"""Objectives whose loss is the cross-entropy of tokens: all that they do not say themselves."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from triarch.data.features import Transform
from triarch.objectives.base import PLAIN, LossOptions, SpecialTokens

if TYPE_CHECKING:  # Features are made without jax.
    import jax

    from triarch.models import MakeHead, ModelConfig, Transformer
    from triarch.models.layers.parts import Convention
    from triarch.objectives.sums import Sums


class TokenObjective:
    """An objective whose loss is the cross-entropy of target tokens, by their weights.

    A subclass is a frozen dataclass that adds `name`, `layouts`, `lengths` and these two methods.
    """

    measures: tuple[str, ...] = ("loss", "accuracy")
    splits_into_microbatches = True

    @property
    def name(self) -> str:
        """What the objective is called."""
        raise NotImplementedError

    @property
    def layouts(self) -> tuple[str, ...]:
        """Layouts of token stores whose examples it takes."""
        raise NotImplementedError

    def lengths(self, architecture: str, window: int) -> dict[str, int]:
        """Returns how many tokens each side reads; see `Objective.lengths`."""
        raise NotImplementedError

    def num_scored(self, architecture: str, window: int) -> int:
        """Returns how many tokens of a window carry loss, at most: the loss may skip the others."""
        raise NotImplementedError

    def transform(self, architecture: str, special: SpecialTokens, vocab_size: int, window: int) -> Transform:
        """Returns the numpy function from an example to SeqIO-named features; see `BoundObjective.features`.

        Raises:
          UserError: the objective makes no sense for the architecture or the window, or lacks a special token.
        """
        raise NotImplementedError

    def bind(
        self,
        architecture: str,
        special: SpecialTokens,
        vocab_size: int,
        window: int,
        options: LossOptions = PLAIN,
    ) -> BoundTokens:
        """Returns the objective for one architecture, vocabulary and window."""
        return BoundTokens(self, architecture, special, vocab_size, window, options)


@dataclasses.dataclass(frozen=True)
class BoundTokens:
    """A `TokenObjective` for one architecture, vocabulary and window; see `BoundObjective`."""

    objective: TokenObjective
    architecture: str
    special: SpecialTokens
    vocab_size: int
    window: int
    options: LossOptions

    @property
    def make_head(self) -> MakeHead | None:
        """None: nothing is added to the network."""
        return None

    @functools.cached_property
    def lengths(self) -> dict[str, int]:
        """Tokens each side reads."""
        return self.objective.lengths(self.architecture, self.window)

    @functools.cached_property
    def num_scored(self) -> int:
        """Tokens of a window that carry loss, at most."""
        return self.objective.num_scored(self.architecture, self.window)

    @functools.cached_property
    def features(self) -> Transform:
        """The numpy function from an example to features."""
        return self.objective.transform(self.architecture, self.special, self.vocab_size, self.window)

    def flops(self, model: ModelConfig, convention: Convention) -> float:
        """Returns the model's FLOPs for one example, "paper" or "train"."""
        return model.flops(self.lengths.get("encoder", 0), self.lengths.get("decoder", 0), convention, self.num_scored)

    def weight(self, batch: Mapping[str, jax.Array]) -> jax.Array:
        """Returns the sum of the targets' weights."""
        from triarch.objectives.losses import scored_features

        return scored_features(batch)[1].sum()

    def loss(
        self, model: Transformer, batch: Mapping[str, jax.Array], key: jax.Array | None = None
    ) -> tuple[jax.Array, Sums]:
        """Returns the summed cross-entropy and z-loss, and what they are made of."""
        from triarch.objectives.losses import loss_fn

        options = self.options
        scored = self.num_scored
        return loss_fn(model, batch, z_loss=options.z_loss, chunk=options.chunk, num_scored=scored, key=key)
