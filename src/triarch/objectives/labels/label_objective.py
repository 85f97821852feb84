"""Objectives that learn the labels of a store: all that classifiers of texts and of tokens have in common."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from triarch.data.features import Features, Transform
from triarch.data.manifest import CLASSES, TOKEN_CLASSES, VALUES, StoreLabels
from triarch.errors import UserError
from triarch.fields import check
from triarch.objectives import documents
from triarch.objectives.base import SpecialTokens

if TYPE_CHECKING:  # Features are made without jax.
    import jax

    from triarch.models import ModelConfig, Transformer
    from triarch.models.layers.parts import Convention
    from triarch.objectives.sums import Sums

# What stands before a classifier's outputs, see `classifier_head`.
Form = Literal["linear", "tanh", "relu", "norm", "prediction"]


class LabelObjective:
    """An objective that learns labels. A subclass is a frozen dataclass with these fields, and `kind`."""

    num_labels: int
    head: Form | None
    class_weights: tuple[float, ...]
    dropout: float

    layouts = ("labelled",)
    splits_into_microbatches = True
    keeps_head = True

    @property
    def kind(self) -> str:
        """Of the labels that it learns."""
        raise NotImplementedError

    def lengths(self, architecture: str, window: int) -> dict[str, int]:
        """Returns how many tokens each side reads; see `Objective.lengths`."""
        raise NotImplementedError

    def check_fields(self) -> None:
        """Raises UserError for a value that a classifier cannot have, whether of texts or of tokens."""
        check(self)
        weights = self.class_weights
        if weights and (len(weights) != self.num_labels or not any(weights)):
            raise UserError(
                f"{type(self).__name__}.class_weights = {weights}: expected {self.num_labels} numbers, none negative, "
                "not all 0, or ()"
            )

    def check_labels(self, labels: StoreLabels | None, store: str) -> None:
        """Raises UserError unless the labels of a store, as its manifest has them, are those that this learns."""
        owner, found = type(self).__name__, "" if labels is None else labels.kind
        if found != self.kind:
            told = {CLASSES: "classes", VALUES: "numbers", TOKEN_CLASSES: "classes of tokens"}
            advice = {
                CLASSES: "learn them with Classify",
                VALUES: "learn them with Classify.regression = True and num_labels = 1",
                TOKEN_CLASSES: "learn them with ClassifyTokens",
            }
            raise UserError(
                f"{store}: its labels are {told.get(found, 'missing')}, and {owner} expects {told[self.kind]}: "
                f"{advice.get(found, 'prepare it with --layout=labelled')}"
            )
        names = None if labels is None else labels.names
        if names is not None and len(names) != self.num_labels:
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise UserError(f"{store}: has {len(names)} labels ({shown}), but {owner}.num_labels is {self.num_labels}")


@dataclasses.dataclass(frozen=True)
class BoundLabels:
    """A `LabelObjective` for one architecture and window; see `BoundObjective`."""

    objective: LabelObjective
    architecture: str
    special: SpecialTokens
    window: int

    @functools.cached_property
    def lengths(self) -> dict[str, int]:
        """Tokens each side reads."""
        return self.objective.lengths(self.architecture, self.window)

    @functools.cached_property
    def features(self) -> Transform:
        """The numpy function from an example to features."""
        _ = self.lengths
        dtype = np.float32 if self.objective.kind == VALUES else np.int32

        def features(example: Mapping[str, np.ndarray], rng: np.random.Generator) -> Features:
            return {
                **_text_features(example, self.architecture, self.special),
                "label": np.asarray(example["label"], dtype),
            }

        return features

    def flops(self, model: ModelConfig, convention: Convention) -> float:
        """Returns the model's FLOPs for one example, "paper" or "train"; those of the head are left out."""
        return model.flops(self.lengths.get("encoder", 0), self.lengths.get("decoder", 0), convention, 0)

    def weight(self, batch: Mapping[str, jax.Array]) -> jax.Array:
        """Returns the sum of the labels' weights."""
        return self._weights(batch).sum()

    def loss(
        self, model: Transformer, batch: Mapping[str, jax.Array], key: jax.Array | None = None
    ) -> tuple[jax.Array, Sums]:
        """Returns the summed loss of the labels, and what it is made of."""
        from triarch.objectives.labels import losses as label_losses

        added: dict[str, jax.Array] = {}
        logits = self.logits(model, batch, key, added)
        if self.objective.kind == VALUES:
            return label_losses.squared_error(logits[:, 0], batch["label"], self._weights(batch), added)
        return label_losses.cross_entropy(logits, batch["label"], self._weights(batch), added)

    def logits(
        self,
        model: Transformer,
        batch: Mapping[str, jax.Array],
        key: jax.Array | None = None,
        added: dict[str, jax.Array] | None = None,
    ) -> jax.Array:
        """Returns the scores of the labels, float32[batch, ..., labels]; of regression the number.

        Args:
          model: the network with its head.
          batch: features.
          key: a random key for each example, for dropout; None: nothing is left out.
          added: filled with what parts of layers ask training to minimise besides.
        """
        raise NotImplementedError

    def _weights(self, batch: Mapping[str, jax.Array]) -> jax.Array:
        from triarch.objectives.labels.losses import label_weights

        return label_weights(batch["label"], self.objective.class_weights)


def _text_features(example: Mapping[str, np.ndarray], architecture: str, special: SpecialTokens) -> Features:
    """Returns the features of a framed text, whose segment ids are 1 + its token types and 0 in padding."""
    if "label" not in example:
        raise UserError("classification needs labels: prepare the store with --layout=labelled")
    tokens, segments = documents.tokens_and_segments(example)
    assert segments is not None  # Framed texts have them.
    real = (segments > 0).astype(np.int32)
    if architecture == "decoder-only":
        return {"decoder_input_tokens": tokens, "decoder_segment_ids": real}
    found = {
        "encoder_input_tokens": tokens,
        "encoder_segment_ids": real,
        "encoder_token_types": np.maximum(segments - 1, 0),
    }
    if architecture == "encoder-decoder":
        found |= {"decoder_input_tokens": documents.shift_right(tokens, special.bos), "decoder_segment_ids": real}
    return found
