"""Which documents a run reads, and when: a function of its config and its stores, no training needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from triarch.data.provenance import Pieces
from triarch.errors import UserError
from triarch.training.inputs import Inputs

# Examples looked up at a time: many, for each row group of a table is decoded once for all of them.
_EXAMPLES = 2**17


@dataclasses.dataclass(frozen=True)
class OrderPart:
    """What some consecutive steps read, a run of a document's tokens each: int64[runs], by step, row and place.

    Attributes:
      step: of the run.
      row: of the global batch.
      epoch: the how manieth time, from 0 on, that its store is gone through.
      store: number of the store.
      example: index in the store's split.
      name: number in `DataOrder.names` of the file the document comes from.
      pieces: where in the file the document lies and which of its tokens these are, see `Pieces`; its `place` counts
        the examples of this part, its `source` is not to be used.
    """

    step: np.ndarray
    row: np.ndarray
    epoch: np.ndarray
    store: np.ndarray
    example: np.ndarray
    name: np.ndarray
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
        """Yields what `steps` (consecutive) read, some at a time, each time with how many steps these are.

        Raises:
          UserError: a table is damaged.
        """
        size = max(1, _EXAMPLES // len(self._rows))
        for start in range(steps.start, steps.stop, size):
            some = range(start, min(start + size, steps.stop))
            yield len(some), self._part(some)

    def _part(self, steps: range) -> OrderPart:
        ids = np.array([tuple(example) for step in steps for example in self._batches.example_ids(step)], np.int64)
        store, example, epoch = ids.T
        found = []
        for number, provenance in enumerate(self._provenance):
            places = np.flatnonzero(store == number)
            if len(places):
                pieces = provenance.pieces(example[places])
                pieces = dataclasses.replace(pieces, place=places[pieces.place])
                found.append((pieces, self._named(number, pieces.source, provenance.sources)))
        columns = {
            field.name: np.concatenate([getattr(pieces, field.name) for pieces, _ in found])
            for field in dataclasses.fields(Pieces)
        }
        order = np.argsort(columns["place"], kind="stable")
        pieces = Pieces(**{name: values[order] for name, values in columns.items()})
        place = pieces.place
        return OrderPart(
            step=steps.start + place // len(self._rows),
            row=self._rows[place % len(self._rows)],
            epoch=epoch[place],
            store=store[place],
            example=example[place],
            name=np.concatenate([names for _, names in found])[order],
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
