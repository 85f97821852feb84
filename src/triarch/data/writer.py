"""Writes a token store so that nothing half-written ever looks whole, and an interrupted one can be gone on with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from array_record.python import array_record_module

from triarch.data import manifest as manifests
from triarch.data.partial import SCRATCH, PartialFolder, check_output, explained
from triarch.files import write_synced

__all__ = ["StoreWriter", "check_output"]

# Random access needs one example a group; zstd at level 1 reads as fast as uncompressed and saves about a third.
_WRITER_OPTIONS = "group_size:1,zstd:1"
# Tokens an ArrayRecord file: 256 MiB of uint16 before compression.
_FILE_TOKENS = 2**27
_READ_RECORDS = 2**10


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
    ):
        """A writer of windows of `window` ids as `dtype`; a file holds at most `file_tokens` tokens.

        With `segments`, of windows of packed documents: each is written with its segment ids.

        Every method raises UserError where `output` exists and is not to be overwritten, or cannot be written.
        """
        self.output = output
        self.state: dict[str, Any] | None = None
        self._has_job = job is not None
        self._partial = PartialFolder(output, overwrite, job)
        self.folder = self._partial.path
        self.scratch = self._partial.scratch
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._record_bytes = window * (self._dtype.itemsize + segments * manifests.SEGMENT_DTYPE.itemsize)
        self._file_examples = max(1, file_tokens // window)
        self._splits: dict[str, _SplitFiles] = {}

    def __enter__(self) -> Self:
        with explained(self.output):
            self._partial.open()
            self._go_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for files in self._splits.values():
            files.close()
        self._partial.close()

    def write(self, split: str, windows: np.ndarray, segment_ids: np.ndarray | None = None) -> None:
        """Appends int[examples, window] `windows` to `split`, with their segment ids where the store has them."""
        records = np.ascontiguousarray(windows.astype(self._dtype, copy=False)).view(np.uint8)
        if segment_ids is not None:
            numbers = np.ascontiguousarray(segment_ids.astype(manifests.SEGMENT_DTYPE)).view(np.uint8)
            records = np.concatenate([records, numbers], axis=1)
        with explained(self.output):
            self._files(split).write(records)
            if not self._has_job:
                self._splits[split].remove_converted()

    def examples(self, split: str) -> int:
        """Returns how many examples `split` holds so far."""
        return self._splits[split].examples if split in self._splits else 0

    def checkpoint(self, state: dict[str, Any]) -> None:
        """Makes all that was written survive an interruption, together with `state` (JSON)."""
        with explained(self.output):
            splits = {split: files.flush() for split, files in self._splits.items()}
            self._partial.write_journal({"state": state, "splits": splits})
            for files in self._splits.values():
                files.remove_converted()

    def finish_files(self, split: str) -> tuple[manifests.StoreFile, ...]:
        """Completes the files of `split`, gives them their final names and returns them."""
        with explained(self.output):
            return self._splits[split].finish()

    def finish(self, manifest: manifests.Manifest, token_bytes: np.ndarray) -> None:
        """Writes the manifest last and moves the store into place."""
        with explained(self.output):
            np.save(self.folder / manifests.TOKEN_BYTES, token_bytes.astype(np.uint16), allow_pickle=False)
            write_synced(self.folder / manifests.FILE_NAME, manifest.to_json())
            self._partial.publish()

    def _files(self, split: str) -> _SplitFiles:
        if split not in self._splits:
            self._splits[split] = _SplitFiles(self.folder, split, self._record_bytes, self._file_examples)
        return self._splits[split]

    def _go_on(self) -> None:
        """Brings the files back to the last checkpoint; those of splits that it lacks are begun again."""
        journal = self._partial.journal or {}
        kept: set[Path] = set()
        try:
            for split, entry in journal.get("splits", {}).items():
                kept |= self._files(split).restore(**entry)
            self.state = journal.get("state")
        except FileNotFoundError:  # Killed in the last moment, while files got their final names.
            self._splits, kept = {}, set()
        for path in [*self.folder.glob("*.array_record"), *self.scratch.glob("*.spool")]:
            if path not in kept:
                path.unlink()


class _SplitFiles:
    """The ArrayRecord files of one split, one after another.

    An ArrayRecord file cannot be appended to once it is closed, so the examples of the newest one wait in a plain file,
    the spool, which can; it is converted when it is full.
    """

    def __init__(self, folder: Path, split: str, record_bytes: int, file_examples: int):
        self._folder = folder
        self._split = split
        self._record_bytes = record_bytes
        self._file_examples = file_examples
        self._counts: list[int] = []
        self._spooled = 0
        self._spool: Any = None

    @property
    def examples(self) -> int:
        return sum(self._counts) + self._spooled

    def write(self, records: np.ndarray) -> None:
        while len(records):
            room = self._file_examples - self._spooled
            if self._spool is None:
                self._spool = self._spool_path(len(self._counts)).open("ab")
            self._spool.write(records[:room].tobytes())
            self._spooled += len(records[:room])
            records = records[room:]
            if self._spooled == self._file_examples:
                self._convert()

    def flush(self) -> dict[str, Any]:
        """Brings the spool to the disk and returns what `restore` needs."""
        if self._spool is not None:
            self._spool.flush()
            os.fsync(self._spool.fileno())
        return {"counts": list(self._counts), "spooled": self._spooled}

    def restore(self, counts: list[int], spooled: int) -> set[Path]:
        """Takes up what `flush` described and returns the files that belong to it.

        Raises:
          FileNotFoundError: not all of it is there.
        """
        files = {self._path(index) for index in range(len(counts))}
        if spooled:
            spool, size = self._spool_path(len(counts)), spooled * self._record_bytes
            if spool.stat().st_size < size:
                raise FileNotFoundError(spool)
            os.truncate(spool, size)
            files.add(spool)
        for path in files:
            path.stat()
        self._counts, self._spooled = list(counts), spooled
        return files

    def remove_converted(self) -> None:
        """Removes the spools of complete files, which a checkpoint before those might have needed."""
        for index in range(len(self._counts)):
            self._spool_path(index).unlink(missing_ok=True)

    def close(self) -> None:
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()

    def finish(self) -> tuple[manifests.StoreFile, ...]:
        if self._spooled:
            self._convert()
        files = []
        for index, examples in enumerate(self._counts):
            name = f"{self._split}-{index:05d}-of-{len(self._counts):05d}.array_record"
            path = self._path(index).rename(self._folder / name)
            files.append(manifests.StoreFile(name, examples, path.stat().st_size))
        return tuple(files)

    def _convert(self) -> None:
        self.close()
        index = len(self._counts)
        writer = array_record_module.ArrayRecordWriter(str(self._path(index)), _WRITER_OPTIONS)
        try:
            for record in self._spooled_records(index):
                writer.write(record)
        finally:
            writer.close()
        with self._path(index).open("rb") as file:
            os.fsync(file.fileno())
        self._counts.append(self._spooled)
        self._spooled = 0

    def _spooled_records(self, index: int) -> Iterator[bytes]:
        with self._spool_path(index).open("rb") as spool:
            while block := spool.read(_READ_RECORDS * self._record_bytes):
                for start in range(0, len(block), self._record_bytes):
                    yield block[start : start + self._record_bytes]

    def _path(self, index: int) -> Path:
        return self._folder / f"{self._split}-{index:05d}.array_record"

    def _spool_path(self, index: int) -> Path:
        return self._folder / SCRATCH / f"{self._split}-{index:05d}.spool"
