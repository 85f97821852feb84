"""What a token store says of itself: `manifest.json`, the file written last and read first."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from triarch.errors import UserError, nearest

FORMAT = "triarch.token_store"
VERSION = 1
LAYOUTS = ("windows", "packed", "pairs", "packed_pairs")
DTYPES = ("uint16", "int32")
# Of the segment ids, which follow the tokens in each record but in the layout "windows".
SEGMENT_DTYPE = np.dtype("<u2")
FILE_NAME = "manifest.json"
TOKEN_BYTES = "token_bytes.npy"
VOCABULARY = "vocabulary"


@dataclasses.dataclass(frozen=True)
class StoreFile:
    """One ArrayRecord file: its name in the store, its number of examples, its size in bytes."""

    name: str
    examples: int
    size: int


@dataclasses.dataclass(frozen=True)
class Split:
    """Counts of one split.

    Attributes:
      examples: windows, rows or pairs in the split's files.
      documents: documents the split was made of.
      tokens: tokens of those documents, one end-of-document token each included.
      dropped_tokens: tokens after the last full window, which are not in the store: in the layout "windows"
        `tokens == examples * window + dropped_tokens`; in the others there are none.
      bytes: UTF-8 bytes of those documents' text.
      files: in the order of their examples.
    """

    examples: int
    documents: int
    tokens: int
    dropped_tokens: int
    bytes: int
    files: tuple[StoreFile, ...]


@dataclasses.dataclass(frozen=True)
class TableFile:
    """One Parquet file: its name in the store, its number of rows, its size in bytes, its sha256 (hex)."""

    name: str
    rows: int
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class SplitProvenance:
    """The tables that say which documents a split's examples were made of, see `triarch.data.provenance`.

    Attributes:
      documents: a row a document, in their order.
      pieces: a row for each run of a document's tokens in an example, in the examples' order; where they are packed.
    """

    documents: tuple[TableFile, ...]
    pieces: tuple[TableFile, ...] = ()


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Which vocabulary the tokens belong to.

    Attributes:
      kind: "bytes", "sentencepiece" or "huggingface".
      size: number of ids.
      fingerprint: sha256 (hex) of what defines the vocabulary; equal fingerprints mean equal ids.
      special: ids of "pad", "bos", "eos" and "mask" (None: the vocabulary has no mask); where there are any,
        "sentinels": [first id, count], sentinel k having the id first - k as in T5, and "modes": {"R": id, "S": id,
        "X": id}, UL2's mode tokens.
    """

    kind: str
    size: int
    fingerprint: str
    special: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A token store's `manifest.json`.

    Attributes:
      task: name of the task the text came from.
      layout: "windows": every example is `window` consecutive tokens of the concatenated documents; "packed": every
        example holds whole documents side by side, and padding; "pairs": every example is inputs and targets;
        "packed_pairs": every example holds several such, side by side, and padding.
      window: tokens an example; of pairs, of inputs and targets together at most.
      dtype: little-endian type of the stored ids, "uint16" or "int32".
      vocabulary: see `Vocabulary`.
      splits: by name.
      lengths: of pairs, how many tokens "inputs" and "targets" of an example have at most, those of all of them where
        several are packed; None in the other layouts.
      source: what the store was made from, free: files with sizes and hashes, versions, counts of what was left out.
      provenance: of each split; None in stores made before there was any.
    """

    task: str
    layout: str
    window: int
    dtype: str
    vocabulary: Vocabulary
    splits: Mapping[str, Split]
    source: Mapping[str, Any]
    lengths: Mapping[str, int] | None = None
    provenance: Mapping[str, SplitProvenance] | None = None

    def files(self) -> Iterator[StoreFile | TableFile]:
        """Yields the files of all splits and of their provenance."""
        for split in self.splits.values():
            yield from split.files
        for tables in (self.provenance or {}).values():
            yield from (*tables.documents, *tables.pieces)

    def to_json(self) -> str:
        """Returns the text of `manifest.json`: sorted keys, no time stamps, so equal stores have equal bytes."""
        fields = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        fields = {name: value for name, value in fields.items() if value is not None}
        return json.dumps(fields, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @property
    def fingerprint(self) -> str:
        """Identifies what the store holds, wherever it lies and whatever it was made from: sha256 (hex).

        So a run goes on, and its order can be told, when its store is prepared anew from files that have moved.
        """
        return hashlib.sha256(dataclasses.replace(self, source={}, provenance=None).to_json().encode()).hexdigest()


def read_manifest(store: Path) -> Manifest:
    """Reads `store`/manifest.json.

    Raises:
      UserError: there is no store, the manifest is not JSON, of another format or version, or lacks a field.
    """
    path = store / FILE_NAME
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(_no_store(store)) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: not a token store's manifest: {error}") from None
    return _parse(path, fields)


def _no_store(store: Path) -> str:
    if store.is_dir():
        return f"{store}: not a token store: it holds no {FILE_NAME} (a store is made with `triarch prepare`)"
    siblings = [found.parent.name for found in store.parent.glob(f"*/{FILE_NAME}")]
    return f"{store}: no such token store{nearest(store.name, siblings)}"


def _parse(path: Path, fields: Any) -> Manifest:
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise UserError(f'{path}: not a token store\'s manifest: expected "format": "{FORMAT}"')
    version = fields.get("version")
    if version != VERSION:
        newer = isinstance(version, int) and version > VERSION
        advice = "it was written by a newer triarch: update this one" if newer else "prepare the store again"
        raise UserError(f"{path}: store version {version!r}, this triarch reads version {VERSION}: {advice}")
    try:
        manifest = Manifest(
            task=fields["task"],
            layout=fields["layout"],
            window=int(fields["window"]),
            dtype=fields["dtype"],
            vocabulary=Vocabulary(**fields["vocabulary"]),
            splits={name: _parse_split(split) for name, split in fields["splits"].items()},
            source=fields["source"],
            lengths=fields.get("lengths"),
            provenance=_parse_provenance(fields.get("provenance")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: damaged manifest: {type(error).__name__} at {error}") from None
    for name, value, known in (("layout", manifest.layout, LAYOUTS), ("dtype", manifest.dtype, DTYPES)):
        if value not in known:
            raise UserError(f"{path}: unknown {name} {value!r}{nearest(str(value), known)}")
    return manifest


def _parse_split(fields: Mapping[str, Any]) -> Split:
    return Split(**{**fields, "files": tuple(StoreFile(**file) for file in fields["files"])})


def _parse_provenance(fields: Mapping[str, Any] | None) -> dict[str, SplitProvenance] | None:
    if fields is None:
        return None
    return {
        split: SplitProvenance(**{table: tuple(TableFile(**file) for file in files) for table, files in tables.items()})
        for split, tables in fields.items()
    }
