"""Distillation of a ranking: a student's margins between passage and hard negatives are to be a teacher's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from triarch.data.features import Features
from triarch.data.manifest import MARGINS, StoreLabels
from triarch.errors import UserError
from triarch.fields import Size
from triarch.objectives.contrastive.groups import TextGroups

if TYPE_CHECKING:  # Features are made without jax.
    import jax

    from triarch.models import Transformer
    from triarch.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class MarginMSE(TextGroups):
    """Margin-MSE (arXiv 2010.02666): the squared difference of student's and teacher's margins.

    A margin is by how much the passage scores higher than a hard negative. The teacher's are those of the store
    (`triarch prepare --task=groups --score_fields`); the loss is the mean over queries and hard negatives.

    Attributes:
      query_length: the most tokens that a query has without the special ones, as the store was prepared.
      passage_length: likewise passages and hard negatives.
      num_negatives: hard negatives of each query, as the store was prepared.
      similarity: "dot" or "cosine"; a cosine's margins are at most 2.
      pooling: of the last states: "mean", "cls" or "last".
      add_special_tokens: whether a text stands between start and end tokens ([CLS] and [SEP]); the encoder of an
        encoder-decoder reads the end alone.
      chunk: texts embedded at a time, the others waiting as vectors (gradient caching, arXiv 2101.06983), so that
        memory is that of so many texts; the gradient is the same. 0: all at once.
    """

    num_negatives: Size = 1
    similarity: Literal["cosine", "dot"] = "dot"

    name = "margin_mse"
    splits_into_microbatches = True

    def check_labels(self, labels: StoreLabels | None, store: str) -> None:
        """Raises UserError unless a store, whose labels are these, has a teacher's scores."""
        if labels is None or labels.kind != MARGINS:
            raise UserError(
                f"{store}: its rows have no scores of a teacher, which MarginMSE learns: prepare it with --score_fields"
            )

    def own_features(self, example: Mapping[str, np.ndarray]) -> Features:
        """Returns the teacher's margins; 0 where only shapes matter."""
        return {"label": np.asarray(example.get("label", np.zeros(self.num_negatives)), np.float32)}

    def weight_of(self, queries: int) -> float:
        """Returns the margins of so many queries."""
        return queries * self.num_negatives

    def batch_loss(
        self, model: Transformer, batch: Mapping[str, jax.Array], key: jax.Array | None
    ) -> tuple[jax.Array, Sums]:
        """Returns the summed squared difference of the margins, and how many hard negatives score below the passage."""
        from triarch.objectives.contrastive.loss import margin_loss

        return margin_loss(model, batch, key, self)
