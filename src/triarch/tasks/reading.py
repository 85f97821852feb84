"""A split of a SeqIO task, read shard by shard in this process or in several: same examples, same order."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, Generic, NamedTuple, TypeVar

import seqio
import tensorflow as tf

from triarch.errors import UserError
from triarch.prepare.examples import Side
from triarch.prepare.worker_processes import sending
from triarch.tasks.user_errors import told

# Examples that Python gets at a time: one by one it would take longer than most preprocessing.
_BLOCK_EXAMPLES = 128
# About what a process takes to start and to import TensorFlow: what is read in less is read by this one.
_ALONE_SECONDS = 20.0
# As many files as SeqIO itself reads side by side.
_MOST_SHARDS = 16
_PYTHON_OPS = {"PyFunc", "EagerPyFunc", "PyFuncStateless"}
T = TypeVar("T")


class Read(NamedTuple):
    """Consecutive examples of a shard: (targets,) or (inputs, targets), and how many of the source's were read."""

    sides: tuple[Side, ...]
    read: int


@dataclasses.dataclass(frozen=True)
class Processes:
    """Processes that read a task's shards.

    Attributes:
      count: at most.
      begin: what each does first, so that the task is registered there: a function of a module, or a partial one.
    """

    count: int
    begin: Callable[[], None]


@dataclasses.dataclass(frozen=True)
class SplitReading:
    """How a split is read.

    Attributes:
      task: its name.
      split: the task's.
      features: which of its features, in this order; one that an example has not is empty.
      shards: into how many `seqio.ShardInfo` takes it apart.
      cached: whether from the cache.
      sequence_length, seed, num_epochs: as `seqio.Task.get_dataset` gets them.
      max_examples: of each shard, at most.
    """

    task: str
    split: str
    features: tuple[str, ...]
    shards: int
    cached: bool
    sequence_length: Mapping[str, int]
    seed: int
    num_epochs: int
    max_examples: int | None

    def blocks(self, task: seqio.Task, processes: Processes | None) -> Iterator[tuple[int, Read]]:
        """Yields each shard's examples in blocks of 128, the shards by turns, with the shard's number.

        Args:
          task: which this is of.
          processes: read the shards, where there are several; this process where there is one, or None is given, and
            for as long as starting others takes.

        Raises:
          UserError: the task's own code raised an error, or a process was killed.
        """
        start = time.monotonic()
        streams: dict[int, Any] = {number: self.shard(task, number) for number in range(self.shards)}
        turns = Turns(streams)
        count = min(self.shards, processes.count if processes is not None else 1)
        for found in turns:
            yield from found
            if count > 1 and len(turns.left) > 1 and time.monotonic() - start >= _ALONE_SECONDS:
                break
        if processes is None or not turns.left:
            return
        for stream in streams.values():
            stream.close()  # TensorFlow would read ahead in them.
        shared = [turns.left[first::count] for first in range(min(count, len(turns.left)))]
        works = [functools.partial(_send, self, numbers, turns.done) for numbers in shared]
        with sending(processes.begin, works) as ends:
            places = {number: end for numbers, end in zip(shared, ends, strict=True) for number in numbers}
            for found in Turns({number: self._received(places[number]) for number in turns.left}):
                yield from found

    def shard(self, task: seqio.Task, number: int) -> Iterator[Read]:
        """Yields the examples of one shard, as `get_dataset` has them but not cut to a length."""
        counter = tf.Variable(0, dtype=tf.int64, trainable=False)
        with told(f"{self.task}, split {self.split!r}", not self.sequence_length):
            dataset = self.dataset(task if type(task) is not seqio.Task else _counted(task, counter), number)
            if self.max_examples is not None:
                dataset = dataset.take(self.max_examples)
            seen = 0
            for batch in dataset.ragged_batch(_BLOCK_EXAMPLES).prefetch(tf.data.AUTOTUNE):
                sides = tuple(Side(value.values.numpy(), value.row_lengths().numpy()) for value in batch)
                read = len(sides[0].lengths) if self.cached else int(counter.numpy()) - seen
                seen += read
                yield Read(sides, read)

    def dataset(self, task: seqio.Task, number: int) -> tf.data.Dataset:
        """Returns the examples of shard `number`: int[tokens] of each of `features`."""
        dataset = task.get_dataset(
            dict(self.sequence_length) or None,
            self.split,
            use_cached=self.cached,
            shuffle=False,
            seed=self.seed,
            shard_info=seqio.ShardInfo(number, self.shards) if self.shards > 1 else None,
            num_epochs=self.num_epochs,
            trim_output_features=False,
            try_in_mem_cache=False,
        )

        def features(example: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
            nothing = tf.zeros([0], tf.int32)
            return tuple(example.get(name, nothing) for name in self.features)

        return dataset.map(features, num_parallel_calls=tf.data.AUTOTUNE)

    def worthwhile_shards(self, task: seqio.Task) -> int:
        """Returns into how many shards to take the split apart: as many as the source has, if Python does the work.

        TensorFlow's own preprocessing uses all cores as it is, and its examples stay in the order that they have
        without shards.
        """
        source = task._get_cached_source(self.split) if self.cached else task.source
        shards = _MOST_SHARDS if source.supports_arbitrary_sharding else len(source.list_shards(self.split))
        return min(shards, _MOST_SHARDS) if shards > 1 and _runs_python(self.dataset(task, 0)) else 1

    def _received(self, end: Connection) -> Iterator[Read]:
        while True:
            try:
                got = end.recv()
            except (EOFError, ConnectionError):
                raise UserError(
                    f"{self.task}, split {self.split!r}: a process that reads it was killed (out of memory? fewer "
                    "--workers need less)"
                ) from None
            if isinstance(got, UserError):
                raise got
            if got is None:
                return
            yield Read(*got)


class Turns(Generic[T]):
    """One of each of several streams, then the next of each, until all have ended.

    Iterating yields turn by turn: the number of each stream and what it gave.

    Attributes:
      left: numbers of the streams that have not ended.
      done: turns that were taken.
    """

    def __init__(self, streams: Mapping[int, Iterator[T]]):
        """Turns of `streams`, by number, in their order."""
        self.left = list(streams)
        self.done = 0
        self._streams = streams

    def __iter__(self) -> Iterator[Iterator[tuple[int, T]]]:
        while self.left:
            yield self._turn()

    def _turn(self) -> Iterator[tuple[int, T]]:
        for number in list(self.left):
            try:
                found = next(self._streams[number])
            except StopIteration:
                self.left.remove(number)
            else:
                yield number, found
        self.done += 1


def _send(reading: SplitReading, numbers: Sequence[int], skip: int, connection: Connection) -> None:
    """Sends the blocks of some shards but the first few, in the order in which they are asked for; None at each end."""

    def ended(stream: Iterator[Read]) -> Iterator[Read | None]:
        yield from itertools.islice(stream, skip, None)
        yield None

    try:
        task = seqio.TaskRegistry.get(reading.task)
        for turn in Turns({number: ended(reading.shard(task, number)) for number in numbers}):
            for _, block in turn:
                connection.send(block)
    except UserError as error:
        connection.send(error)


class _CountedSource(seqio.DataSource):
    """Another source that notes in a variable how many of its examples were read."""

    def __init__(self, source: seqio.DataSource, counter: tf.Variable):
        self._source = source
        self._counter = counter
        super().__init__(splits=(), caching_permitted=source.caching_permitted)

    @property
    def splits(self) -> Sequence[str]:
        return self._source.splits

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return self._source.supports_arbitrary_sharding

    def list_shards(self, split: str) -> Sequence[str]:
        return self._source.list_shards(split)

    def num_input_examples(self, split: str) -> int | None:
        return self._source.num_input_examples(split)

    def get_dataset(
        self, split: str = "train", shuffle: bool = True, seed: int | None = None, **options: Any
    ) -> tf.data.Dataset:
        # A function that takes no seed draws nothing at random; SeqIO would refuse it.
        if isinstance(self._source, seqio.FunctionDataSource) and not takes(self._source._dataset_fn, "seed"):
            seed = None
        dataset = self._source.get_dataset(split=split, shuffle=shuffle, seed=seed, **options)

        def count(*example: Any) -> Any:
            with tf.control_dependencies([self._counter.assign_add(1)]):
                kept = tf.nest.map_structure(tf.identity, example, expand_composites=True)
            return kept if len(kept) > 1 else kept[0]

        return dataset.map(count)


def _counted(task: seqio.Task, counter: tf.Variable) -> seqio.Task:
    return task.replace(source=_CountedSource(task.source, counter))


def takes(step: Any, argument: str) -> bool:
    """Returns whether a function has an argument of that name."""
    try:
        return argument in inspect.signature(step).parameters
    except (TypeError, ValueError):
        return False


def _runs_python(dataset: tf.data.Dataset) -> bool:
    """Returns whether a step of the dataset calls Python for each example."""
    try:
        graph = tf.raw_ops.DatasetToGraphV2(
            input_dataset=tf.data.experimental.to_variant(dataset), external_state_policy=1
        ).numpy()
    except tf.errors.OpError:  # One that cannot be written down.
        return False
    graph = tf.compat.v1.GraphDef.FromString(graph)
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return any(node.op in _PYTHON_OPS for node in nodes)
