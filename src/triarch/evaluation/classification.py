"""A classifier on a store of labelled texts: what it says of every one, and how well."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from triarch.data.manifest import LABELLED, TOKEN_CLASSES, VALUES
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.evaluation.label_metrics import label_metrics
from triarch.evaluation.store_sums import check_finite, check_vocabulary
from triarch.interchange import LoadedModel
from triarch.models import Transformer
from triarch.objectives import Classify, ClassifyTokens, SpecialTokens, learns_labels, objective_from
from triarch.progress import Progress

# Rows are cut to the longest of a batch, in steps of so many tokens: few programs, little padding.
_BUCKET = 32


@dataclasses.dataclass(frozen=True)
class Classification:
    """How well a model tells the labels of a split.

    Attributes:
      accuracy: share of labels that are told right; None of values.
      f1: of class 1 where there are two classes, else the mean over classes; None of values.
      matthews: Matthews' correlation coefficient; None of values.
      pearson: correlation of values; None of classes.
      spearman: of their ranks; None of classes.
      num_labels: labels that count.
      num_examples: texts, or pairs of texts.
      split: of the store.
      store_fingerprint: of what the store holds.
    """

    accuracy: float | None
    f1: float | None
    matthews: float | None
    pearson: float | None
    spearman: float | None
    num_labels: int
    num_examples: int
    split: str
    store_fingerprint: str


class Classifier:
    """Tells the labels of a split, with programs that are compiled once.

    Args:
      model: trained with `Classify` or `ClassifyTokens`; its parameters may be replaced between calls.
      store: of its vocabulary and labels.
      split: of the store.
      batch_size: texts computed at once.

    Raises:
      UserError: the model tells no labels or others than the store's, the vocabularies differ, the split is missing.
    """

    def __init__(self, model: LoadedModel, store: TokenStore, split: str, batch_size: int = 32):
        self.objective = labels_objective(model)
        check_vocabulary(model, store)
        if store.manifest.layout != LABELLED:
            raise UserError(f"{store.path}: has no labels: prepare it with --layout={LABELLED}")
        self.objective.check_labels(store.manifest.labels, str(store.path))
        self.model, self.store, self.split = model, store, split
        special = SpecialTokens.from_manifest(store.manifest.vocabulary.special)
        size = store.manifest.vocabulary.size
        self._bound = self.objective.bind(model.config.architecture, special, size, store.manifest.window)
        self._features = self._bound.features
        self._reader = store.split(split)
        self._batch_size = min(batch_size, len(self._reader))

        def scores(network: Transformer, batch: Mapping[str, jax.Array]) -> jax.Array:
            return self._bound.logits(network, batch)

        self._scores: Callable[[Transformer, Mapping[str, jax.Array]], Any] = scores

    @property
    def _kind(self) -> str:
        labels = self.store.manifest.labels
        assert labels is not None  # `check_labels` has seen them.
        return labels.kind

    def __call__(self, advance: Callable[[int], None] = lambda examples: None) -> Classification:
        """Returns how well the model tells the labels; `advance` is told of every batch."""
        told, labels = self.told(advance)
        kind = self._kind
        found = label_metrics(kind, self.objective.num_labels, told, labels)
        counted = len(labels) if kind == VALUES else int((labels >= 0).sum())
        fingerprint = self.store.manifest.fingerprint
        return Classification(
            **found,
            num_labels=counted,
            num_examples=len(self._reader),
            split=self.split,
            store_fingerprint=fingerprint,
        )

    def told(self, advance: Callable[[int], None] = lambda examples: None) -> tuple[np.ndarray, np.ndarray]:
        """Returns what the model says, classes or values, and what is so: one of each text, or of each token."""
        kind = self._kind
        length = (len(self._reader), self.store.manifest.window) if kind == TOKEN_CLASSES else (len(self._reader),)
        labels = np.full(length, -1, np.float32 if kind == VALUES else np.int32)
        told = np.zeros_like(labels)
        compiled = self.model.compiled(self._scores)
        for rows, batch in self._batches():
            found = compiled({name: values for name, values in batch.items() if name != "label"})[: len(rows)]
            check_finite(found, self.model, self.store)
            values = found[:, 0] if kind == VALUES else found.argmax(-1)
            if kind == TOKEN_CLASSES:
                told[rows, : values.shape[1]] = values
                labels[rows, : values.shape[1]] = batch["label"][: len(rows), : values.shape[1]]
            else:
                told[rows], labels[rows] = values, batch["label"][: len(rows)]
            advance(len(rows))
        return told.reshape(-1), labels.reshape(-1)

    def _batches(self) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Yields which examples, shortest first, and their features; the last batch is filled up with its last row."""
        nothing = np.random.default_rng(0)
        lengths = np.array([int((self._reader[index]["segment_ids"] > 0).sum()) for index in range(len(self._reader))])
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            filled = np.concatenate([rows, np.repeat(rows[-1:], self._batch_size - len(rows))])
            examples = [self._features(self._reader[int(index)], nothing) for index in filled]
            batch = {name: np.stack([example[name] for example in examples]) for name in examples[0]}
            longest = min(-(-int(lengths[rows].max()) // _BUCKET) * _BUCKET, self.store.manifest.window)
            yield rows, {name: values[:, :longest] if values.ndim > 1 else values for name, values in batch.items()}


def classify(
    model: LoadedModel, store: TokenStore, split: str, batch_size: int = 32, *, show_progress: bool = False
) -> Classification:
    """Returns how well a model tells the labels of a store's split; see `Classifier`."""
    classifier = Classifier(model, store, split, batch_size)
    with Progress(show_progress) as progress:
        progress.start(f"{store.manifest.task} {split}", store.manifest.splits[split].examples)
        return classifier(progress.advance)


def labels_objective(model: LoadedModel) -> Classify | ClassifyTokens:
    """Returns the objective by which a model tells labels.

    Raises:
      UserError: it tells none.
    """
    fields = model.origin.objective
    if fields is None or not learns_labels(fields):
        name = (fields or {}).get("class")
        told = "has no head of a classifier" if name is None else f"was trained with {name}"
        raise UserError(
            f"{model.path} {told}, so it tells no labels: train it with RunConfig.objective = @Classify() first"
        )
    found: Any = objective_from(fields, str(model.path))
    return found
