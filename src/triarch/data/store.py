"""A token store opened for reading: examples of token ids at random access, no TensorFlow."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

import grain
import numpy as np

from triarch.data import manifest as manifests
from triarch.data.manifest import VOCABULARY
from triarch.errors import UserError, nearest

if TYPE_CHECKING:
    from triarch.data.provenance import SplitProvenance


class SplitReader:
    """The examples of one split, by index.

    `reader[i]` is {"tokens": int32[window]} for 0 <= i < len(reader), and of a packed store "segment_ids",
    int32[window]: the number of each token's document, from 1 on, 0 for padding. Of a store of pairs it is
    {"inputs": int32[n], "targets": int32[m]}, each ended by the end-of-document token. Where pairs are packed it is
    that of a packed store, each pair being a document, and "num_inputs", int32[pairs]: with how many tokens of inputs
    each of them begins. Reading is thread-safe.
    """

    def __init__(self, store: Path, name: str, manifest: manifests.Manifest):
        self.name = name
        self.window = manifest.window
        self._dtype = np.dtype(manifest.dtype).newbyteorder("<")
        self._token_bytes = self.window * self._dtype.itemsize
        self._layout = manifest.layout
        self._segments = manifest.layout != "windows"
        self._record_bytes = self._token_bytes + self._segments * self.window * manifests.SEGMENT_DTYPE.itemsize
        split = manifest.splits[name]
        # The counts in the brackets spare opening every file of a large store at start-up.
        self._source = grain.sources.ArrayRecordDataSource(
            [f"{store / file.name}[0:{file.examples}]" for file in split.files]
        )

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        record = self._source[index]
        if len(record) != self._record_bytes:
            raise UserError(
                f"split {self.name!r}: example {index} holds {len(record)} bytes, expected {self._record_bytes}"
            )
        tokens = np.frombuffer(record[: self._token_bytes], self._dtype).astype(np.int32)
        if not self._segments:
            return {"tokens": tokens}
        segment_ids = np.frombuffer(record[self._token_bytes :], manifests.SEGMENT_DTYPE).astype(np.int32)
        if self._layout == "packed":
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
      token_bytes: uint16[vocabulary size]: the UTF-8 bytes each token stands for, 0 for special tokens.
      first_token_bytes: uint16[vocabulary size]: those it stands for as the first of a text, without a space that the
        tokenizer put before it.
    """

    path: Path
    manifest: manifests.Manifest
    token_bytes: np.ndarray
    first_token_bytes: np.ndarray

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> TokenStore:
        """Opens the store at `path`.

        Raises:
          UserError: there is none, it is of another format or version, or it is not whole.
        """
        path = Path(path)
        manifest = manifests.read_manifest(path)
        for file in manifest.files():
            _check_size(path / file.name, file.size)
        return cls(path, manifest, *_read_token_bytes(path / manifests.TOKEN_BYTES, manifest.vocabulary.size))

    @property
    def vocabulary_folder(self) -> Path:
        """What rebuilds the vocabulary; empty for bytes."""
        return self.path / VOCABULARY

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


def _check_size(path: Path, expected: int) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"{path}: the store is cut short: {error.strerror}; prepare it again") from None
    if size != expected:
        raise UserError(f"{path}: the store is cut short: {size:,} bytes, expected {expected:,}; prepare it again")


def _read_token_bytes(path: Path, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns `token_bytes` and `first_token_bytes`: one row for both where they are alike."""
    try:
        token_bytes = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: the store is cut short: the file is missing; prepare it again") from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: the store is cut short: {error}; prepare it again") from None
    if token_bytes.shape not in ((vocab_size,), (2, vocab_size)) or token_bytes.dtype != np.uint16:
        found = f"{token_bytes.dtype}{list(token_bytes.shape)}"
        raise UserError(f"{path}: found {found}, the manifest's vocabulary needs uint16[{vocab_size}]")
    rows = np.atleast_2d(token_bytes)
    return rows[0], rows[-1]
