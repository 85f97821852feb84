"""Classification and regression: a label for each text, or pair of texts."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from triarch.data.manifest import CLASSES, TOKEN_CLASSES, VALUES, Labels
from triarch.errors import UserError, nearest
from triarch.objectives import documents
from triarch.objectives.base import PLAIN, Features, LossOptions, SpecialTokens, Transform

if TYPE_CHECKING:  # Features are made without jax.
    import jax

    from triarch.models import MakeHead, ModelConfig, Transformer
    from triarch.models.layers.parts import Convention
    from triarch.objectives.labels.classifier_head import ClassifierHead
    from triarch.objectives.sums import Sums

# What stands before a classifier's outputs, see `classifier_head`.
Form = Literal["linear", "tanh", "relu", "norm", "prediction"]
FORMS = ("linear", "tanh", "relu", "norm", "prediction")
Pooling = Literal["cls", "mean", "last"]
POOLINGS = ("cls", "mean", "last")


@dataclasses.dataclass(frozen=True)
class Classify:
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

    num_labels: int = 2
    regression: bool = False
    pooling: Pooling | None = None
    head: Form | None = None
    class_weights: tuple[float, ...] = ()
    dropout: float = 0.0

    name = "classify"
    layouts = ("labelled",)
    splits_into_microbatches = True
    keeps_head = True

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
        check_fields(self)
        if self.pooling is not None and self.pooling not in POOLINGS:
            raise UserError(f"Classify.pooling = {self.pooling!r}{nearest(str(self.pooling), POOLINGS)}")
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

    def check_labels(self, labels: Labels | None, store: str) -> None:
        """Raises UserError unless the labels of a store, as its manifest has them, are those that this learns."""
        _ = self.lengths("encoder-only", 1)
        check_labels(self, labels, store)


@dataclasses.dataclass(frozen=True)
class BoundClassify:
    """A `Classify` for one architecture and window; see `BoundObjective`."""

    objective: Classify
    architecture: str
    special: SpecialTokens
    window: int

    @functools.cached_property
    def lengths(self) -> dict[str, int]:
        """Tokens each side reads."""
        return self.objective.lengths(self.architecture, self.window)

    @property
    def num_scored(self) -> int:
        """Labels of an example."""
        return 1

    @property
    def make_head(self) -> MakeHead | None:
        """Makes the classifier's head."""
        from triarch.objectives.labels.classifier_head import HeadForm

        check_fields(self.objective)
        return HeadForm(self.objective.head, self.objective.num_labels)

    @functools.cached_property
    def features(self) -> Transform:
        """The numpy function from an example to features."""
        _ = self.lengths
        dtype = np.float32 if self.objective.regression else np.int32

        def features(example: Mapping[str, np.ndarray], rng: np.random.Generator) -> Features:
            return {
                **text_features(example, self.architecture, self.special),
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
        if self.objective.regression:
            return label_losses.squared_error(logits[:, 0], batch["label"], self._weights(batch), added)
        return label_losses.cross_entropy(logits, batch["label"], self._weights(batch), added)

    def logits(
        self,
        model: Transformer,
        batch: Mapping[str, jax.Array],
        key: jax.Array | None = None,
        added: dict[str, jax.Array] | None = None,
    ) -> jax.Array:
        """Returns the scores of the labels, float32[batch, labels]; of regression the number.

        Args:
          model: the network with its head.
          batch: features.
          key: a random key for each example, for dropout; None: nothing is left out.
          added: filled with what parts of layers ask training to minimise besides.
        """
        from triarch.models.pooling import pooled
        from triarch.objectives.labels.losses import dropped

        states = model.states(batch, key, added)
        side = "encoder" if self.architecture == "encoder-only" else "decoder"
        pooling: Pooling = self.objective.pooling or ("cls" if side == "encoder" else "last")
        head = cast("ClassifierHead", model.head)
        state = pooled(states, batch[f"{side}_segment_ids"], pooling)[:, None]
        hidden = dropped(head.hidden(model, state), self.objective.dropout, key)
        return head.logits(hidden)[:, 0]

    def _weights(self, batch: Mapping[str, jax.Array]) -> jax.Array:
        from triarch.objectives.labels.losses import label_weights

        return label_weights(batch["label"], self.objective.class_weights)


def text_features(example: Mapping[str, np.ndarray], architecture: str, special: SpecialTokens) -> Features:
    """Returns the features of a framed text, whose segment ids are 1 + its token types and 0 in padding."""
    if "label" not in example:
        raise UserError("classification needs labels: prepare the store with --layout=labelled")
    tokens, segments = documents.tokens_and_segments(example)
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


def check_fields(objective: Any) -> None:
    """Raises UserError for a value that a classifier cannot have, whether of texts or of tokens."""
    owner = type(objective).__name__
    labels, weights = objective.num_labels, objective.class_weights
    if isinstance(labels, bool) or not isinstance(labels, int) or labels < 1:
        raise UserError(f"{owner}.num_labels = {labels!r}: expected a whole number from 1 on")
    if objective.head is not None and objective.head not in FORMS:
        raise UserError(f"{owner}.head = {objective.head!r}{nearest(str(objective.head), FORMS)}")
    if weights and (
        len(weights) != labels or not all(0 <= weight < math.inf for weight in weights) or not any(weights)
    ):
        raise UserError(
            f"{owner}.class_weights = {weights}: expected {labels} numbers, none negative, not all 0, or ()"
        )
    if not 0 <= objective.dropout < 1:
        raise UserError(f"{owner}.dropout = {objective.dropout!r}: expected a number from 0 on, below 1")


def check_labels(objective: Any, labels: Labels | None, store: str) -> None:
    """Raises UserError unless the labels of a store are those that an objective learns."""
    owner, found = type(objective).__name__, None if labels is None else labels.kind
    if found != objective.kind:
        told = {CLASSES: "classes", VALUES: "numbers", TOKEN_CLASSES: "classes of tokens"}
        advice = {
            CLASSES: "learn them with Classify",
            VALUES: "learn them with Classify.regression = True and num_labels = 1",
            TOKEN_CLASSES: "learn them with ClassifyTokens",
        }
        raise UserError(
            f"{store}: its labels are {told.get(found, 'missing')}, and {owner} expects {told[objective.kind]}: "
            f"{advice.get(found, 'prepare it with --layout=labelled')}"
        )
    names = None if labels is None else labels.names
    if names is not None and len(names) != objective.num_labels:
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise UserError(f"{store}: has {len(names)} labels ({shown}), but {owner}.num_labels is {objective.num_labels}")
