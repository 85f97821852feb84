"""Writes a token store so that nothing half-written ever looks whole, and an interrupted one can be gone on with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from array_record.python import array_record_module

from triarch.data import manifest as manifests
from triarch.data.partial import SCRATCH, PartialFolder, check_output, explained
from triarch.data.spool import FileFormat, SpooledFiles
from triarch.data.tables import DOCUMENT_COLUMNS, PIECE_COLUMNS, TableFormat
from triarch.data.token_bytes import TokenBytes
from triarch.errors import UserError
from triarch.files import sha256, write_synced

__all__ = ["StoreWriter", "check_output"]

# Random access needs one example a group; zstd at level 1 reads as fast as uncompressed and saves about a third.
_WRITER_OPTIONS = "group_size:1,zstd:1"
# Tokens an ArrayRecord file: 256 MiB of uint16 before compression.
_FILE_TOKENS = 2**27
# Rows of a table's file: 224 MiB before compression.
_FILE_ROWS = 2**22
_EXAMPLES, _DOCUMENTS, _PIECES = "examples", "documents", "pieces"


class ArrayRecordFormat:
    """ArrayRecord files."""

    suffix = ".array_record"
    block_records = 2**10

    def write(self, path: Path, blocks: Iterator[bytes], record_bytes: int) -> None:
        """Writes the records one by one."""
        writer = array_record_module.ArrayRecordWriter(str(path), _WRITER_OPTIONS)
        try:
            for block in blocks:
                for start in range(0, len(block), record_bytes):
                    writer.write(block[start : start + record_bytes])
        finally:
            writer.close()


class StoreWriter:
    """Builds a store in a hidden sibling folder of `output` and renames it into place at `finish`.

    A context manager: leaving it without `finish` removes what was written, or keeps it for a writer of the same `job`
    if it took long. A killed writer leaves only the hidden folder; the next writer of the same output goes on with it
    or removes it.

    Attributes:
      folder: where the store is being built.
      scratch: a folder for other things that are to survive an interruption.
      state: what `checkpoint` was last given before an interruption; None at a fresh start.
    """

    def __init__(
        self,
        output: Path,
        window: int,
        dtype: str,
        overwrite: bool = False,
        file_tokens: int = _FILE_TOKENS,
        job: str | None = None,
        segments: bool = False,
        label_bytes: int = 0,
    ):
        """A writer of windows of `window` ids as `dtype`; a file holds at most `file_tokens` tokens.

        With `segments`, of windows of packed documents: each is written with its segment ids; and with so many
        `label_bytes` of labels.

        Every method raises UserError where `output` exists and is not to be overwritten, or cannot be written.
        """
        self.output = output
        self.state: dict[str, Any] | None = None
        self._has_job = job is not None
        self._partial = PartialFolder(output, overwrite, job)
        self.folder = self._partial.path
        self.scratch = self._partial.scratch
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._record_bytes = window * (self._dtype.itemsize + segments * manifests.SEGMENT_DTYPE.itemsize) + label_bytes
        self._file_examples = max(1, file_tokens // window)
        self._files: dict[tuple[str, str], SpooledFiles] = {}
        self._sources: dict[str, dict[str, int]] = {}

    def __enter__(self) -> Self:
        with explained(self.output):
            self._partial.open()
            self._go_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for files in self._files.values():
            with contextlib.suppress(OSError):  # What still waits in memory finds no room either.
                files.close()
        if error is not None and self._has_job:
            self._keep_checkpoint()
        self._partial.close(error)

    def write(
        self,
        split: str,
        windows: np.ndarray,
        segment_ids: np.ndarray | None = None,
        labels: np.ndarray | None = None,
    ) -> None:
        """Appends int[examples, window] `windows` to `split`, with segment ids and labels where the store has them.

        Labels are int32 or float32[examples, 1], or int32[examples, window].
        """
        records = np.ascontiguousarray(windows.astype(self._dtype, copy=False)).view(np.uint8)
        if segment_ids is not None:
            numbers = np.ascontiguousarray(segment_ids.astype(manifests.SEGMENT_DTYPE)).view(np.uint8)
            records = np.concatenate([records, numbers], axis=1)
        if labels is not None:
            little = labels.astype(labels.dtype.newbyteorder("<"), copy=False)
            records = np.concatenate([records, np.ascontiguousarray(little).view(np.uint8)], axis=1)
        self._append(_EXAMPLES, split, records)

    def write_documents(self, split: str, rows: np.ndarray, sources: Sequence[str]) -> None:
        """Appends int64[documents, columns] `rows` of `DOCUMENT_COLUMNS`, the next documents of `split`.

        The column "source" counts in `sources`.
        """
        numbers = self._sources.setdefault(split, {})
        ours = np.array([numbers.setdefault(source, len(numbers)) for source in sources], np.int64)
        self._append(_DOCUMENTS, split, np.concatenate([ours[rows[:, :1]], rows[:, 1:]], axis=1))

    def write_pieces(self, split: str, rows: np.ndarray) -> None:
        """Appends int64[pieces, columns] `rows` of `PIECE_COLUMNS`, those of the next examples of `split`."""
        self._append(_PIECES, split, rows)

    def examples(self, split: str) -> int:
        """Returns how many examples `split` holds so far."""
        files = self._files.get((_EXAMPLES, split))
        return files.records if files is not None else 0

    def checkpoint(self, state: dict[str, Any]) -> None:
        """Makes all that was written survive an interruption, together with `state` (JSON)."""
        with explained(self.output):
            files = [(*key, files.flush()) for key, files in self._files.items()]
            sources = {split: list(numbers) for split, numbers in self._sources.items()}
            self._partial.write_journal({"state": state, "files": files, "sources": sources})
            for spooled in self._files.values():
                spooled.remove_converted()

    def finish_files(self, split: str) -> tuple[manifests.StoreFile, ...]:
        """Completes the files of `split`, gives them their final names and returns them."""
        with explained(self.output):
            return tuple(manifests.StoreFile(*file) for file in self._spooled(_EXAMPLES, split).finish())

    def finish_provenance(self, split: str) -> manifests.ProvenanceFiles:
        """Completes the tables of `split`, gives them their final names and returns them."""
        with explained(self.output):
            documents, pieces = (
                tuple(
                    manifests.TableFile(file.name, file.records, file.size, sha256(self.folder / file.name))
                    for file in self._spooled(kind, split).finish()
                )
                for kind in (_DOCUMENTS, _PIECES)
            )
        return manifests.ProvenanceFiles(documents, pieces)

    def finish(self, manifest: manifests.StoreManifest, token_bytes: TokenBytes) -> None:
        """Writes the manifest last and moves the store into place."""
        with explained(self.output):
            np.save(self.folder / manifests.TOKEN_BYTES, token_bytes.rows(), allow_pickle=False)
            write_synced(self.folder / manifests.FILE_NAME, manifest.to_json())
            self._partial.publish()

    def _append(self, kind: str, split: str, rows: np.ndarray) -> None:
        with explained(self.output):
            files = self._spooled(kind, split)
            files.write(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
            if not self._has_job:
                files.remove_converted()

    def _spooled(self, kind: str, split: str) -> SpooledFiles:
        if (kind, split) not in self._files:
            name = split if kind == _EXAMPLES else f"{split}-{kind}"
            self._files[kind, split] = SpooledFiles(self.folder, self.scratch, name, *self._format(kind, split))
        return self._files[kind, split]

    def _format(self, kind: str, split: str) -> tuple[FileFormat, int, int]:
        """Returns the format of such files, the bytes of a record and how many records a file has."""
        if kind == _EXAMPLES:
            return ArrayRecordFormat(), self._record_bytes, self._file_examples
        if kind == _PIECES:
            return TableFormat(PIECE_COLUMNS), 8 * len(PIECE_COLUMNS), _FILE_ROWS
        sources = self._sources.setdefault(split, {})
        return TableFormat(DOCUMENT_COLUMNS, sources), 8 * len(DOCUMENT_COLUMNS), _FILE_ROWS

    def _keep_checkpoint(self) -> None:
        """Removes all that came after the last checkpoint: nothing goes on from that, and the disk may be full."""
        self._files, self._sources = {}, {}
        self._partial.journal = self._partial.find_journal()
        with contextlib.suppress(OSError, UserError):
            self._go_on()

    def _go_on(self) -> None:
        """Brings the files back to the last checkpoint; those of splits that it lacks are begun again."""
        journal = self._partial.journal or {}
        kept: set[Path] = set()
        try:
            for split, sources in journal.get("sources", {}).items():
                self._sources[split] = {source: number for number, source in enumerate(sources)}
            for kind, split, entry in journal.get("files", []):
                kept |= self._spooled(kind, split).restore(**entry)
            self.state = journal.get("state")
        except FileNotFoundError:  # Not all that the journal tells of is there.
            self._files, self._sources, kept = {}, {}, set()
        for pattern in ("*.array_record", "*.parquet", f"{SCRATCH}/*.spool"):
            for path in self.folder.glob(pattern):
                if path not in kept:
                    path.unlink()
