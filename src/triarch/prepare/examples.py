"""Examples that are token ids already, such as those of a SeqIO task, to a token store."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from triarch.data.manifest import LAYOUTS, VOCABULARY, StoreManifest
from triarch.data.partial import full_disk_explained
from triarch.data.store import TokenStore
from triarch.data.writer import StoreWriter, check_output
from triarch.errors import UserError, nearest
from triarch.prepare.corpora.documents import EMPTY, LeftOut
from triarch.prepare.corpora.origins import Origins, named
from triarch.prepare.counts import Counts
from triarch.prepare.layouts import OF_PAIRS, WINDOWS, check_window, make_layout
from triarch.prepare.pipeline import CHECKPOINT_SECONDS, UINT16_IDS
from triarch.prepare.tokenization import TokenizedChunk, TokenizedSplit
from triarch.progress import Progress
from triarch.tokenizers import Tokenizer
from triarch.version import __version__


class Side(NamedTuple):
    """The inputs or the targets of several examples: all ids one after another, and int64[examples] how many each."""

    tokens: np.ndarray
    lengths: np.ndarray

    def cut(self, most: int | None) -> Side:
        """Returns the first `most` tokens of each; all for None."""
        if most is None or not (self.lengths > most).any():
            return self
        starts = np.cumsum(self.lengths) - self.lengths
        place = np.arange(len(self.tokens)) - np.repeat(starts, self.lengths)
        return Side(self.tokens[place < most], np.minimum(self.lengths, most))

    def part(self, first: int, end: int) -> Side:
        """Returns examples `first` to `end`."""
        ends = np.concatenate([[0], np.cumsum(self.lengths)])
        return Side(self.tokens[ends[first] : ends[end]], self.lengths[first:end])


class ExampleBlock(NamedTuple):
    """Consecutive examples.

    Attributes:
      sides: (targets,) or (inputs, targets).
      progress: how far the source has been read for them.
      source: what they are examples of, for whoever asks where a row comes from.
      first: the number of the first of them there.
    """

    sides: tuple[Side, ...]
    progress: int
    source: str
    first: int

    @property
    def examples(self) -> int:
        """How many they are."""
        return len(self.sides[0].lengths)

    def part(self, first: int, most: int | None = None) -> ExampleBlock:
        """Returns the examples from `first` on, at most `most`."""
        if first == 0 and (most is None or most >= self.examples):
            return self
        end = self.examples if most is None else min(first + most, self.examples)
        return self._replace(sides=tuple(side.part(first, end) for side in self.sides), first=self.first + first)


class Examples(Protocol):
    """Examples by split, always the same ones in the same order."""

    @property
    def name(self) -> str:
        """What they are called."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """Their vocabulary."""
        ...

    @property
    def has_inputs(self) -> bool:
        """Whether an example is inputs and targets, or targets alone."""
        ...

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the store's splits."""
        ...

    @property
    def most(self) -> Mapping[str, int]:
        """Tokens that "inputs" and "targets" are cut to, those that are."""
        ...

    @property
    def passes(self) -> int:
        """How many passes over their source, each with random choices of its own, they are one after another."""
        ...

    @property
    def version(self) -> str:
        """What changes when the examples may have."""
        ...

    def blocks(self, split: str, first: int) -> Iterator[ExampleBlock]:
        """Yields the examples of a split from number `first` on."""
        ...

    def size(self, split: str) -> int | None:
        """Returns what the `progress` of a split adds up to, about; None where nobody knows."""
        ...

    def provenance(self) -> dict[str, Any]:
        """Returns where the examples come from, as JSON."""
        ...


def prepare_examples(
    examples: Examples, output: Path, layout: str, window: int, overwrite: bool = False, show_progress: bool = False
) -> TokenStore:
    """Writes examples as a token store, token by token as they come, and returns it.

    In the layouts "windows" and "packed" an example is a document, its inputs followed by its targets; no end is added
    to what has none. In those of pairs inputs and targets are as long as `examples.most` says, whatever `window` is.
    Examples without any token are left out and counted. Called again after an interruption it resumes.

    Raises:
      UserError: an id is not of the vocabulary, a split has not one example or window, an existing output, a full disk.
    """
    check_layout(examples, layout, window)
    if layout in OF_PAIRS:
        window = sum(examples.most.values())
    check_output(output, overwrite)
    preparation = _Preparation(examples, layout, window)
    with (
        Progress(show_progress) as progress,
        StoreWriter(
            output, window, preparation.dtype, overwrite, job=preparation.job, segments=layout != WINDOWS
        ) as writer,
        full_disk_explained(output),
    ):
        preparation.run(writer, progress)
    return TokenStore.open(output)


def check_layout(examples: Examples, layout: str, window: int) -> None:
    """Raises UserError unless `examples` can be laid out so."""
    if layout not in LAYOUTS:
        raise UserError(f"layout={layout!r}: unknown layout{nearest(layout, LAYOUTS)}")
    if layout in OF_PAIRS:
        if not examples.has_inputs:
            raise UserError(f"layout={layout!r}: {examples.name} has targets only: choose windows or packed")
        if missing := {"inputs", "targets"} - examples.most.keys():
            raise UserError(f"layout={layout!r}: --sequence_length says nothing of {' and '.join(sorted(missing))}")
        return
    check_window(window)
    if (most := examples.most.get("targets", 0)) > window:
        raise UserError(
            f"{examples.name}: its targets have up to {most} tokens, more than a window of {window}: choose a larger "
            f"--window, or a smaller --sequence_length=targets:{window}"
        )


def job_of(examples: Examples, layout: str, window: int) -> str:
    """Returns what decides a store's bytes: equal ones make equal stores."""
    window = sum(examples.most.values()) if layout in OF_PAIRS else window
    fingerprint = examples.tokenizer.info.fingerprint
    return repr((__version__, examples.version, fingerprint, layout, window, dict(examples.most)))


class _Preparation:
    """One call of `prepare_examples`."""

    def __init__(self, examples: Examples, layout: str, window: int):
        self._examples = examples
        self._layout = layout
        self._window = window
        self._info = examples.tokenizer.info
        self.dtype = "uint16" if self._info.size <= UINT16_IDS else "int32"
        self.job = job_of(examples, layout, window)
        self._lengths = dict(examples.most) if layout in OF_PAIRS else None

    def run(self, writer: StoreWriter, progress: Progress) -> None:
        tokenizer, info = self._examples.tokenizer, self._info
        state = writer.state or {"counts": None, "done": {}}
        make = functools.partial(make_layout, self._layout, self._window, info.special["pad"], lengths=self._lengths)
        counts = Counts.from_json(state["counts"], self._examples.splits, make)
        done: dict[str, int] = {split: state["done"].get(split, 0) for split in self._examples.splits}
        saved = time.monotonic()
        for split in self._examples.splits:
            progress.start(f"{self._examples.name}: {split}", self._examples.size(split))
            for block in self._examples.blocks(split, done[split]):
                counts.add(self._chunk(split, block), writer)
                done[split] += block.examples
                progress.advance(block.progress)
                if time.monotonic() - saved >= CHECKPOINT_SECONDS:
                    writer.checkpoint({"counts": counts.to_json(), "done": done})
                    saved = time.monotonic()
            self._check(split, counts, done[split])
        manifest = StoreManifest(
            task=self._examples.name,
            layout=self._layout,
            window=self._window,
            dtype=self.dtype,
            vocabulary=info,
            splits={name: split.manifest(writer, name) for name, split in counts.splits.items()},
            source={
                **self._examples.provenance(),
                "job": self.job,
                "left_out": counts.left_out.to_json(),
                "cut_documents": sum(split.cut_documents for split in counts.splits.values()),
            },
            lengths=self._lengths,
            provenance={name: writer.finish_provenance(name) for name in counts.splits},
            passes=self._examples.passes if self._examples.passes > 1 else None,
        )
        folder = writer.folder / VOCABULARY
        folder.mkdir(exist_ok=True)
        tokenizer.save(folder)
        writer.finish(manifest, tokenizer.token_bytes)

    def _check(self, split: str, counts: Counts, done: int) -> None:
        name, found = self._examples.name, counts.splits[split]
        if not found.documents:
            why = f"all of its {done:,} examples are empty" if done else "it yields no example"
            raise UserError(f"{name}: split {split!r} is empty: {why} (choose others with --split)")
        if self._layout == WINDOWS and found.tokens < self._window:
            raise UserError(
                f"{name}: split {split!r} has {found.tokens:,} tokens, fewer than one window of {self._window}: choose "
                "a smaller --window, or leave the split out with --split"
            )

    def _chunk(self, split: str, block: ExampleBlock) -> TokenizedChunk:
        names = ("inputs", "targets")[-len(block.sides) :]
        for side, name in zip(block.sides, names, strict=True):
            self._check_ids(side, name, block)
        sides = [side.cut(self._examples.most.get(name)) for side, name in zip(block.sides, names, strict=True)]
        uncut = np.stack([side.lengths for side in block.sides], axis=1)
        lengths = np.stack([side.lengths for side in sides], axis=1)
        there = lengths.sum(axis=1) > 0
        left_out = [LeftOut(EMPTY, f"{block.source}:{block.first + index}", 0) for index in np.flatnonzero(~there)]
        splits = {}
        if there.any():
            tokens = _side_by_side([side.tokens for side in sides], lengths)
            origins = [named(block.source, block.first + int(index)) for index in np.flatnonzero(there)]
            cut = int((uncut > lengths).any(axis=1).sum())
            uncut, lengths = uncut[there], lengths[there]
            num_bytes = self._num_bytes(tokens, lengths)
            if self._lengths is None:
                uncut, lengths = lengths.sum(axis=1, keepdims=True), lengths.sum(axis=1, keepdims=True)
            splits[split] = TokenizedSplit(
                tokens=tokens.astype(self.dtype),
                documents=len(lengths),
                lengths=lengths.reshape(-1),
                bytes=num_bytes,
                token_bytes=num_bytes,
                lossy_documents=0,
                cut_documents=cut,
                parted_documents=0,
                origins=Origins.of(origins, uncut),
            )
        return TokenizedChunk(splits, left_out, len(there), block.progress)

    def _num_bytes(self, tokens: np.ndarray, lengths: np.ndarray) -> int:
        """Returns the bytes of texts of `lengths` tokens, int64[examples, sides]."""
        starts = np.zeros(len(tokens), bool)
        starts[np.append(0, np.cumsum(lengths[lengths > 0]))[:-1]] = True
        return self._examples.tokenizer.token_bytes.count(tokens, starts)

    def _check_ids(self, side: Side, name: str, block: ExampleBlock) -> None:
        wrong = np.flatnonzero((side.tokens < 0) | (side.tokens >= self._info.size))
        if len(wrong):
            example = block.first + int(np.searchsorted(np.cumsum(side.lengths), wrong[0], side="right"))
            raise UserError(
                f"{block.source}: example {example}: {name} hold the id {side.tokens[wrong[0]]}, expected "
                f"0 to {self._info.size - 1:,}, the ids of its vocabulary"
            )


def _side_by_side(sides: list[np.ndarray], lengths: np.ndarray) -> np.ndarray:
    """Returns the tokens of examples one after another, each one's inputs before its targets.

    Args:
      sides: tokens of all examples' inputs, if there are any, and of their targets.
      lengths: int64[examples, sides].
    """
    if len(sides) == 1:
        return sides[0]
    inputs, targets = sides
    is_input = np.repeat(np.tile([True, False], len(lengths)), lengths.reshape(-1))
    tokens = np.empty(len(is_input), np.result_type(inputs, targets))
    tokens[is_input] = inputs
    tokens[~is_input] = targets
    return tokens
