"""What a token store says of itself: `manifest.json`, the file written last and read first."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from triarch import schema
from triarch.errors import UserError, nearest
from triarch.schema import Anything, Digest, FileName, Items, MapOf, OrNull, Record, Text, Whole

FORMAT = "triarch.token_store"
VERSION = 1
LABELLED = "labelled"
GROUPS = "groups"
LAYOUTS = ("windows", "packed", "pairs", "packed_pairs", LABELLED, GROUPS)
# What labels are, see `StoreLabels`.
CLASSES, VALUES, TOKEN_CLASSES, MARGINS = "classes", "values", "token_classes", "margins"
DTYPES = ("uint16", "int32")
KINDS = ("bytes", "sentencepiece", "huggingface", "ids")
# Far above what is published: vocabularies have up to 2^18 ids, windows 2^24 tokens.
MOST_IDS = 2**26
MOST_TOKENS = 2**30
# Of the segment ids, which follow the tokens in each record but in the layout "windows".
SEGMENT_DTYPE = np.dtype("<u2")
FILE_NAME = "manifest.json"
TOKEN_BYTES = "token_bytes.npy"
VOCABULARY = "vocabulary"


@dataclasses.dataclass(frozen=True)
class StoreFile:
    """One ArrayRecord file.

    Attributes:
      name: in the store.
      examples: how many it has.
      size: in bytes.
      sha256: (hex) of all its records, one after another; None in stores made before it was recorded.
    """

    name: str
    examples: int
    size: int
    sha256: str | None = None


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
class ProvenanceFiles:
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
      kind: "bytes", "sentencepiece" or "huggingface"; "ids" where no text belongs to them here.
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
class StoreLabels:
    """What the labels of a store are.

    Attributes:
      kind: "classes", one number from 0 on for each example; "values", one number with a fraction; "token_classes", a
        class for each token, negative for those without; "margins", of groups, for each hard negative by how much a
        teacher scores the passage higher.
      names: of the classes, in their order; None of values.
      count: of margins, how many each example has; None of the others.
    """

    kind: str
    names: tuple[str, ...] | None = None
    count: int | None = None


@dataclasses.dataclass(frozen=True)
class StoreManifest:
    """A token store's `manifest.json`.

    Attributes:
      task: name of the task the text came from.
      layout: "windows": every example is `window` consecutive tokens of the concatenated documents; "packed": every
        example holds whole documents side by side, and padding; "pairs": every example is inputs and targets;
        "packed_pairs": every example holds several such, side by side, and padding; "labelled": every example is a
        text, or a pair of texts, as a model reads it to classify it, and its label; "groups": every example is a query,
        its passage, and as many hard negatives as each other example has.
      window: tokens an example; of pairs, of inputs and targets together at most; of groups, of all texts together.
      dtype: little-endian type of the stored ids, "uint16" or "int32".
      vocabulary: see `Vocabulary`.
      splits: by name.
      lengths: of pairs, how many tokens "inputs" and "targets" of an example have at most, those of all of them where
        several are packed; None in the other layouts.
      source: what the store was made from, free: files with sizes and hashes, versions, counts of what was left out;
        "token_bytes", by split, how many bytes the tokens of its documents stand for, where that is not `Split.bytes`.
      provenance: of each split; None in stores made before there was any.
      gap: of the layout "packed", how many tokens are left free for each document of a row but one; None for none.
      passes: how many passes over what the store was made from lie one after another in each split, with random choices
        of their own; None for one. A run reads one in each epoch, see `streams.Epochs`.
      labels: of the layout "labelled", what they are, and of "groups" with a teacher's scores; None in the others.
    """

    task: str
    layout: str
    window: int
    dtype: str
    vocabulary: Vocabulary
    splits: Mapping[str, Split]
    source: Mapping[str, Any]
    lengths: Mapping[str, int] | None = None
    provenance: Mapping[str, ProvenanceFiles] | None = None
    gap: int | None = None
    passes: int | None = None
    labels: StoreLabels | None = None

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
        if self.labels is not None:
            fields["labels"] = {name: value for name, value in fields["labels"].items() if value is not None}
        for split in fields["splits"].values():
            split["files"] = [{key: item for key, item in file.items() if item is not None} for file in split["files"]]
        return json.dumps(fields, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @property
    def fingerprint(self) -> str:
        """Identifies what the store holds, wherever it lies and whatever it was made from: sha256 (hex).

        Of its records by their own hashes; a store made before these were recorded, by their number and size alone.

        So a run goes on, and its order can be told, when its store is prepared anew from files that have moved.
        """
        return hashlib.sha256(dataclasses.replace(self, source={}, provenance=None).to_json().encode()).hexdigest()


_FILE = {"name": FileName(), "size": Whole()}
_ID = Whole(0, MOST_IDS - 1)
VOCABULARY_SCHEMA = Record(
    {
        "kind": Text(KINDS),
        "size": Whole(1, MOST_IDS),
        "fingerprint": Text(),
        "special": Record(
            {
                **{"pad": _ID, "bos": _ID, "eos": _ID, "mask": OrNull(_ID)},
                **{"sentinels": OrNull(Items(_ID, 2, 2)), "modes": OrNull(MapOf(_ID))},
            },
            others=True,
        ),
    }
)
_SPLIT = Record(
    {
        **dict.fromkeys(("examples", "documents", "tokens", "dropped_tokens", "bytes"), Whole()),
        "files": Items(Record({**_FILE, "examples": Whole(), "sha256": OrNull(Digest())})),
    }
)
_TABLES = Items(Record({**_FILE, "rows": Whole(), "sha256": Digest()}))
_SCHEMA = Record(
    {
        "format": Text((FORMAT,)),
        "version": Whole(VERSION, VERSION),
        "task": Text(),
        "layout": Text(LAYOUTS),
        "window": Whole(1, MOST_TOKENS),
        "dtype": Text(DTYPES),
        "vocabulary": VOCABULARY_SCHEMA,
        "splits": MapOf(_SPLIT, least=1, names=FileName()),
        "source": Record({"token_bytes": OrNull(MapOf(Whole()))}, others=True),
        "lengths": OrNull(Record({"inputs": Whole(0, MOST_TOKENS), "targets": Whole(0, MOST_TOKENS)})),
        "provenance": OrNull(MapOf(Record({"documents": _TABLES, "pieces": _TABLES}))),
        "gap": OrNull(Whole(1, MOST_TOKENS)),
        "passes": OrNull(Whole(2, 2**20)),
        "labels": OrNull(
            Record(
                {
                    "kind": Text((CLASSES, VALUES, TOKEN_CLASSES, MARGINS)),
                    "names": OrNull(Items(Text())),
                    "count": OrNull(Whole(1, MOST_TOKENS)),
                }
            )
        ),
    }
)


def read_manifest(store: Path) -> StoreManifest:
    """Reads `store`/manifest.json.

    Raises:
      UserError: there is no store, or its manifest is not JSON, of another format or version, or says what cannot be.
    """
    path = store / FILE_NAME
    try:
        fields = schema.read(path, Anything())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(_no_store(store)) from None
    _check_version(path, fields)
    schema.check(fields, _SCHEMA, str(path))
    manifest = StoreManifest(
        task=fields["task"],
        layout=fields["layout"],
        window=fields["window"],
        dtype=fields["dtype"],
        vocabulary=parse_vocabulary(fields["vocabulary"], str(path)),
        splits={name: _split(split) for name, split in fields["splits"].items()},
        source=fields["source"],
        lengths=fields.get("lengths"),
        provenance=_provenance(fields.get("provenance")),
        gap=fields.get("gap"),
        passes=fields.get("passes"),
        labels=_labels(fields.get("labels")),
    )
    _check_counts(path, manifest)
    return manifest


def parse_vocabulary(fields: Any, where: str) -> Vocabulary:
    """Returns what a store, run or export says of its vocabulary; `where` names the file.

    Raises:
      UserError: it says what cannot be.
    """
    found = Vocabulary(**schema.check(fields, VOCABULARY_SCHEMA, where))
    for name, index in _special_ids(found.special):
        if not 0 <= index < found.size:
            raise UserError(
                f"{where}: special.{name} has id {index}, expected one below the vocabulary's {found.size:,}"
            )
    return found


def _no_store(store: Path) -> str:
    if store.is_dir():
        return f"{store}: not a token store: it holds no {FILE_NAME} (a store is made with `triarch prepare`)"
    siblings = [found.parent.name for found in store.parent.glob(f"*/{FILE_NAME}")]
    return f"{store}: no such token store{nearest(store.name, siblings)}"


def _check_version(path: Path, fields: Any) -> None:
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise UserError(f'{path}: not a token store\'s manifest: expected "format": "{FORMAT}"')
    version = fields.get("version")
    if version != VERSION:
        newer = isinstance(version, int) and version > VERSION
        advice = "it was written by a newer triarch: update this one" if newer else "prepare the store again"
        raise UserError(f"{path}: store version {version!r}, this triarch reads version {VERSION}: {advice}")


def _special_ids(special: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    yield from ((role, special[role]) for role in ("pad", "bos", "eos", "mask") if special.get(role) is not None)
    yield from (special.get("modes") or {}).items()
    if special.get("sentinels") is not None:
        first, count = special["sentinels"]
        yield from (("sentinels", first), ("sentinels", first - count + 1))


def _split(fields: Mapping[str, Any]) -> Split:
    return Split(**{**fields, "files": tuple(StoreFile(**file) for file in fields["files"])})


def _provenance(fields: Mapping[str, Any] | None) -> dict[str, ProvenanceFiles] | None:
    if fields is None:
        return None
    return {
        split: ProvenanceFiles(**{table: tuple(TableFile(**file) for file in files) for table, files in tables.items()})
        for split, tables in fields.items()
    }


def _labels(fields: Mapping[str, Any] | None) -> StoreLabels | None:
    if fields is None:
        return None
    names = fields.get("names")
    return StoreLabels(fields["kind"], None if names is None else tuple(names), fields.get("count"))


def _check_counts(path: Path, manifest: StoreManifest) -> None:
    """Makes sure that the counts fit each other."""
    names = [file.name for file in manifest.files()]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}: damaged manifest: the file {twice!r} is listed twice")
    for name, split in manifest.splits.items():
        in_files = sum(file.examples for file in split.files)
        if in_files != split.examples:
            raise UserError(
                f"{path}: damaged manifest: splits.{name}.examples = {split.examples:,}, its files hold {in_files:,}"
            )
        expected = split.examples * manifest.window + split.dropped_tokens
        if manifest.layout == "windows" and split.tokens != expected:
            raise UserError(
                f"{path}: damaged manifest: splits.{name}.tokens = {split.tokens:,}, its windows make it {expected:,}"
            )
    for name, tables in (manifest.provenance or {}).items():
        rows = sum(table.rows for table in tables.documents)
        if name not in manifest.splits or rows != manifest.splits[name].documents:
            has = f"the split has {manifest.splits[name].documents:,}" if name in manifest.splits else "no such split"
            raise UserError(f"{path}: damaged manifest: provenance.{name} has {rows:,} documents, {has}")
        split = manifest.splits[name]
        if bool(tables.pieces) != (manifest.layout.startswith("packed") and split.examples > 0):
            wanted = "no" if tables.pieces else "a"
            raise UserError(
                f"{path}: damaged manifest: provenance.{name}.pieces: expected {wanted} table in the layout "
                f"{manifest.layout!r}"
            )
    labels = manifest.labels
    has_margins = labels is not None and labels.kind == MARGINS and manifest.layout == GROUPS
    if (labels is None) == (manifest.layout == LABELLED) and not has_margins:
        kind = "an object" if labels is None else "null"
        raise UserError(f"{path}: labels: expected {kind} in the layout {manifest.layout!r}")
    if labels is not None and (labels.kind == MARGINS) != has_margins:
        raise UserError(f"{path}: labels: {labels.kind} do not go with the layout {manifest.layout!r}")
    if labels is not None and (labels.count is None) == has_margins:
        raise UserError(f"{path}: labels.count: expected {'a number' if has_margins else 'null'} of {labels.kind}")
    if (manifest.lengths is None) == manifest.layout.endswith("pairs"):
        kind = "an object" if manifest.lengths is None else "null"
        raise UserError(f"{path}: lengths: expected {kind} in the layout {manifest.layout!r}")
