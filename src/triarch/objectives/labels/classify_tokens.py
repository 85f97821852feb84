"""Token classification: a label for each word of a text, as of named entities."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np

from triarch.data.manifest import TOKEN_CLASSES, Labels
from triarch.errors import UserError
from triarch.objectives.base import PLAIN, Features, LossOptions, SpecialTokens, Transform, require_architecture
from triarch.objectives.labels.classify import Form, check_fields, check_labels, text_features

if TYPE_CHECKING:  # Features are made without jax.
    import jax

    from triarch.models import MakeHead, ModelConfig, Transformer
    from triarch.models.layers.parts import Convention
    from triarch.objectives.labels.classifier_head import ClassifierHead
    from triarch.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class ClassifyTokens:
    """Learns the label of each word of a text: at its first token, where a store has one.

    The head is that of transformers' `*ForTokenClassification`: a linear map, after the prediction head of a network of
    the ModernBERT kind.

    Attributes:
      num_labels: how many there are.
      head: what stands before the outputs, as of `Classify`; None: as transformers has it.
      class_weights: of each label in the loss; () for 1 each.
      dropout: of what the outputs are made of, while training.
    """

    num_labels: int = 2
    head: Form | None = None
    class_weights: tuple[float, ...] = ()
    dropout: float = 0.0

    name = "classify_tokens"
    layouts = ("labelled",)
    measures = ("loss", "accuracy")
    splits_into_microbatches = True
    keeps_head = True
    kind = TOKEN_CLASSES
    metrics = ("accuracy", "f1", "matthews")

    def lengths(self, architecture: str, window: int) -> dict[str, int]:
        """Returns the tokens that the one side reads.

        Raises:
          UserError: a field is out of range.
        """
        require_architecture(self.name, architecture, ("encoder-only", "decoder-only"))
        check_fields(self)
        if self.num_labels < 2:
            raise UserError(f"ClassifyTokens.num_labels = {self.num_labels}: expected at least 2")
        return {"encoder" if architecture == "encoder-only" else "decoder": window}

    def bind(
        self,
        architecture: str,
        special: SpecialTokens,
        vocab_size: int,
        window: int,
        options: LossOptions = PLAIN,
    ) -> BoundClassifyTokens:
        """Returns the objective for one architecture, vocabulary and window."""
        return BoundClassifyTokens(self, architecture, special, window)

    def check_labels(self, labels: Labels | None, store: str) -> None:
        """Raises UserError unless the labels of a store, as its manifest has them, are those that this learns."""
        check_labels(self, labels, store)


@dataclasses.dataclass(frozen=True)
class BoundClassifyTokens:
    """A `ClassifyTokens` for one architecture and window; see `BoundObjective`."""

    objective: ClassifyTokens
    architecture: str
    special: SpecialTokens
    window: int

    @functools.cached_property
    def lengths(self) -> dict[str, int]:
        """Tokens each side reads."""
        return self.objective.lengths(self.architecture, self.window)

    @property
    def num_scored(self) -> int:
        """Labels of an example, at most."""
        return self.window

    @property
    def make_head(self) -> MakeHead | None:
        """Makes the classifier's head."""
        from triarch.objectives.labels.classifier_head import TokenHeadForm

        check_fields(self.objective)
        return TokenHeadForm(self.objective.head, self.objective.num_labels, True)

    @functools.cached_property
    def features(self) -> Transform:
        """The numpy function from an example to features."""
        _ = self.lengths

        def features(example: Mapping[str, np.ndarray], rng: np.random.Generator) -> Features:
            return {**text_features(example, self.architecture, self.special), "label": np.asarray(example["label"])}

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
        return label_losses.cross_entropy(logits, batch["label"], self._weights(batch), added)

    def logits(
        self,
        model: Transformer,
        batch: Mapping[str, jax.Array],
        key: jax.Array | None = None,
        added: dict[str, jax.Array] | None = None,
    ) -> jax.Array:
        """Returns the scores of each token's labels, float32[batch, length, labels]; see `BoundClassify.logits`."""
        from triarch.objectives.labels.losses import dropped

        head = cast("ClassifierHead", model.head)
        hidden = head.hidden(model, model.states(batch, key, added))
        return head.logits(dropped(hidden, self.objective.dropout, key))

    def _weights(self, batch: Mapping[str, jax.Array]) -> jax.Array:
        from triarch.objectives.labels.losses import label_weights

        return label_weights(batch["label"], self.objective.class_weights)
