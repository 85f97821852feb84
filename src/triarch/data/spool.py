"""Files that are written once and for all, fed record by record and gone on with after an interruption."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol


class FileFormat(Protocol):
    """A kind of file that cannot be appended to once it is closed."""

    @property
    def suffix(self) -> str:
        """Of the files' names, with its dot."""
        ...

    @property
    def block_records(self) -> int:
        """How many records `write` gets at a time."""
        ...

    def write(self, path: Path, blocks: Iterator[bytes], record_bytes: int) -> None:
        """Writes a file of the equally long records in `blocks`, side by side; the last block may hold fewer."""
        ...


class WrittenFile(NamedTuple):
    """A file's name in the store, its number of records, its size in bytes, the sha256 (hex) of its records."""

    name: str
    records: int
    size: int
    sha256: str


class SpooledFiles:
    """Files of one format and as many records each, one after another.

    The records of the newest file wait in a plain file, the spool, which can be appended to and cut; it is converted
    when it is full.
    """

    def __init__(
        self, folder: Path, scratch: Path, name: str, file_format: FileFormat, record_bytes: int, file_records: int
    ):
        self._folder = folder
        self._scratch = scratch
        self._name = name
        self._format = file_format
        self._record_bytes = record_bytes
        self._file_records = file_records
        self._counts: list[int] = []
        self._digests: list[str] = []
        self._spooled = 0
        self._spool: Any = None

    @property
    def records(self) -> int:
        """How many there are so far."""
        return sum(self._counts) + self._spooled

    def write(self, records: memoryview) -> None:
        """Appends `records`, whole ones, as bytes."""
        while len(records):
            if self._spool is None:
                self._spool = self._spool_path(len(self._counts)).open("ab")
            part = records[: (self._file_records - self._spooled) * self._record_bytes]
            self._spool.write(part)
            self._spooled += len(part) // self._record_bytes
            records = records[len(part) :]
            if self._spooled == self._file_records:
                self._convert()

    def flush(self) -> dict[str, Any]:
        """Brings the spool to the disk and returns what `restore` needs."""
        if self._spool is not None:
            self._spool.flush()
            os.fsync(self._spool.fileno())
        return {"counts": list(self._counts), "digests": list(self._digests), "spooled": self._spooled}

    def restore(self, counts: list[int], digests: list[str], spooled: int) -> set[Path]:
        """Takes up what `flush` described and returns the files that belong to it.

        Raises:
          FileNotFoundError: not all of it is there.
        """
        files = {self._path(index) for index in range(len(counts))}
        for path in files:
            # Killed while files got their final names.
            for renamed in self._folder.glob(f"{path.stem}-of-*{path.suffix}"):
                renamed.rename(path)
        if spooled:
            spool, size = self._spool_path(len(counts)), spooled * self._record_bytes
            if spool.stat().st_size < size:
                raise FileNotFoundError(spool)
            os.truncate(spool, size)
            files.add(spool)
        for path in files:
            path.stat()
        self._counts, self._digests, self._spooled = list(counts), list(digests), spooled
        return files

    def remove_converted(self) -> None:
        """Removes the spools of complete files, which a checkpoint before those might have needed."""
        for index in range(len(self._counts)):
            self._spool_path(index).unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the spool; what it holds stays."""
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()

    def finish(self) -> list[WrittenFile]:
        """Completes the files and gives them their final names."""
        if self._spooled:
            self._convert()
        files = []
        for index, (records, digest) in enumerate(zip(self._counts, self._digests, strict=True)):
            name = f"{self._name}-{index:05d}-of-{len(self._counts):05d}{self._format.suffix}"
            path = self._path(index).rename(self._folder / name)
            files.append(WrittenFile(name, records, path.stat().st_size, digest))
        return files

    def _convert(self) -> None:
        self.close()
        path = self._path(len(self._counts))
        with self._spool_path(len(self._counts)).open("rb") as spool:
            block_bytes = self._format.block_records * self._record_bytes
            # Of the records, not of the file: how it is compressed may change with a library.
            digest = hashlib.sha256()
            blocks = _digested(iter(lambda: spool.read(block_bytes), b""), digest)
            self._format.write(path, blocks, self._record_bytes)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        self._counts.append(self._spooled)
        self._digests.append(digest.hexdigest())
        self._spooled = 0

    def _path(self, index: int) -> Path:
        return self._folder / f"{self._name}-{index:05d}{self._format.suffix}"

    def _spool_path(self, index: int) -> Path:
        return self._scratch / f"{self._name}-{index:05d}.spool"


def _digested(blocks: Iterator[bytes], digest: Any) -> Iterator[bytes]:
    """Yields the blocks, each taken into `digest` on its way."""
    for block in blocks:
        digest.update(block)
        yield block
