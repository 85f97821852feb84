"""Token classification: a label for each word of a text, as of named entities."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from triarch.data.manifest import TOKEN_CLASSES
from triarch.errors import UserError
from triarch.fields import BelowOne, NotNegative, Size
from triarch.objectives.base import PLAIN, LossOptions, SpecialTokens, require_architecture
from triarch.objectives.labels.label_objective import BoundLabels, Form, LabelObjective

if TYPE_CHECKING:  # Features are made without jax.
    import jax

    from triarch.models import MakeHead, Transformer
    from triarch.objectives.labels.classifier_head import ClassifierHead


@dataclasses.dataclass(frozen=True)
class ClassifyTokens(LabelObjective):
    """Learns the label of each word of a text: at its first token, where a store has one.

    The head is that of transformers' `*ForTokenClassification`: a linear map, after the prediction head of a network of
    the ModernBERT kind.

    Attributes:
      num_labels: how many there are.
      head: what stands before the outputs, as of `Classify`; None: as transformers has it.
      class_weights: of each label in the loss; () for 1 each.
      dropout: of what the outputs are made of, while training.
    """

    num_labels: Size = 2
    head: Form | None = None
    class_weights: tuple[NotNegative, ...] = ()
    dropout: BelowOne = 0.0

    name = "classify_tokens"
    measures = ("loss", "accuracy")
    kind = TOKEN_CLASSES
    metrics = ("accuracy", "f1", "matthews")

    def lengths(self, architecture: str, window: int) -> dict[str, int]:
        """Returns the tokens that the one side reads.

        Raises:
          UserError: a field is out of range.
        """
        require_architecture(self.name, architecture, ("encoder-only", "decoder-only"))
        self.check_fields()
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


@dataclasses.dataclass(frozen=True)
class BoundClassifyTokens(BoundLabels):
    """A `ClassifyTokens` for one architecture and window; see `BoundObjective`."""

    objective: ClassifyTokens

    @property
    def num_scored(self) -> int:
        """Labels of an example, at most."""
        return self.window

    @property
    def make_head(self) -> MakeHead | None:
        """Makes the classifier's head."""
        from triarch.objectives.labels.classifier_head import TokenHeadForm

        self.objective.check_fields()
        return TokenHeadForm(self.objective.head, self.objective.num_labels, True)

    def logits(
        self,
        model: Transformer,
        batch: Mapping[str, jax.Array],
        key: jax.Array | None = None,
        added: dict[str, jax.Array] | None = None,
    ) -> jax.Array:
        """Returns the scores of each token's labels, float32[batch, length, labels]; see `BoundLabels.logits`."""
        from triarch.objectives.labels.losses import dropped

        head = cast("ClassifierHead", model.head)
        hidden = head.hidden(model, model.states(batch, key, added))
        return head.logits(dropped(hidden, self.objective.dropout, key))
