"""How far a corpus is written: counts by split, and of what was left out and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from triarch.data.manifest import Split
from triarch.data.writer import StoreWriter
from triarch.errors import UserError
from triarch.prepare.corpora.documents import BadRecordError, LeftOut
from triarch.prepare.corpora.origins import TOKENS
from triarch.prepare.corpora.splits import TEST
from triarch.prepare.layouts import WINDOWS, ExampleArrays, Layout
from triarch.prepare.tokenization import TokenizedChunk, TokenizedSplit

_SHOWN_PLACES = 3


@dataclasses.dataclass
class LeftOutCounts:
    """How many records are left out for which reason, and the first places of each.

    Attributes:
      counts: by reason.
      places: by reason, a few; none for records that have no place.
    """

    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    places: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def add(self, record: LeftOut | BadRecordError) -> None:
        """Counts `record`."""
        self.counts[record.reason] = self.counts.get(record.reason, 0) + 1
        places = self.places.setdefault(record.reason, [])
        if record.place and len(places) < _SHOWN_PLACES:
            places.append(record.place)

    def told(self) -> str:
        """Returns " (left out: 2 empty, 1 not JSON)", the end of a message; "" where nothing was left out."""
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in self.counts.items())
        return f" (left out: {left_out})" if left_out else ""

    def to_json(self) -> dict[str, Any]:
        """Returns {reason: {"count": n, "first": [place, ...]}}."""
        return {reason: {"count": count, "first": self.places[reason]} for reason, count in self.counts.items()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> LeftOutCounts:
        """Returns what `to_json` gave."""
        counts = {reason: entry["count"] for reason, entry in fields.items()}
        return cls(counts, {reason: list(entry["first"]) for reason, entry in fields.items()})


@dataclasses.dataclass(frozen=True)
class _Begun:
    """What there is so far of a document that comes in parts."""

    tokens: int = 0
    bytes: int = 0
    token_bytes: int = 0
    lossy: bool = False
    parted: bool = False


@dataclasses.dataclass
class SplitCounts:
    """What a split holds so far, and its unfinished examples.

    `begun` is not counted in the others.
    """

    layout: Layout
    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    token_bytes: int = 0
    lossy_documents: int = 0
    cut_documents: int = 0
    parted_documents: int = 0
    begun: _Begun | None = None
    tasks: dict[str, int] = dataclasses.field(default_factory=dict)

    def add(self, tokenized: TokenizedSplit, writer: StoreWriter, split: str) -> None:
        """Counts `tokenized`; writes where it comes from and the examples that it completes."""
        begun = self.begun or _Begun()
        tokens, num_bytes = begun.tokens + len(tokenized.tokens), begun.bytes + tokenized.bytes
        token_bytes = begun.token_bytes + tokenized.token_bytes
        # What has begun ends alone: then there is one document, or none.
        lossy = max(tokenized.lossy_documents, begun.lossy)
        parted = max(tokenized.parted_documents, begun.parted)
        if not tokenized.documents:
            self.begun = _Begun(tokens, num_bytes, token_bytes, bool(lossy), bool(parted))
            _write(self.layout.add_part(tokenized.tokens), writer, split)
            return
        self.begun = None
        lengths = tokenized.lengths.reshape(tokenized.documents, -1).sum(axis=1)
        lengths[0] += begun.tokens
        rows = np.column_stack([tokenized.origins.rows, self.tokens + np.cumsum(lengths) - lengths])
        rows[0, TOKENS] += begun.tokens
        writer.write_documents(split, rows, tokenized.origins.sources)
        self.documents += tokenized.documents
        self.tokens += tokens
        self.bytes += num_bytes
        self.token_bytes += token_bytes
        self.lossy_documents += lossy
        self.cut_documents += tokenized.cut_documents
        self.parted_documents += parted
        for task, count in tokenized.tasks.items():
            self.tasks[task] = self.tasks.get(task, 0) + count
        _write(self.layout.add(tokenized.tokens, tokenized.lengths), writer, split)

    def to_json(self) -> dict[str, Any]:
        """Returns what tells it apart from an empty one, between documents."""
        fields = {**vars(self), "layout": self.layout.state()}
        del fields["begun"]
        return fields

    def manifest(self, writer: StoreWriter, split: str) -> Split:
        """Completes the split's files of examples and returns what the manifest says of it."""
        _write(self.layout.finish(), writer, split)
        files = writer.finish_files(split)
        dropped = self.layout.left_over
        return Split(writer.examples(split), self.documents, self.tokens, dropped, self.bytes, files)


@dataclasses.dataclass
class Counts:
    """How far the corpus is written."""

    splits: dict[str, SplitCounts]
    left_out: LeftOutCounts
    records: int
    progress: int

    def add(self, chunk: TokenizedChunk, writer: StoreWriter) -> None:
        """Counts `chunk` and writes what it completes."""
        self.records += chunk.records
        self.progress += chunk.progress
        for record in chunk.left_out:
            self.left_out.add(record)
        for split, tokenized in chunk.splits.items():
            self.splits[split].add(tokenized, writer, split)

    def check(self, task: str, layout: str, window: int) -> None:
        """Raises UserError where a split has not one example."""
        if not any(split.documents for split in self.splits.values()):
            raise UserError(f"{task}: the corpus is empty: it holds no text{self.left_out.told()}")
        for name, split in self.splits.items():
            if not split.documents:
                advice = (
                    "no file name and no id matches --hold_out"
                    if name == TEST
                    else ("give more or shorter ones, or another --validation_fraction (0 keeps all in 'train')")
                )
                raise UserError(f"{task}: no document falls into split {name!r}: {advice}")
            if layout == WINDOWS and split.tokens < window:
                raise UserError(
                    f"{task}: split {name!r} has {split.tokens:,} tokens ({split.documents:,} documents), fewer than "
                    f"one window of {window}: give more or shorter documents, a smaller --window, or another "
                    "--validation_fraction (0 keeps all text in 'train')"
                )

    @property
    def other_token_bytes(self) -> dict[str, int]:
        """How many bytes the tokens of those splits stand for whose text has more or fewer."""
        return {name: split.token_bytes for name, split in self.splits.items() if split.token_bytes != split.bytes}

    @property
    def tasks(self) -> dict[str, dict[str, int]]:
        """How many documents of each task are in each split."""
        return {name: dict(sorted(split.tasks.items())) for name, split in self.splits.items()}

    @property
    def between_documents(self) -> bool:
        """Whether all documents that were begun are whole, so that `to_json` says everything."""
        return all(split.begun is None for split in self.splits.values())

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` needs to go on."""
        return {
            "splits": {name: split.to_json() for name, split in self.splits.items()},
            "left_out": self.left_out.to_json(),
            "records": self.records,
            "progress": self.progress,
        }

    @classmethod
    def from_json(
        cls,
        fields: dict[str, Any] | None,
        splits: tuple[str, ...],
        make_layout: Callable[[dict[str, Any] | None], Layout],
    ) -> Counts:
        """Returns what `to_json` gave, or nothing counted."""
        if fields is None:
            return cls({split: SplitCounts(make_layout(None)) for split in splits}, LeftOutCounts(), 0, 0)
        counts = {
            name: SplitCounts(**{**split, "layout": make_layout(split["layout"])})
            for name, split in fields["splits"].items()
        }
        return cls(counts, LeftOutCounts.from_json(fields["left_out"]), fields["records"], fields["progress"])


def _write(examples: ExampleArrays, writer: StoreWriter, split: str) -> None:
    writer.write(split, examples.tokens, examples.segment_ids)
    if examples.pieces is not None:
        writer.write_pieces(split, examples.pieces)
