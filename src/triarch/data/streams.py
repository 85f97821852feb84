"""Endless orders of examples, at random access by position: of one store, or of several interleaved."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import grain
import numpy as np

from triarch.data.features import Examples, Features, Transform
from triarch.data.interleaving import Interleaving
from triarch.errors import UserError


class ExampleId(NamedTuple):
    """Which example stands at a position: its source, its index there, and the epoch, from 0 on."""

    source: int
    index: int  # type: ignore[assignment]  # Of tuples a method, which nobody calls.
    epoch: int


class Stream(Protocol):
    """An endless order of examples; both methods are pure and thread-safe."""

    def example_id(self, position: int) -> ExampleId:
        """Returns which example stands at `position`."""

    def features(self, position: int) -> Features:
        """Returns what an objective makes of the example at `position`."""


class Epochs:
    """All examples of a source, epoch after epoch, each a fresh permutation (Grain's index shuffle, without memory).

    Examples may hold several passes over what they were made of, one after another and about equally long, each with
    random choices of its own: then an epoch is one pass, and after the last one the first follows again.

    An example's randomness comes from (seed, source, example index, epoch) only.
    """

    def __init__(self, examples: Examples, transform: Transform, seed: int, source: int = 0, passes: int = 1):
        """The stream of `transform`ed `examples`.

        Args:
          examples: by index, fewer than 2**32.
          transform: an objective's function (example, generator) -> features of fixed shapes.
          seed: of order and masking.
          source: the number of these examples among those of a mixture, each of which has an order of its own.
          passes: how many there are one after another.

        Raises:
          UserError: there are no examples.
        """
        self._num_examples = len(examples)
        if self._num_examples == 0:
            raise UserError("no examples to make batches of: the split is empty")
        self._examples = examples
        self._transform = transform
        self._source = source
        # Hashed, for Grain shuffles epoch e with seed + e: neighbouring seeds would share epochs.
        hashed = np.random.SeedSequence(seed, spawn_key=(source,) if source else ())
        shuffle_seed, *key = hashed.generate_state(5, np.uint32).tolist()
        self._key = np.array(key, np.uint32).view(np.uint64)
        passes = min(passes, self._num_examples)
        self._starts = [self._num_examples * number // passes for number in range(passes + 1)]
        seeds = [shuffle_seed, *hashed.generate_state(4 + passes, np.uint32)[5:].tolist()]
        self._orders = [
            grain.MapDataset.range(start, end).shuffle(own)
            for (start, end), own in zip(itertools.pairwise(self._starts), seeds, strict=True)
        ]

    def example_id(self, position: int) -> ExampleId:
        """Returns which example stands at `position`."""
        rounds, place = divmod(position, self._num_examples)
        number = bisect.bisect_right(self._starts, place) - 1
        start, end = self._starts[number : number + 2]
        index = self._orders[number][rounds * (end - start) + place - start]
        return ExampleId(self._source, index, rounds * len(self._orders) + number)

    def features(self, position: int) -> Features:
        """Returns the transformed example at `position`."""
        _, index, epoch = self.example_id(position)
        # Philox is counter based: the last two words choose the stream, the first two count within it.
        counter = np.array([0, 0, epoch, index], np.uint64)
        rng = np.random.Generator(np.random.Philox(counter=counter, key=self._key))
        return self._transform(self._examples[index], rng)


class Interleaved:
    """Several streams as one; each continues after what the interleaving last took from it."""

    def __init__(self, streams: Sequence[Stream] | Mapping[int, Stream], interleaving: Interleaving):
        """`streams` by the numbers that `interleaving` gives sources."""
        self._streams = streams
        self._interleaving = interleaving

    def example_id(self, position: int) -> ExampleId:
        """Returns which example stands at `position`."""
        source, place = self._interleaving.locate(position)
        return self._streams[source].example_id(place)

    def features(self, position: int) -> Features:
        """Returns the transformed example at `position`."""
        source, place = self._interleaving.locate(position)
        return self._streams[source].features(place)
