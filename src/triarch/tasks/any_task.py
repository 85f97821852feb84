"""Any SeqIO task as examples of token ids: its own source, its own preprocessing, in SeqIO."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import seqio
import tensorflow as tf

from triarch.errors import UserError, nearest
from triarch.prepare.examples import ExampleBlock
from triarch.tasks.any_vocabulary import tokenizer_of
from triarch.tasks.reading import Processes, SplitReading, takes
from triarch.tasks.registry import INPUTS, TARGETS
from triarch.tasks.source_sizes import num_examples
from triarch.tasks.user_errors import told
from triarch.tokenizers import ExtraIds, Tokenizer

_DEFAULT_SPLITS = ("train", "validation")


@dataclasses.dataclass(frozen=True)
class TaskOptions:
    """How SeqIO is asked for a task's examples.

    Attributes:
      splits: of the task, of TFDS also such as "train[:10%]"; none for "train" and "validation", those of them that the
        task has, or all.
      sequence_length: T5X's TASK_FEATURE_LENGTHS: what preprocessors get to know, and what features are cut to; none
        where features are to stay as long as they are.
      seed: of preprocessing that draws at random.
      num_epochs: how many times the source is gone through; what is random is drawn anew each time.
      max_examples: of each split, at most.
      use_cached: whether to read what `seqio_cache_tasks` wrote, where there is any of the task.
      extra: ids to put behind the vocabulary's own.
      shards: into how many `seqio.ShardInfo` takes a split apart; their examples come in blocks of 128 by turns. None:
        see `SplitReading.worthwhile_shards`; 1: all examples in the order of `get_dataset` without `shard_info`.
    """

    splits: tuple[str, ...] = ()
    sequence_length: Mapping[str, int] = dataclasses.field(default_factory=dict)
    seed: int = 0
    num_epochs: int = 1
    max_examples: int | None = None
    use_cached: bool = True
    extra: ExtraIds = dataclasses.field(default_factory=ExtraIds)
    shards: int | None = None


class TaskExamples:
    """The examples of a task as `triarch.prepare.examples.Examples`: those of `task.get_dataset`, in its order.

    Attributes:
      name: of the task.
      splits: names of the store's splits.
      most: tokens that features are cut to.
      has_inputs: whether an example is inputs and targets.
      tokenizer: of both.
      passes: over the source; 1 where the first `max_examples` may end within one.
    """

    def __init__(self, task: seqio.Task, options: TaskOptions, processes: Processes | None = None):
        """The examples of `task`.

        Args:
          task: registered under its name.
          options: how SeqIO is asked for them.
          processes: read the shards, where there are several; None for this process alone.

        Raises:
          UserError: a split is not there, features are not token ids called inputs and targets, their vocabularies
            differ or cannot be recorded, preprocessing fails.
        """
        self.name = task.name
        self._options = options
        _check_features(task)
        self.passes = options.num_epochs if options.max_examples is None else 1
        self.has_inputs = INPUTS in task.output_features
        self.most = {name: most for name, most in options.sequence_length.items() if name in task.output_features}
        with self._told(""):
            self._cached = bool(options.use_cached and task.supports_caching and task.cache_dir)
            if task.requires_caching and not self._cached:
                raise UserError(
                    f"{task.name} can be read from a cache only (CacheDatasetPlaceholder(required=True)): write one "
                    "with seqio_cache_tasks, and name its folder with --seqio_cache_dir"
                )
        self._chosen = self._find_splits(task)
        self.splits = tuple(self._chosen)
        self.tokenizer = self._common_tokenizer(task)
        self._task = task
        self._processes = processes
        self._readings = {split: self._reading(split) for split in self.splits}

    @property
    def version(self) -> str:
        preprocessors = [_described(step) for step in self._task.preprocessors]
        options = dataclasses.replace(self._options, splits=tuple(self._chosen.values()), shards=None)
        shards = [reading.shards for reading in self._readings.values()]
        source = (_without_addresses(repr(self._task.source)), *self._files())
        return repr((self.name, source, preprocessors, self._cached, options, shards))

    def size(self, split: str) -> int | None:
        """Returns how many examples of the source are read; of a cache how many it holds."""
        name = self._chosen[split]
        try:
            cached = self._cached
            count = self._task.get_cached_stats(name)["examples"] if cached else num_examples(self._task.source, name)
        except Exception:  # Not all sources know, and those of a user's own raise what they like.
            return None
        return None if count is None else int(count) * self._options.num_epochs

    def blocks(self, split: str, first: int) -> Iterator[ExampleBlock]:
        reading = self._readings[split]
        end = self._options.max_examples
        counts = [0] * reading.shards
        done = skipped = 0
        for shard, (sides, read) in reading.blocks(self._task, self._processes):
            place = split if reading.shards == 1 else f"{split}, shard {shard} of {reading.shards}"
            block = ExampleBlock(sides, skipped + read, f"{self.name}[{place}]", counts[shard])
            counts[shard] += block.examples
            start, done = done, done + block.examples
            if done <= first:
                skipped = block.progress
                continue
            skipped = 0
            skip = max(0, first - start)
            yield block.part(skip, None if end is None else end - start - skip)
            if end is not None and done >= end:
                return

    def provenance(self) -> dict[str, Any]:
        return {
            "seqio_task": self.name,
            "source": repr(self._task.source),
            "splits": dict(self._chosen),
            "sequence_length": dict(self._options.sequence_length),
            "seed": self._options.seed,
            "num_epochs": self._options.num_epochs,
            "max_examples": self._options.max_examples,
            "shards": {split: reading.shards for split, reading in self._readings.items()},
            "cached": self._cached,
        }

    def _files(self) -> Iterator[Any]:
        """Yields what tells whether the source's files, or its function, have changed."""
        source = self._task.source
        if isinstance(source, seqio.FunctionDataSource):
            yield _described(source._dataset_fn)
        if isinstance(source, seqio.FileDataSource):
            for split in self._chosen.values():
                with self._told(f", split {split!r}"):
                    for file in source.list_shards(split):
                        found = tf.io.gfile.stat(file)
                        yield file, found.length, found.mtime_nsec

    def _reading(self, split: str) -> SplitReading:
        options = self._options
        reading = SplitReading(
            task=self.name,
            split=self._chosen[split],
            features=(INPUTS, TARGETS) if self.has_inputs else (TARGETS,),
            shards=options.shards or 1,
            cached=self._cached,
            sequence_length=options.sequence_length,
            seed=options.seed,
            num_epochs=options.num_epochs,
            max_examples=options.max_examples,
        )
        if options.shards is not None:
            return reading
        with self._told(f", split {reading.split!r}"):
            return dataclasses.replace(reading, shards=reading.worthwhile_shards(self._task))

    def _find_splits(self, task: seqio.Task) -> dict[str, str]:
        """Returns the task's splits to read, by the name that the store's split gets."""
        with self._told(""):
            there = tuple(task.source.splits)
        if not there:
            raise UserError(f"{task.name}: its source has no splits: is its data there (of TFDS in --data_dir)?")
        asked = self._options.splits or [split for split in _DEFAULT_SPLITS if split in there] or there
        found: dict[str, str] = {}
        for split in asked:
            name = split.partition("[")[0]
            is_slice = name != split and isinstance(task.source, seqio.TfdsDataSource)
            if split not in there and not (is_slice and name in there):
                raise UserError(f"{task.name}: no split {split!r}{nearest(split, there)}")
            if name in found:
                raise UserError(f"{task.name}: the splits {found[name]!r} and {split!r} would both be called {name!r}")
            found[name] = split
        return found

    def _common_tokenizer(self, task: seqio.Task) -> Tokenizer:
        made = [
            tokenizer_of(feature.vocabulary, self._options.extra, task.name)
            for feature in task.output_features.values()
        ]
        if len({tokenizer.info.fingerprint for tokenizer in made}) > 1:
            raise UserError(f"{task.name}: inputs and targets have different vocabularies; a store has one")
        return made[0]

    def _told(self, place: str) -> contextlib.AbstractContextManager[None]:
        return told(f"{self.name}{place}", not self._options.sequence_length)


def takes_sequence_length(task: seqio.Task) -> bool:
    """Returns whether a preprocessor of `task` asks how long features may be."""
    return any(takes(step, "sequence_length") for step in task.preprocessors)


def _check_features(task: seqio.Task) -> None:
    features = task.output_features
    if TARGETS not in features or not features.keys() <= {INPUTS, TARGETS}:
        raise UserError(
            f"{task.name}: its output features are {', '.join(features)}; a store holds targets, or inputs and targets"
            ": give them these names in the task's preprocessors and output_features"
        )
    for name, feature in features.items():
        dtype = tf.as_dtype(feature.dtype)
        if feature.rank != 1 or not dtype.is_integer:
            raise UserError(
                f"{task.name}: {name} are {dtype.name} of rank {feature.rank}; a store holds token ids, whole numbers"
                " of rank 1"
            )


def _described(step: Any) -> str:
    """Returns what tells one preprocessor from another: its name, its code, what it was given."""
    if isinstance(step, functools.partial):
        given = [repr(value) for value in step.args] + [f"{name}={value!r}" for name, value in step.keywords.items()]
        return _without_addresses(f"{_described(step.func)}({', '.join(given)})")
    function = inspect.unwrap(step)
    name = getattr(function, "__qualname__", None)
    if name is None:
        return _without_addresses(repr(step))
    code = getattr(function, "__code__", None)
    digest = hashlib.sha256(_without_addresses(repr((code.co_code, code.co_consts))).encode()) if code else None
    return f"{function.__module__}.{name} {digest.hexdigest()[:16] if digest else ''}"


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+(, file [^>]*)?", "", text)
