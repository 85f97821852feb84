"""Which documents a run reads, and when: a function of its configs and its stores, no training needed."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from triarch.data.batches import Batches
from triarch.data.provenance import Pieces, joined
from triarch.data.store import TokenStore
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
      epoch: how many times its store was gone through before.
      store: number of the store.
      example: index in the store's split.
      pieces: which document, where it lies and which of its tokens these are, see `Pieces`; its `place` counts the rows
        of this part, its `source` is the number of the file in `DataOrder.names`. None where documents were not asked
        for: then each row of a batch is one run of tokens.
    """

    step: np.ndarray
    row: np.ndarray
    epoch: np.ndarray
    store: np.ndarray
    example: np.ndarray
    pieces: Pieces | None


class DataOrder:
    """The order in which a run reads documents, over all its segments.

    Attributes:
      documents: whether it says which documents examples are made of.
      names: the files met so far; it grows.
      stores: folders of the stores, by their numbers.
    """

    def __init__(self, segments: Sequence[Inputs], host: tuple[int, int] | None = None, documents: bool = True):
        """The order of a run's training batches.

        Args:
          segments: of the run, in order.
          host: (I, N) for the rows that host I of N reads; None for all.
          documents: look up which documents examples are made of.

        Raises:
          UserError: a store was made before provenance was recorded, or its provenance is damaged, and documents are
            asked for; rows cannot be shared out evenly.
        """
        self.documents = documents
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._segments = [_Rows.of(inputs, host) for inputs in segments]
        splits = _splits(segments)
        self.stores = [str(splits[number][0].path) if number in splits else "" for number in range(max(splits) + 1)]
        self._provenance = {number: store.provenance(split) for number, (store, split) in splits.items() if documents}
        self._known: dict[int, list[int]] = {number: [] for number in splits}

    def parts(self, steps: range) -> Iterator[tuple[int, OrderPart]]:
        """Yields what `steps` (consecutive) read, some rows at a time, each time with how many steps end with them.

        Memory is bounded, however many documents an example has.

        Raises:
          UserError: a table is damaged.
        """
        each = max([provenance.runs_per_example for provenance in self._provenance.values()], default=1)
        size = max(1, int(_RUNS / each))
        rows = self._ids(steps)
        while some := list(itertools.islice(rows, size)):
            part = self._part(np.array([row for row, _ in some], np.int64))
            yield sum(ends for _, ends in some), part

    def _ids(self, steps: range) -> Iterator[tuple[tuple[int, int, int, int, int], bool]]:
        """Yields step, row, store, example and epoch of each row, and whether the step ends with it."""
        starts = [segment.first_step for segment in self._segments]
        for step in steps:
            segment = self._segments[bisect.bisect_right(starts, step) - 1]
            ids = segment.batches.example_ids(step)
            for row, example in zip(segment.rows, ids, strict=True):
                yield (step, row, *example), row == segment.rows[-1]

    def _part(self, ids: np.ndarray) -> OrderPart:
        step, row, store, example, epoch = ids.T
        if not self.documents:
            return OrderPart(step=step, row=row, epoch=epoch, store=store, example=example, pieces=None)
        found = []
        for number, provenance in self._provenance.items():
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


@dataclasses.dataclass(frozen=True)
class _Rows:
    """The rows of a segment's batches: from which step on, which of each batch."""

    first_step: int
    rows: range
    batches: Batches

    @classmethod
    def of(cls, inputs: Inputs, host: tuple[int, int] | None) -> _Rows:
        rows = _rows(inputs.config.batch_size, host)
        return cls(inputs.order.step, range(inputs.config.batch_size)[rows], inputs.training(rows))


def _splits(segments: Sequence[Inputs]) -> dict[int, tuple[TokenStore, str]]:
    """Returns the store and split that each number stands for."""
    return {
        number: (store, inputs.config.data.train_split)
        for inputs in segments
        for number, store in zip(inputs.order.numbers(inputs.source_names), inputs.stores, strict=True)
    }


def _rows(batch_size: int, host: tuple[int, int] | None) -> slice:
    """Returns the rows of a host: hosts read equal parts of a batch one after another, see `sharding.host_rows`."""
    number, hosts = (0, 1) if host is None else host
    if batch_size % hosts:
        raise UserError(f"--host={number}/{hosts}: {batch_size} rows cannot be shared out evenly between {hosts} hosts")
    share = batch_size // hosts
    return slice(number * share, (number + 1) * share)


def check_steps(steps: range, run_steps: int) -> None:
    """Raises UserError unless a run of `run_steps` steps makes all of `steps`, and there is one."""
    if not 0 <= steps.start < steps.stop:
        raise UserError(f"steps {steps.start}:{steps.stop}: expected a first step and a larger one behind the last")
    if steps.stop > run_steps:
        raise UserError(f"steps {steps.start}:{steps.stop}: the run has steps 0 to {run_steps - 1:,} only")
