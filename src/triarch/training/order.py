"""Which documents a run reads, and when: a function of its config and its stores, no training needed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from triarch.data.provenance import Pieces, joined
from triarch.errors import UserError
from triarch.training.inputs import Inputs

# Runs of tokens looked up at a time, about: many, for each row group of a table is decoded once for all of them.
_RUNS = 2**19


@dataclasses.dataclass(frozen=True)
class OrderPart:
    """What some consecutive rows of batches are made of, a run of tokens each: int64[runs], by step, row and place.

    Attributes:
      step: of the run.
      row: of the global batch.
      epoch: the how manieth time, from 0 on, that its store is gone through.
      store: number of the store.
      example: index in the store's split.
      pieces: which document, where it lies and which of its tokens these are, see `Pieces`; its `place` counts the rows
        of this part, its `source` is the number of the file in `DataOrder.names`.
    """

    step: np.ndarray
    row: np.ndarray
    epoch: np.ndarray
    store: np.ndarray
    example: np.ndarray
    pieces: Pieces


class DataOrder:
    """The order in which a run reads documents.

    Attributes:
      names: the files met so far; it grows.
    """

    def __init__(self, inputs: Inputs, rows: slice | None = None):
        """The order of a run's training batches, or of some `rows` of each.

        Raises:
          UserError: a store was made before provenance was recorded, or its provenance is damaged.
        """
        split = inputs.config.data.train_split
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._batches = inputs.training(rows)
        self._rows = np.arange(inputs.config.batch_size)[rows if rows is not None else slice(None)]
        self._provenance = [store.provenance(split) for store in inputs.stores]
        self._known: list[list[int]] = [[] for _ in inputs.stores]

    def parts(self, steps: range) -> Iterator[tuple[int, OrderPart]]:
        """Yields what `steps` (consecutive) read, some rows at a time, each time with how many steps end with them.

        Memory is bounded, however many documents an example has.

        Raises:
          UserError: a table is damaged.
        """
        each = max(provenance.runs_per_example for provenance in self._provenance)
        size = max(1, int(_RUNS / each))
        rows = self._ids(steps)
        while some := list(itertools.islice(rows, size)):
            part = self._part(np.array(some, np.int64))
            yield sum(row == self._rows[-1] for _, row, *_ in some), part

    def _ids(self, steps: range) -> Iterator[tuple[int, int, int, int, int]]:
        """Yields step, row, store, example and epoch of each row."""
        for step in steps:
            for row, example in zip(self._rows.tolist(), self._batches.example_ids(step), strict=True):
                yield step, row, *example

    def _part(self, ids: np.ndarray) -> OrderPart:
        step, row, store, example, epoch = ids.T
        found = []
        for number, provenance in enumerate(self._provenance):
            places = np.flatnonzero(store == number)
            if len(places):
                pieces = provenance.pieces(example[places])
                named = self._named(number, pieces.source, provenance.sources)
                found.append(dataclasses.replace(pieces, place=places[pieces.place], source=named))
        pieces = found[0] if len(found) == 1 else joined(found)
        place = pieces.place
        return OrderPart(
            step=step[place],
            row=row[place],
            epoch=epoch[place],
            store=store[place],
            example=example[place],
            pieces=pieces,
        )

    def _named(self, store: int, sources: np.ndarray, known: Sequence[str]) -> np.ndarray:
        """Returns the numbers in `names` of a store's `sources`."""
        numbers = self._known[store]
        for name in known[len(numbers) :]:
            if name not in self._numbers:
                self._numbers[name] = len(self.names)
                self.names.append(name)
            numbers.append(self._numbers[name])
        return np.array(numbers, np.int64)[sources]


def check_steps(steps: range, run_steps: int) -> None:
    """Raises UserError unless a run of `run_steps` steps makes all of `steps`, and there is one."""
    if not 0 <= steps.start < steps.stop:
        raise UserError(f"steps {steps.start}:{steps.stop}: expected a first step and a larger one behind the last")
    if steps.stop > run_steps:
        raise UserError(f"steps {steps.start}:{steps.stop}: the run has steps 0 to {run_steps - 1:,} only")
