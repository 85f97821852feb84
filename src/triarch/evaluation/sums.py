"""From a model and windows to nats, tokens and bytes of each window."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from triarch.data.features import Example, Features
from triarch.data.store import TokenStore
from triarch.evaluation.scoring import Scoring
from triarch.interchange import LoadedModel
from triarch.models import Transformer
from triarch.objectives import cross_entropy
from triarch.progress import Progress

# Logits held at once, in numbers: 256 MiB of float32.
_LOGITS = 2**26


class NumberedWindows(Protocol):
    """Windows to score: the number of each in its split, on which random choices depend, and its tokens."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[int, Example]]: ...


class WindowSums(NamedTuple):
    """Float64 [windows]: sums over the scored tokens of each window, weighted; or [windows, tokens], not summed.

    Attributes:
      nats: cross-entropy.
      tokens: number of scored tokens; where some are drawn, of all that they are drawn from.
      bytes: UTF-8 bytes of the text of these tokens.
    """

    nats: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray


def scored_losses(model: Transformer, batch: Mapping[str, jax.Array]) -> Float[Array, "batch targets"]:
    """Returns the cross-entropy in nats of the targets at `scored_positions`; no other position gets logits."""
    positions, targets = batch["scored_positions"], batch["scored_targets"]
    hidden = jnp.take_along_axis(model.hidden(batch), positions[..., None], axis=1)
    chunk = max(1, _LOGITS // (len(targets) * model.config.vocab_size))
    return cross_entropy.token_losses(hidden, model.unembedding(), targets, chunk)


@dataclasses.dataclass(frozen=True)
class Scorer:
    """A model, in batches of one shape.

    Attributes:
      losses: `scored_losses` of the model, compiled.
      text_bytes: bytes of text for each that tokens stand for, see `TokenStore.text_bytes`.
      batch_size: rows a batch; the last is filled with rows of weight 0.
      advance: called with the number of rows done.
    """

    losses: Callable[[Features], np.ndarray]
    text_bytes: float
    batch_size: int
    advance: Callable[[int], None]

    @classmethod
    def of(cls, model: LoadedModel, store: TokenStore, split: str, batch_size: int, progress: Progress) -> Scorer:
        """Takes them from a model, a split of a store of its vocabulary, and where the bar is."""
        return cls(model.compiled(scored_losses), store.text_bytes(split), batch_size, progress.advance)

    def window_sums(self, windows: NumberedWindows, scoring: Scoring) -> WindowSums:
        """Scores windows: numbers and examples of a store, at random access; `scoring` says what of them."""
        sums = WindowSums(*np.zeros((3, len(windows))))
        for owners, rows in self._scored(windows, scoring):
            for total, values in zip(sums, rows, strict=True):
                np.add.at(total, owners, values.sum(axis=1))
        return sums

    def token_sums(self, windows: NumberedWindows, scoring: Scoring) -> WindowSums:
        """Scores windows token by token, float64 [windows, targets], for a scoring of a row a window."""
        rows = [sums for _, sums in self._scored(windows, scoring)]
        return WindowSums(*(np.concatenate(values) for values in zip(*rows, strict=True)))

    def _scored(self, windows: NumberedWindows, scoring: Scoring) -> Iterator[tuple[list[int], WindowSums]]:
        """Yields, batch by batch, whose window each row is, and the rows' numbers [rows, targets]."""
        owned = (
            (place, row) for place, (number, example) in enumerate(windows) for row in scoring.rows(example, number)
        )
        for owners, rows in _grouped(owned, self.batch_size):
            batch = _stacked(rows, min(self.batch_size, len(windows) * scoring.rows_per_window))
            num_bytes = self.text_bytes * batch.pop("scored_bytes")[: len(rows)].astype(np.float64)
            nats = self.losses(batch)[: len(rows)].astype(np.float64)
            weights = batch["scored_weights"][: len(rows)].astype(np.float64)
            yield owners, WindowSums(weights * nats, weights, weights * num_bytes)
            self.advance(len(rows))


def _grouped(owned: Iterator[tuple[int, Features]], size: int) -> Iterator[tuple[list[int], list[Features]]]:
    while group := list(itertools.islice(owned, size)):
        owners, rows = zip(*group, strict=True)
        yield list(owners), list(rows)


def _stacked(rows: list[Features], batch_size: int) -> Features:
    filling = rows[0] | {"scored_weights": np.zeros_like(rows[0]["scored_weights"])}
    rows = rows + [filling] * (batch_size - len(rows))
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
