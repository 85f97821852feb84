"""Which documents the examples of a store were made of: file, record, bytes and tokens, at random access by example."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from triarch.data.manifest import StoreManifest, TableFile
from triarch.data.tables import ParquetTable
from triarch.errors import UserError
from triarch.files import sha256

TEXT, INPUTS, TARGETS = 0, 1, 2
PART_NAMES = ("text", "inputs", "targets")


@dataclasses.dataclass(frozen=True)
class Pieces:
    """Runs of tokens of one document each, by example and, within an example, from its first token on.

    Concatenated, an example's pieces are its tokens without padding. Each attribute is int64[pieces].

    Attributes:
      place: which of the examples that were asked for.
      document: number of the document in its split, from 0 on.
      source: number of its file in `SplitProvenance.sources`.
      record: its line or row from 1 on, or its index in a TFDS data set; -1 where nothing is counted.
      byte_start: offset of its first byte in the file, decompressed; -1 where it is not a run of bytes.
      byte_end: offset behind its last byte, a line's end not included; -1 likewise.
      part: TEXT, or INPUTS or TARGETS of pairs.
      token_start: the piece's first token among the tokens of the document's text, of its inputs or of its targets.
      token_end: behind its last token.
      document_tokens: how many tokens text, inputs or targets have in all, the end-of-document token included. Where
        more than pairs may have, the last one is the end's and what is between is cut out.
    """

    place: np.ndarray
    document: np.ndarray
    source: np.ndarray
    record: np.ndarray
    byte_start: np.ndarray
    byte_end: np.ndarray
    part: np.ndarray
    token_start: np.ndarray
    token_end: np.ndarray
    document_tokens: np.ndarray


class SplitProvenance:
    """The documents of one split of a store. Not thread-safe.

    Attributes:
      sources: the files' names as far as they were met, which `Pieces.source` counts in; it grows.
    """

    def __init__(self, store: Path, split: str, manifest: StoreManifest):
        """Opens the provenance of a split of the store at `store`.

        Raises:
          UserError: the store has none, or it is damaged.
        """
        if manifest.provenance is None or split not in manifest.provenance:
            raise UserError(
                f"{store}: made before triarch recorded which documents a store is made of: prepare it anew with the "
                "same arguments (its runs take the new one for the old one)"
            )
        tables = manifest.provenance[split]
        self._window = manifest.window
        self._layout = manifest.layout
        self._lengths = manifest.lengths or {}
        self._documents = ParquetTable(_checked(store, tables.documents), "first_token", "source")
        self._pieces = ParquetTable(_checked(store, tables.pieces), "example")
        counts = manifest.splits[split]
        self._examples = counts.examples
        expected = counts.documents
        if len(self._documents) != expected:
            raise UserError(
                f"{store}: damaged provenance of split {split!r}: {len(self._documents):,} documents, expected "
                f"{expected:,}; prepare the store again"
            )

    @property
    def sources(self) -> list[str]:
        return self._documents.names

    @property
    def runs_per_example(self) -> float:
        """How many pieces an example has on average, about."""
        if self._layout == "pairs":
            return 2
        if self._layout == "windows":
            return len(self._documents) / self._examples + 1
        if self._layout in ("labelled", "groups"):
            return 1
        return len(self._pieces) / self._examples * (2 if self._layout == "packed_pairs" else 1)

    def pieces(self, examples: np.ndarray) -> Pieces:
        """Returns what `examples` (int64, indices in the split, in any order) are made of.

        Raises:
          UserError: a table is damaged.
        """
        find = {
            "windows": self._of_windows,
            "packed": self._of_packed,
            "pairs": self._of_pairs,
            "packed_pairs": self._of_packed_pairs,
            "labelled": self._of_whole,
            "groups": self._of_whole,
        }[self._layout]
        examples = np.asarray(examples, np.int64)
        # Neighbours at a time, so that what is decoded for one of them is at hand for the others.
        stretches = np.array_split(np.argsort(examples, kind="stable"), self._documents.num_stretches)
        found = [(places, find(examples[places])) for places in stretches if len(places)]
        if not found:
            return find(examples)
        parts = [dataclasses.replace(pieces, place=places[pieces.place]) for places, pieces in found]
        return joined(parts)

    def _of_windows(self, examples: np.ndarray) -> Pieces:
        """A window is a run of the concatenation of all documents."""
        starts = examples * self._window
        place, numbers = _ranges(
            self._documents.first_at(starts + 1) - 1, self._documents.first_at(starts + self._window)
        )
        documents = self._documents.rows(numbers)
        token_start = np.maximum(starts[place] - documents["first_token"], 0)
        token_end = np.minimum(starts[place] + self._window - documents["first_token"], documents["tokens"])
        return self._found(place, numbers, documents, TEXT, token_start, token_end, documents["tokens"])

    def _of_packed(self, examples: np.ndarray) -> Pieces:
        """Which documents lie side by side in an example is a table of its own."""
        place, pieces = self._packed(examples)
        documents = self._documents.rows(pieces["document"])
        token_end = pieces["token_start"] + pieces["tokens"]
        return self._found(
            place, pieces["document"], documents, TEXT, pieces["token_start"], token_end, documents["tokens"]
        )

    def _of_pairs(self, examples: np.ndarray) -> Pieces:
        """An example is a document."""
        return self._both_sides(np.arange(len(examples)), examples)

    def _of_whole(self, examples: np.ndarray) -> Pieces:
        """An example is a text, or a row of texts, of which what was cut is not counted."""
        documents = self._documents.rows(examples)
        tokens = documents["tokens"]
        return self._found(np.arange(len(examples)), examples, documents, TEXT, np.zeros_like(tokens), tokens, tokens)

    def _of_packed_pairs(self, examples: np.ndarray) -> Pieces:
        """Documents lie side by side."""
        place, pieces = self._packed(examples)
        return self._both_sides(place, pieces["document"])

    def _packed(self, examples: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Returns the rows of the table of pieces that `examples` have, preceded by which of them each belongs to."""
        place, rows = _ranges(self._pieces.first_at(examples), self._pieces.first_at(examples + 1))
        return place, self._pieces.rows(rows)

    def _both_sides(self, place: np.ndarray, numbers: np.ndarray) -> Pieces:
        """Returns two pieces of each of the documents `numbers`, its inputs and its targets."""
        part = np.tile([INPUTS, TARGETS], len(numbers))
        place, numbers = np.repeat(place, 2), np.repeat(numbers, 2)
        documents = self._documents.rows(numbers)
        total = np.where(part == INPUTS, documents["inputs"], documents["tokens"] - documents["inputs"])
        longest = np.array([0, self._lengths["inputs"], self._lengths["targets"]])[part]
        return self._found(place, numbers, documents, part, np.zeros_like(total), np.minimum(total, longest), total)

    def _found(
        self,
        place: np.ndarray,
        numbers: np.ndarray,
        documents: dict[str, np.ndarray],
        part: np.ndarray | int,
        token_start: np.ndarray,
        token_end: np.ndarray,
        document_tokens: np.ndarray,
    ) -> Pieces:
        return Pieces(
            place=place,
            document=numbers,
            source=documents["source"],
            record=documents["record"],
            byte_start=documents["byte_start"],
            byte_end=documents["byte_end"],
            part=np.broadcast_to(part, place.shape),
            token_start=token_start,
            token_end=token_end,
            document_tokens=document_tokens,
        )


def joined(parts: Sequence[Pieces]) -> Pieces:
    """Returns the pieces of several parts, by `place`; no example is in two of them."""
    order = np.argsort(np.concatenate([part.place for part in parts]), kind="stable")
    names = [field.name for field in dataclasses.fields(Pieces)]
    return Pieces(**{name: np.concatenate([getattr(part, name) for part in parts])[order] for name in names})


def _checked(store: Path, files: tuple[TableFile, ...]) -> list[Path]:
    """Returns the files' paths once what they hold was compared with the manifest: nothing in them guards itself."""
    paths = [store / file.name for file in files]
    for path, file in zip(paths, files, strict=True):
        if sha256(path) != file.sha256:
            raise UserError(f"{path}: not what was written: its sha256 is not the manifest's; prepare the store again")
    return paths


def _ranges(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the numbers in all ranges one after another, preceded by which range each is in."""
    counts = ends - starts
    place = np.repeat(np.arange(len(starts)), counts)
    within = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
    return place, starts[place] + within
