"""Batches of pairs whose examples share rows, so that a step computes hardly any padding."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from triarch.data.batches import Batches
from triarch.data.features import Features, Transform
from triarch.data.streams import Stream

# Counts of rows are multiples of a batch's usual one by so much, so that few shapes are compiled.
_STEPS = 16


class PackedBatches(Batches):
    """The batches of `Batches`, each one's examples packed into rows that no two of them see across.

    A batch has the same examples, and their losses, as with one example a row. How many rows it takes depends on them;
    rows of padding make that a multiple of a few.
    """

    def __init__(
        self,
        batches: Batches,
        features: Transform,
        sides: Sequence[int],
        pad: int,
        multiple: int = 1,
        own: Callable[[int], slice] = lambda count: slice(None),
    ):
        """Packs the examples of `batches`.

        Args:
          batches: of all hosts' examples as they lie in the store: "inputs" and "targets".
          features: an objective's function from a packed row to features.
          sides: the most tokens that all inputs in a row have, and all targets.
          pad: id that fills up.
          multiple: of which the number of rows is one.
          own: this host's rows of so many.
        """
        self.__dict__.update(batches.__dict__)
        self._examples: Stream = batches.stream
        self._features = features
        self._sides = tuple(sides)
        self._pad = pad
        self._multiple = multiple
        self._own = own

    def batch(self, step: int) -> Features:
        """Returns this host's rows of batch `step`: arrays [rows, ...]."""
        packed = self._packed(step)
        count = -(-len(packed) // self.granularity) * self.granularity
        rows = [self._row(packed[row] if row < len(packed) else []) for row in range(count)[self._own(count)]]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    @functools.cached_property
    def usual_rows(self) -> int:
        """Rows that the first of these batches takes."""
        return len(self._packed(self._first_step))

    @property
    def granularity(self) -> int:
        """What the number of rows of every batch is a multiple of."""
        return self._multiple * max(1, round(self.usual_rows / _STEPS / self._multiple))

    def _packed(self, step: int) -> list[list[Features]]:
        """Returns the examples of each row of a batch."""
        examples = [self._examples.features(position) for position in self._positions(step)]
        lengths = np.array([[len(example["inputs"]), len(example["targets"])] for example in examples])
        return [[examples[index] for index in row] for row in first_fit(lengths, self._sides)]

    def _row(self, examples: Sequence[Features]) -> Features:
        window = sum(self._sides)
        tokens, segments = np.full(window, self._pad, np.int32), np.zeros(window, np.int32)
        end = 0
        for number, example in enumerate(examples, 1):
            for side in (example["inputs"], example["targets"]):
                tokens[end : end + len(side)] = side
                segments[end : end + len(side)] = number
                end += len(side)
        num_inputs = np.array([len(example["inputs"]) for example in examples], np.int32)
        row = {"tokens": tokens, "segment_ids": segments, "num_inputs": num_inputs}
        # What packed rows are made features of draws nothing.
        return self._features(row, np.random.default_rng(0))


def first_fit(lengths: np.ndarray, sides: Sequence[int]) -> list[list[int]]:
    """Returns which examples share a row: the longest first, each in the first row that has room on both sides.

    Args:
      lengths: int[examples, sides].
      sides: room of a row; no example is longer.
    """
    room = np.tile(np.array(sides, np.int64), (len(lengths), 1))
    rows: list[list[int]] = []
    for index in np.argsort(-(lengths / np.array(sides)).max(axis=1), kind="stable").tolist():
        row = int((room[: len(rows) + 1] >= lengths[index]).all(axis=1).argmax())
        if row == len(rows):
            rows.append([])
        rows[row].append(index)
        room[row] -= lengths[index]
    return rows
