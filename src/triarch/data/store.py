"""A token store opened for reading: examples of token ids at random access, no TensorFlow."""

from __future__ import annotations

import bisect
import dataclasses
import io
import itertools
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grain
import numpy as np
from array_record.python import array_record_module

from triarch.data import manifest as manifests
from triarch.data.manifest import VOCABULARY
from triarch.data.token_bytes import TokenBytes
from triarch.errors import UserError, nearest
from triarch.files import check_regular, read_regular
from triarch.remote import is_remote
from triarch.remote.copies import kept_copy

if TYPE_CHECKING:
    from triarch.data.provenance import SplitProvenance


_THREADS = 16
_MOST_HEADER_BYTES = 2**16


@dataclasses.dataclass(frozen=True)
class _WholeFile:
    """All records of a file, as Grain wants it told: a path it would search for a range in brackets."""

    filename: str
    take: int
    examples_in_shard: int
    skip: int = 0


class SplitReader:
    """The examples of one split, by index.

    `reader[i]` is {"tokens": int32[window]} for 0 <= i < len(reader), and of a packed store "segment_ids",
    int32[window]: the number of each token's document, from 1 on, 0 for padding. Of a store of pairs it is
    {"inputs": int32[n], "targets": int32[m]}, each ended by the end-of-document token. Where pairs are packed it is
    that of a packed store, each pair being a document, and "num_inputs", int32[pairs]: with how many tokens of inputs
    each of them begins. Of a labelled store it is a text's tokens, "segment_ids", int32[window], 1 + the tokens' types
    and 0 for padding, and "label": int32 or float32, or int32[window] where tokens have labels. Of groups it is that
    of a packed store, whose documents are a query (1), its passage (2) and hard negatives, and "label", float32[hard
    negatives], where a teacher's margins are known. Reading is thread-safe.
    """

    def __init__(self, store: Path, name: str, manifest: manifests.StoreManifest):
        """The examples of split `name`.

        Raises:
          UserError: a file is damaged, or holds another number of examples than the manifest says.
        """
        self.name = name
        self.window = manifest.window
        self._dtype = np.dtype(manifest.dtype).newbyteorder("<")
        self._token_bytes = self.window * self._dtype.itemsize
        self._layout = manifest.layout
        self._segments = manifest.layout != "windows"
        self._record_bytes = self._token_bytes + self._segments * self.window * manifests.SEGMENT_DTYPE.itemsize
        self._segments_end = self._record_bytes
        self._label_dtype: np.dtype[Any] | None = None
        if manifest.labels is not None:
            kind, count = manifest.labels.kind, manifest.labels.count
            self._label_dtype = np.dtype("<f4" if kind in (manifests.VALUES, manifests.MARGINS) else "<i4")
            self._is_one_label = kind in (manifests.CLASSES, manifests.VALUES)
            self._record_bytes += 4 * (1 if self._is_one_label else count or self.window)
        files = [file for file in manifest.splits[name].files if file.examples]
        self._paths = [store / file.name for file in files]
        self._ends = list(itertools.accumulate(file.examples for file in files))
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(_check_examples, self._paths, [file.examples for file in files]))
        self._source = grain.sources.ArrayRecordDataSource(
            [_WholeFile(str(store / file.name), file.examples, file.examples) for file in files]
        )

    def __len__(self) -> int:
        return len(self._source)

    @property
    def token_parts(self) -> tuple[str, ...]:
        """The keys of an example that hold its ids."""
        return ("inputs", "targets") if self._layout == "pairs" else ("tokens",)

    def place(self, index: int) -> str:
        """Returns the file and the record in it of an example, for messages."""
        number = bisect.bisect_right(self._ends, index)
        return f"{self._paths[number]}: record {index - (self._ends[number - 1] if number else 0)}"

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if not 0 <= index < len(self):
            raise IndexError(f"split {self.name!r}: no example {index}, it has {len(self):,}")
        try:
            record = self._source[index]
        except RuntimeError as error:  # What ArrayRecord's C++ raises, whose checksums every record has.
            raise UserError(f"{self.place(index)} is damaged: {_reason(error)}; prepare the store again") from None
        if len(record) != self._record_bytes:
            raise UserError(f"{self.place(index)} holds {len(record):,} bytes, expected {self._record_bytes:,}")
        tokens = np.frombuffer(record[: self._token_bytes], self._dtype).astype(np.int32)
        if not self._segments:
            return {"tokens": tokens}
        segments = record[self._token_bytes : self._segments_end]
        segment_ids = np.frombuffer(segments, manifests.SEGMENT_DTYPE).astype(np.int32)
        if self._label_dtype is not None:
            labels = np.frombuffer(record[self._segments_end :], self._label_dtype)
            labels = labels.astype(self._label_dtype.newbyteorder("="))
            return {"tokens": tokens, "segment_ids": segment_ids, "label": labels[0] if self._is_one_label else labels}
        if self._layout in ("packed", "groups"):
            return {"tokens": tokens, "segment_ids": segment_ids}
        if self._layout == "pairs":
            return {"inputs": tokens[segment_ids == 1], "targets": tokens[segment_ids == 2]}
        # Inputs have odd numbers, their targets the even ones after them.
        num_inputs = np.bincount(segment_ids)[1::2].astype(np.int32)
        return {"tokens": tokens, "segment_ids": (segment_ids + 1) // 2, "num_inputs": num_inputs}


@dataclasses.dataclass(frozen=True)
class TokenStore:
    """A store on disk whose manifest, files and sizes were checked.

    Attributes:
      path: the store's folder.
      manifest: what it says of itself.
      token_bytes: the UTF-8 bytes that each token stands for.
    """

    path: Path
    manifest: manifests.StoreManifest
    token_bytes: TokenBytes

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> TokenStore:
        """Opens the store at `path`, a folder, or a URL such as gs://bucket/store, of which a local copy is kept.

        Raises:
          UserError: there is none, it is of another format or version, or it is not whole.
        """
        path = kept_copy(str(path)) if is_remote(str(path)) else Path(path)
        manifest = manifests.read_manifest(path)
        for file in manifest.files():
            _check_size(path / file.name, file.size, path)
        return cls(path, manifest, _read_token_bytes(path / manifests.TOKEN_BYTES, manifest.vocabulary.size, path))

    @property
    def vocabulary_folder(self) -> Path:
        """What rebuilds the vocabulary; empty for bytes."""
        return self.path / VOCABULARY

    def text_bytes(self, split: str) -> float:
        """Returns how many bytes of text there are for each that the tokens of a split stand for.

        1 where text is kept byte for byte. Other vocabularies drop spaces (WordPiece), change characters, or have one
        token for all that is unknown: what their tokens stand for is not what was read.
        """
        counted = (self.manifest.source.get("token_bytes") or {}).get(split)
        return self.manifest.splits[split].bytes / counted if counted else 1.0

    def split(self, name: str) -> SplitReader:
        """Returns the reader of split `name`.

        Raises:
          UserError: the store has no such split, or nothing in it.
        """
        self._check_split(name)
        if not self.manifest.splits[name].examples:
            raise UserError(f"{self.path}: split {name!r} is empty")
        return SplitReader(self.path, name, self.manifest)

    def provenance(self, name: str) -> SplitProvenance:
        """Returns which documents the examples of split `name` were made of.

        Raises:
          UserError: the store has no such split, or was made before provenance was recorded, or it is damaged.
        """
        from triarch.data.provenance import SplitProvenance  # Training needs no Parquet.

        self._check_split(name)
        return SplitProvenance(self.path, name, self.manifest)

    def _check_split(self, name: str) -> None:
        if name not in self.manifest.splits:
            raise UserError(f"{self.path}: no split {name!r}{nearest(name, self.manifest.splits)}")


def _check_size(path: Path, expected: int, store: Path) -> None:
    try:
        size = check_regular(path, store)
    except OSError as error:
        raise UserError(f"{path}: the store is cut short: {error.strerror}; prepare it again") from None
    if size != expected:
        raise UserError(f"{path}: the store is cut short: {size:,} bytes, expected {expected:,}; prepare it again")


def _check_examples(path: Path, expected: int) -> None:
    try:
        reader = array_record_module.ArrayRecordReader(str(path), "readahead_buffer_size:0")
        try:
            found = reader.num_records()
        finally:
            reader.close()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{path}: damaged: {_reason(error)}; prepare the store again") from None
    if found != expected:
        raise UserError(f"{path}: holds {found:,} examples, the manifest says {expected:,}; prepare the store again")


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _read_token_bytes(path: Path, vocab_size: int, store: Path) -> TokenBytes:
    try:
        check_regular(path, store)
        content = io.BytesIO(read_regular(path, 6 * manifests.MOST_IDS + _MOST_HEADER_BYTES))
    except FileNotFoundError:
        raise UserError(f"{path}: the store is cut short: the file is missing; prepare it again") from None
    except OSError as error:
        raise UserError(f"{path}: the store is cut short: {_reason(error)}; prepare it again") from None
    try:
        # Not `np.load`, which allocates whatever the header says.
        np.lib.format.read_magic(content)
        shape, _, dtype = np.lib.format.read_array_header_1_0(content)
    except Exception as error:  # numpy has Python parse the header, which fails in many ways.
        raise UserError(f"{path}: the store is damaged: {_reason(error)}; prepare it again") from None
    if shape not in ((vocab_size,), (2, vocab_size), (3, vocab_size)) or dtype != np.uint16:
        raise UserError(f"{path}: found {dtype}{list(shape)}, the manifest's vocabulary needs uint16[{vocab_size}]")
    values = content.read()
    expected = dtype.itemsize * math.prod(shape)
    if len(values) != expected:
        raise UserError(f"{path}: the store is cut short: {len(values):,} bytes of values, expected {expected:,}")
    return TokenBytes.from_rows(np.atleast_2d(np.frombuffer(values, dtype).reshape(shape)))
