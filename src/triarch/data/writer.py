"""Writes a token store so that nothing half-written ever looks whole."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from array_record.python import array_record_module

from triarch.data import manifest as manifests
from triarch.errors import UserError

# Random access needs one example a group; zstd at level 1 reads as fast as uncompressed and saves about a third.
_WRITER_OPTIONS = "group_size:1,zstd:1"
# Tokens an ArrayRecord file: 256 MiB of uint16 before compression.
_FILE_TOKENS = 2**27
_REPLACED = ".replaced"


class StoreWriter:
    """Builds a store in a hidden sibling folder of `output` and renames it into place at `finish`.

    A context manager: leaving it without `finish` removes what was written. A killed writer leaves only the hidden
    folder, which the next writer of the same output on the same machine removes.
    """

    def __init__(self, output: Path, window: int, dtype: str, overwrite: bool = False, file_tokens: int = _FILE_TOKENS):
        """A writer of windows of `window` ids as `dtype`; a file holds at most `file_tokens` tokens.

        Every method raises UserError where `output` exists and is not to be overwritten, or cannot be written.
        """
        self.output = output
        self._window = window
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._overwrite = overwrite
        self._file_examples = max(1, file_tokens // window)
        self._splits: dict[str, _SplitFiles] = {}
        self.folder = output.parent / f"{_partial_prefix(output)}{os.getpid()}"

    def __enter__(self) -> Self:
        with _explained(self.output):
            self.output.parent.mkdir(parents=True, exist_ok=True)
            _clear_abandoned(self.output)
            check_output(self.output, self._overwrite)
            self.folder.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for files in self._splits.values():
            with contextlib.suppress(Exception):
                files.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, split: str, windows: np.ndarray) -> None:
        """Appends int[examples, window] `windows` to `split`."""
        if split not in self._splits:
            self._splits[split] = _SplitFiles(self.folder, split, self._file_examples)
        with _explained(self.output):
            for window in windows.astype(self._dtype, copy=False):
                self._splits[split].write(window.tobytes())

    def examples(self, split: str) -> int:
        """Returns how many examples `split` holds so far."""
        return self._splits[split].examples if split in self._splits else 0

    def finish_files(self, split: str) -> tuple[manifests.StoreFile, ...]:
        """Closes the files of `split`, gives them their final names and returns them."""
        with _explained(self.output):
            return self._splits[split].finish()

    def finish(self, manifest: manifests.Manifest, token_bytes: np.ndarray) -> None:
        """Writes the manifest last and moves the store into place."""
        with _explained(self.output):
            np.save(self.folder / manifests.TOKEN_BYTES, token_bytes.astype(np.uint16), allow_pickle=False)
            _write_synced(self.folder / manifests.FILE_NAME, manifest.to_json())
            self._move_into_place()

    def _move_into_place(self) -> None:
        check_output(self.output, self._overwrite)
        if self.output.exists():
            replaced = self.folder.with_name(f"{self.folder.name}{_REPLACED}")
            self.output.rename(replaced)
            self.folder.rename(self.output)
            shutil.rmtree(replaced)
        else:
            self.folder.rename(self.output)


class _SplitFiles:
    """The ArrayRecord files of one split, one after another."""

    def __init__(self, folder: Path, split: str, file_examples: int):
        self._folder = folder
        self._split = split
        self._file_examples = file_examples
        self._counts: list[int] = []
        self._writer: array_record_module.ArrayRecordWriter | None = None

    @property
    def examples(self) -> int:
        return sum(self._counts)

    def write(self, record: bytes) -> None:
        if self._writer is None or self._counts[-1] == self._file_examples:
            self.close()
            self._writer = array_record_module.ArrayRecordWriter(str(self._path(len(self._counts))), _WRITER_OPTIONS)
            self._counts.append(0)
        self._writer.write(record)
        self._counts[-1] += 1

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def finish(self) -> tuple[manifests.StoreFile, ...]:
        self.close()
        files = []
        for index, examples in enumerate(self._counts):
            name = f"{self._split}-{index:05d}-of-{len(self._counts):05d}.array_record"
            path = self._path(index).rename(self._folder / name)
            files.append(manifests.StoreFile(name, examples, path.stat().st_size))
        return tuple(files)

    def _path(self, index: int) -> Path:
        return self._folder / f"{self._split}-{index:05d}.array_record"


def check_output(output: Path, overwrite: bool) -> None:
    """Raises UserError if a store must not be written at `output`: something is there, or it is not a store."""
    if not output.exists():
        return
    if not overwrite:
        raise UserError(f"{output}: exists already: choose another --output or give --overwrite")
    if not (output / manifests.FILE_NAME).is_file():
        raise UserError(f"{output}: is not a token store, so --overwrite does not remove it")


@contextlib.contextmanager
def _explained(output: Path) -> Iterator[None]:
    """Turns a full disk or a forbidden folder into one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{output}: the disk is full; nothing was kept") from error
        raise UserError(f"{output}: cannot be written: {error.strerror or error}") from error
    except RuntimeError as error:  # What ArrayRecord's C++ raises.
        full = "No space left" in str(error) or "RESOURCE_EXHAUSTED" in str(error)
        reason = "the disk is full; nothing was kept" if full else f"cannot be written: {error}"
        raise UserError(f"{output}: {reason}") from error


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _partial_prefix(output: Path) -> str:
    return f".{output.name}.partial-{socket.gethostname()}-"


def _clear_abandoned(output: Path) -> None:
    """Removes what killed writers of `output` on this machine left behind, and puts back a store they set aside."""
    for path in list(output.parent.iterdir()):
        if not path.name.startswith(_partial_prefix(output)):
            continue
        process = path.name.removeprefix(_partial_prefix(output)).removesuffix(_REPLACED)
        if not process.isdigit() or _is_running(int(process)):
            continue
        if path.name.endswith(_REPLACED) and not output.exists():
            path.rename(output)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
