"""`batch(step)`: a pure function of (seed, step), whatever the number of hosts and threads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import grain
import numpy as np

from triarch.errors import UserError

Features = dict[str, np.ndarray]
Transform = Callable[[Mapping[str, np.ndarray], np.random.Generator], Features]

# Larger than any run, small enough that positions fit int64.
_MANY_STEPS = 2**48


class Examples(Protocol):
    """Anything with examples at random access: a `SplitReader`, or a list in a test."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]: ...


class Batches:
    """Batches of an objective's features, at random access by step.

    The global order is epoch after epoch, each a fresh permutation of all examples (Grain's index shuffle, which
    needs no memory), cut into batches without regard to epochs, so no example is ever left out. A batch depends on
    (seed, step) only: not on the step asked before, not on threads, not on which rows this host reads. An example's
    randomness comes from (seed, example index, epoch) only.
    """

    def __init__(
        self,
        examples: Examples,
        transform: Transform,
        batch_size: int,
        seed: int,
        rows: slice | None = None,
    ):
        """Batches of `transform`ed `examples`.

        Args:
          examples: {"tokens": int32[window]} by index, fewer than 2**32.
          transform: an objective's function (example, generator) -> features of fixed shapes.
          batch_size: examples in the global batch, over all hosts.
          seed: of order and masking.
          rows: this host's rows of the global batch; all when None.

        Raises:
          UserError: there are no examples, or the batch size or the rows make no batch.
        """
        self._num_examples = len(examples)
        if self._num_examples == 0:
            raise UserError("no examples to make batches of: the split is empty")
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size}: expected at least 1")
        self._rows = range(batch_size)[rows if rows is not None else slice(None)]
        if not self._rows:
            raise UserError(f"rows {rows} of a batch of {batch_size}: expected at least one row")
        self.batch_size = batch_size
        self._examples = examples
        self._transform = transform
        # Hashed, for Grain shuffles epoch e with seed + e: neighbouring seeds would share epochs.
        shuffle_seed, *key = np.random.SeedSequence(seed).generate_state(5, np.uint32).tolist()
        self._key = np.array(key, np.uint32).view(np.uint64)
        self._order = grain.MapDataset.range(self._num_examples).shuffle(shuffle_seed)
        self._dataset = self._order.map_with_index(self._features)

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which every example is seen once; an epoch may end inside a batch."""
        return self._num_examples / self.batch_size

    def batch(self, step: int) -> Features:
        """Returns this host's rows of batch `step`: arrays [rows, ...]."""
        rows = [self._dataset[position] for position in self._positions(step)]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def example_ids(self, step: int) -> list[tuple[int, int]]:
        """Returns (index of the example in the store, epoch) of each of this host's rows of batch `step`."""
        return [(self._order[position], position // self._num_examples) for position in self._positions(step)]

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
        if step < 0:
            raise ValueError(f"step {step} is negative")
        return [step * self.batch_size + row for row in self._rows]

    def _features(self, position: int, index: int) -> Features:
        # Philox is counter based: the last two words choose the stream, the first two count within it.
        counter = np.array([0, 0, position // self._num_examples, index], np.uint64)
        rng = np.random.Generator(np.random.Philox(counter=counter, key=self._key))
        return self._transform(self._examples[index], rng)
