"""Classification and regression: a label for each text, or pair of texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from triarch.data.manifest import CLASSES, VALUES, StoreLabels
from triarch.errors import UserError
from triarch.fields import BelowOne, NotNegative, Size
from triarch.models.pooling import Pooling, pooled
from triarch.objectives.base import PLAIN, LossOptions, SpecialTokens
from triarch.objectives.labels.label_objective import BoundLabels, Form, LabelObjective

if TYPE_CHECKING:  # Features are made without jax.
    import jax

    from triarch.models import MakeHead, Transformer
    from triarch.objectives.labels.classifier_head import ClassifierHead


@dataclasses.dataclass(frozen=True)
class Classify(LabelObjective):
    """Learns the label of each text, or pair of texts, of a store of the layout "labelled".

    A text is read with the tokenizer's own start, end and separators, and its token types. An encoder reads it; a
    decoder reads it and its last token says the label; an encoder-decoder reads it on both sides, as T5 and BART do,
    and the decoder's last token says the label. The loss is the cross-entropy of the label, or of `regression` the
    squared error; the head is that of transformers' `*ForSequenceClassification` for such a network.

    Attributes:
      num_labels: how many there are; 1 for regression.
      regression: whether labels are numbers.
      pooling: which state is classified: "cls", the first token's; "mean", that over all tokens; "last", the last
        token's. None: "cls" of an encoder, "last" of a decoder.
      head: what stands before the outputs: "linear", nothing; "tanh" or "relu", a dense layer and that; "norm", a dense
        layer, the network's activation and a norm; "prediction", those before the network's vocabulary. None: what
        transformers has for such a network.
      class_weights: of each label in the loss; () for 1 each.
      dropout: of what the outputs are made of, while training.
    """

    num_labels: Size = 2
    regression: bool = False
    pooling: Pooling | None = None
    head: Form | None = None
    class_weights: tuple[NotNegative, ...] = ()
    dropout: BelowOne = 0.0

    name = "classify"

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of its `Sums.measures`."""
        return ("loss",) if self.regression else ("loss", "accuracy")

    @property
    def kind(self) -> str:
        """Of the labels that it learns."""
        return VALUES if self.regression else CLASSES

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is computed of all labels of a split, see `evaluation.label_metrics`."""
        return ("pearson", "spearman") if self.regression else ("accuracy", "f1", "matthews")

    def lengths(self, architecture: str, window: int) -> dict[str, int]:
        """Returns the tokens each side reads.

        Raises:
          UserError: a field is out of range.
        """
        self.check_fields()
        if self.regression and (self.num_labels != 1 or self.class_weights):
            raise UserError(
                f"Classify.regression with num_labels = {self.num_labels} and class_weights = {self.class_weights}: "
                "a number has one output and no class: expected num_labels = 1 and class_weights = ()"
            )
        if not self.regression and self.num_labels < 2:
            raise UserError(
                f"Classify.num_labels = {self.num_labels}: one class is always right: expected at least 2, or "
                "Classify.regression"
            )
        sides = {"encoder-only": ("encoder",), "decoder-only": ("decoder",)}
        return dict.fromkeys(sides.get(architecture, ("encoder", "decoder")), window)

    def bind(
        self,
        architecture: str,
        special: SpecialTokens,
        vocab_size: int,
        window: int,
        options: LossOptions = PLAIN,
    ) -> BoundClassify:
        """Returns the objective for one architecture, vocabulary and window."""
        return BoundClassify(self, architecture, special, window)

    def check_labels(self, labels: StoreLabels | None, store: str) -> None:
        """Raises UserError unless the labels of a store, as its manifest has them, are those that this learns."""
        _ = self.lengths("encoder-only", 1)
        super().check_labels(labels, store)


@dataclasses.dataclass(frozen=True)
class BoundClassify(BoundLabels):
    """A `Classify` for one architecture and window; see `BoundObjective`."""

    objective: Classify

    @property
    def num_scored(self) -> int:
        """Labels of an example."""
        return 1

    @property
    def make_head(self) -> MakeHead | None:
        """Makes the classifier's head."""
        from triarch.objectives.labels.classifier_head import HeadForm

        self.objective.check_fields()
        return HeadForm(self.objective.head, self.objective.num_labels)

    def logits(
        self,
        model: Transformer,
        batch: Mapping[str, jax.Array],
        key: jax.Array | None = None,
        added: dict[str, jax.Array] | None = None,
    ) -> jax.Array:
        """Returns the labels' scores, float32[batch, labels]; of regression the number; see `BoundLabels.logits`."""
        from triarch.objectives.labels.losses import dropped

        states = model.states(batch, key, added)
        side = "encoder" if self.architecture == "encoder-only" else "decoder"
        pooling: Pooling = self.objective.pooling or ("cls" if side == "encoder" else "last")
        head = cast("ClassifierHead", model.head)
        state = pooled(states, batch[f"{side}_segment_ids"], pooling)[:, None]
        hidden = dropped(head.hidden(model, state), self.objective.dropout, key)
        return head.logits(hidden)[:, 0]
