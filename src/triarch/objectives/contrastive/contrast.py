"""Contrastive learning: a query's vector is to be nearer to its passage's than to those of all others in the batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from triarch.errors import UserError
from triarch.fields import Positive
from triarch.objectives.contrastive.groups import TextGroups

if TYPE_CHECKING:  # Features are made without jax.
    import jax

    from triarch.models import Transformer
    from triarch.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class Contrast(TextGroups):
    """Multiple-negatives ranking (InfoNCE, arXiv 1705.00652): cross-entropy of each query's own passage.

    Its candidates are the passages and hard negatives of the whole global batch, over all devices. What is the same
    text as its own passage, or the passage of the same query in another row, is none of its negatives.

    Attributes:
      query_length: the most tokens that a query has without the special ones, as the store was prepared.
      passage_length: likewise passages and hard negatives.
      num_negatives: hard negatives of each query, as the store was prepared.
      similarity: "cosine" or "dot".
      pooling: of the last states: "mean", "cls" or "last".
      add_special_tokens: whether a text stands between start and end tokens ([CLS] and [SEP]); the encoder of an
        encoder-decoder reads the end alone.
      chunk: texts embedded at a time, the others waiting as vectors (gradient caching, arXiv 2101.06983), so that
        memory is that of so many texts; the gradient is the same. 0: all at once.
      temperature: by which similarities are divided (0.05: a scale of 20).
      symmetric: whether each passage is to find its query as well: the mean of both cross-entropies.
    """

    temperature: Positive = 0.05
    symmetric: bool = False

    name = "contrast"
    splits_into_microbatches = False

    def check_batch(self, batch_size: int) -> None:
        """Raises UserError unless a batch of this size has something to tell apart."""
        if batch_size < 2:
            raise UserError(
                f"RunConfig.batch_size = {batch_size}: Contrast compares at least 2 queries with each other"
            )
        if batch_size < self.num_negatives:
            raise UserError(
                f"RunConfig.batch_size = {batch_size}: smaller than Contrast.num_negatives = {self.num_negatives}: "
                "expected at least as many queries as each has hard negatives"
            )
        super().check_batch(batch_size)

    def batch_loss(
        self, model: Transformer, batch: Mapping[str, jax.Array], key: jax.Array | None
    ) -> tuple[jax.Array, Sums]:
        """Returns the summed cross-entropy of the queries, and what it is made of."""
        from triarch.objectives.contrastive.loss import ranking_loss

        return ranking_loss(model, batch, key, self)
