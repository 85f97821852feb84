"""`batch(step)`: a pure function of (seed, step), whatever the number of hosts and threads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import grain
import numpy as np

from triarch.data.features import Features
from triarch.data.streams import ExampleId, Stream
from triarch.errors import UserError

# Larger than any run, small enough that positions fit int64.
_MANY_STEPS = 2**48


class Batches:
    """Batches of an objective's features, at random access by step.

    A stream is cut into batches without regard to epochs, so no example is ever left out. A batch depends on the stream
    and the step only: not on the step asked before, not on threads, not on which rows this host reads.
    """

    def __init__(
        self,
        stream: Stream,
        batch_size: int,
        rows: slice | None = None,
        first_step: int = 0,
        first_position: int = 0,
    ):
        """Batches of `stream`.

        Args:
          stream: of examples, in their order.
          batch_size: examples in the global batch, over all hosts.
          rows: this host's rows of the global batch; all when None.
          first_step: of these batches.
          first_position: of the stream, where batch `first_step` begins.

        Raises:
          UserError: the batch size or the rows make no batch.
        """
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size}: expected at least 1")
        self._rows = range(batch_size)[rows if rows is not None else slice(None)]
        if not self._rows:
            raise UserError(f"rows {rows} of a batch of {batch_size}: expected at least one row")
        self.batch_size = batch_size
        self._stream = stream
        self._first_step, self._first_position = first_step, first_position

    @property
    def stream(self) -> Stream:
        """The examples in their order."""
        return self._stream

    def batch(self, step: int) -> Features:
        """Returns this host's rows of batch `step`: arrays [rows, ...]."""
        rows = [self._stream.features(position) for position in self._positions(step)]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def example_ids(self, step: int) -> list[ExampleId]:
        """Returns which example each of this host's rows of batch `step` is."""
        return [self._stream.example_id(position) for position in self._positions(step)]

    def iterate(self, start_step: int = 0, num_threads: int = 1, prefetch: int = 4) -> Iterator[tuple[int, Features]]:
        """Yields (step, batch(step)) from `start_step` on, without end.

        Args:
          start_step: first step.
          num_threads: threads that prepare batches ahead; 0 prepares them when asked.
          prefetch: batches prepared ahead.
        """
        steps = grain.MapDataset.range(start_step, _MANY_STEPS).map(lambda step: (step, self.batch(step)))
        options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=max(prefetch, num_threads))
        with contextlib.closing(iter(steps.to_iter_dataset(options))) as iterator:
            yield from iterator

    def _positions(self, step: int) -> list[int]:
        if step < self._first_step:
            raise ValueError(f"step {step}: these batches begin with step {self._first_step}")
        first = self._first_position + (step - self._first_step) * self.batch_size
        return [first + row for row in self._rows]
