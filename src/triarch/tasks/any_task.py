"""Any SeqIO task as examples of token ids: its own source, its own preprocessing, in SeqIO."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import re
import sysconfig
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import seqio
import tensorflow as tf

from triarch.errors import UserError, nearest
from triarch.memory import is_out_of_memory
from triarch.prepare.examples import Block, Side
from triarch.tasks.any_vocabulary import tokenizer_of
from triarch.tasks.registry import INPUTS, TARGETS
from triarch.tokenizers import ExtraIds, Tokenizer

# Examples that Python gets at a time: one by one it would take longer than most preprocessing.
_BLOCK_EXAMPLES = 128
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
    """

    splits: tuple[str, ...] = ()
    sequence_length: Mapping[str, int] = dataclasses.field(default_factory=dict)
    seed: int = 0
    num_epochs: int = 1
    max_examples: int | None = None
    use_cached: bool = True
    extra: ExtraIds = dataclasses.field(default_factory=ExtraIds)


class TaskExamples:
    """The examples of a task as `triarch.prepare.examples.Examples`: those of `task.get_dataset`, in its order.

    Attributes:
      name: of the task.
      splits: names of the store's splits.
      most: tokens that features are cut to.
      has_inputs: whether an example is inputs and targets.
      tokenizer: of both.
    """

    def __init__(self, task: seqio.Task, options: TaskOptions):
        """The examples of `task`.

        Raises:
          UserError: a split is not there, features are not token ids called inputs and targets, their vocabularies
            differ or cannot be recorded, preprocessing fails.
        """
        self.name = task.name
        self._options = options
        _check_features(task)
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
        self._counters = {split: tf.Variable(0, dtype=tf.int64, trainable=False) for split in self.splits}
        self._tasks = {split: self._counted(task, split) for split in self.splits}
        self._task = task

    @property
    def version(self) -> str:
        preprocessors = [_described(step) for step in self._task.preprocessors]
        options = dataclasses.replace(self._options, splits=tuple(self._chosen.values()))
        source = (_without_addresses(repr(self._task.source)), *self._files())
        return repr((self.name, source, preprocessors, self._cached, options))

    def size(self, split: str) -> int | None:
        """Returns how many examples of the source are read; of a cache how many it holds."""
        name = self._chosen[split]
        try:
            count = (
                self._task.get_cached_stats(name)["examples"] if self._cached else self._task.num_input_examples(name)
            )
        except Exception:  # Not all sources know, and those of a user's own raise what they like.
            return None
        return None if count is None else int(count) * self._options.num_epochs

    def blocks(self, split: str, first: int) -> Iterator[Block]:
        with self._told(f", split {self._chosen[split]!r}"):
            dataset = self._dataset(split).skip(first)
            if self._options.max_examples is not None:
                dataset = dataset.take(max(0, self._options.max_examples - first))
            seen = 0
            for batch in dataset.ragged_batch(_BLOCK_EXAMPLES).prefetch(tf.data.AUTOTUNE):
                sides = tuple(Side(value.values.numpy(), value.row_lengths().numpy()) for value in batch)
                read = len(sides[0].lengths) if self._cached else int(self._counters[split].numpy()) - seen
                seen += read
                yield Block(sides, read)

    def provenance(self) -> dict[str, Any]:
        return {
            "seqio_task": self.name,
            "source": repr(self._task.source),
            "splits": dict(self._chosen),
            "sequence_length": dict(self._options.sequence_length),
            "seed": self._options.seed,
            "num_epochs": self._options.num_epochs,
            "max_examples": self._options.max_examples,
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

    def _dataset(self, split: str) -> tf.data.Dataset:
        """Returns the task's examples, not cut yet: int[tokens] of inputs, where there are any, and of targets."""
        options = self._options
        dataset = self._tasks[split].get_dataset(
            dict(options.sequence_length) or None,
            self._chosen[split],
            use_cached=self._cached,
            shuffle=False,
            seed=options.seed,
            num_epochs=options.num_epochs,
            trim_output_features=False,
            try_in_mem_cache=False,
        )
        names = [INPUTS, TARGETS] if self.has_inputs else [TARGETS]

        def features(example: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
            nothing = tf.zeros([0], tf.int32)
            return tuple(example.get(name, nothing) for name in names)

        return dataset.map(features, num_parallel_calls=tf.data.AUTOTUNE)

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

    def _counted(self, task: seqio.Task, split: str) -> seqio.Task:
        """Returns the task with a source that notes how many of its examples were read."""
        if type(task) is not seqio.Task:
            return task
        return task.replace(source=_CountedSource(task.source, self._counters[split]))

    @contextlib.contextmanager
    def _told(self, place: str) -> Iterator[None]:
        """Turns what a source or a preprocessor raises into one line."""
        try:
            yield
        except (UserError, MemoryError):
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            takes_length = isinstance(error, TypeError | KeyError) and not self._options.sequence_length
            hint = " (give --sequence_length?)" if takes_length else ""
            raise UserError(f"{self.name}{place}: {_line(error)}{hint}") from error


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
        if isinstance(self._source, seqio.FunctionDataSource) and not _takes(self._source._dataset_fn, "seed"):
            seed = None
        dataset = self._source.get_dataset(split=split, shuffle=shuffle, seed=seed, **options)

        def count(*example: Any) -> Any:
            with tf.control_dependencies([self._counter.assign_add(1)]):
                kept = tf.nest.map_structure(tf.identity, example, expand_composites=True)
            return kept if len(kept) > 1 else kept[0]

        return dataset.map(count)


def takes_sequence_length(task: seqio.Task) -> bool:
    """Returns whether a preprocessor of `task` asks how long features may be."""
    return any(_takes(step, "sequence_length") for step in task.preprocessors)


def _takes(step: Any, argument: str) -> bool:
    try:
        return argument in inspect.signature(step).parameters
    except (TypeError, ValueError):
        return False


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


def _line(error: BaseException) -> str:
    """Returns an error in one line, with the place in the user's own code where it arose, if it did."""
    text = str(error).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kind = type(error).__name__
    message = next(iter(lines), "")
    where = ""
    if message.startswith("in user code"):  # TensorFlow, with a traceback of its own in the message.
        message, kind = lines[-1], ""
        places = re.findall(r'File "([^"]+)", line (\d+)', text)
        own = [f"{file} line {number}: " for file, number in places if _is_users(file)]
        where = own[-1] if own else ""
    else:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
        where = f"{frames[-1].filename} line {frames[-1].lineno}: " if frames else ""
    message = re.sub(r"\s*\[Op:\w+\].*", "", message)
    return f"{where}{kind}{': ' if kind and message else ''}{message[:300]}"


def _is_users(file: str) -> bool:
    """Whether a line is of neither Python, nor an installed library, nor triarch."""
    path = Path(file)
    libraries = (Path(sysconfig.get_path("stdlib")), Path(__file__).parents[1])
    generated = file.startswith("<") or "__autograph_generated" in file
    return not (generated or "site-packages" in path.parts or any(map(path.is_relative_to, libraries)))
