"""Rates of dropout, by place. Imports no jax: part of a run's config."""

from __future__ import annotations

import dataclasses

from triarch.fields import BelowOne, check


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Shares of numbers that a training step sets to 0 (JMLR 15:1929); the others grow, so that means stay.

    Evaluations leave nothing out. T5 (arXiv 1910.10683) has 0.1 at all places but adapters, RedLLM's tuning (arXiv
    2510.26622) 0.05 on what layers add, Ettin (arXiv 2507.11412) 0.1 on what attention adds.

    Attributes:
      embedding: of a stack's first input, positions and norm included.
      attention: of what self- and cross-attention add to the residual stream.
      feed_forward: of what feed-forward layers add to it.
      final: of a stack's output.
      adapter: of what the adapters of `LoRA` read, each by itself.
      attention_weights: of the weights by which self- and cross-attention sum values. Attention is then dense, whatever
        `Execution.attention` is: it holds the square of weights.
      inner: of what is between the matrices of feed-forward layers, activated and gated; not of experts.
    """

    embedding: BelowOne = 0.0
    attention: BelowOne = 0.0
    feed_forward: BelowOne = 0.0
    final: BelowOne = 0.0
    adapter: BelowOne = 0.0
    attention_weights: BelowOne = 0.0
    inner: BelowOne = 0.0

    def validate(self) -> None:
        """Raises UserError, naming the field, for a rate that is no share."""
        check(self)

    def __bool__(self) -> bool:
        """Whether anything is left out."""
        return any(getattr(self, field.name) for field in dataclasses.fields(self))


NO_DROPOUT = Dropout()
