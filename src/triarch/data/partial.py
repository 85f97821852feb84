"""The hidden folder in which a store is made until it is whole: locked, and gone on with after an interruption."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from triarch import disk, schema
from triarch.data import manifest as manifests
from triarch.errors import UserError
from triarch.files import write_whole
from triarch.memory import shown
from triarch.schema import Anything, MapOf
from triarch.temporary import clear_leftovers

# What took less than this is not worth a hidden folder that stays behind.
KEPT_AFTER_SECONDS = 30
SCRATCH = "scratch"
_JOURNAL = "journal.json"
# Of what `StoreWriter` and `prepare` put into the journal: what an older one left behind is begun again.
_VERSION = 2


class PartialFolder:
    """`.NAME.partial` beside the output NAME: held by one process at a time, moved into place by `publish`.

    Attributes:
      path: the folder.
      scratch: a folder in it for what is not part of the store.
      journal: what `write_journal` last wrote before an interruption of the same job; None at a fresh start.
    """

    def __init__(self, output: Path, overwrite: bool, job: str | None):
        """The folder of `output`; `job` says what is being made, None that nothing of it is ever to be kept."""
        self.output = output
        self.path = output.parent / f".{output.name}.partial"
        self.scratch = self.path / SCRATCH
        self.journal: dict[str, Any] | None = None
        self._overwrite = overwrite
        self._job = job
        self._replaced = output.parent / f".{output.name}.replaced"
        self._lock_path = output.parent / f".{output.name}.lock"
        self._lock: int | None = None
        self._start = time.monotonic()

    def open(self) -> None:
        """Locks the folder and makes it, or finds what an interrupted process of the same job left in it.

        Raises:
          UserError: another process writes this output, or it exists and is not to be overwritten.
        """
        self.output.parent.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        try:
            if self._replaced.exists() and not self.output.exists():
                self._replaced.rename(self.output)
            check_output(self.output, self._overwrite)
            clear_leftovers(self.scratch)
            self.journal = self.find_journal()
            if self.journal is None:
                shutil.rmtree(self.path, ignore_errors=True)
                self.scratch.mkdir(parents=True)
                self.write_journal({})
        except BaseException:
            self._release_lock()
            raise

    def write_journal(self, entries: dict[str, Any]) -> None:
        """Replaces the journal in one step."""
        write_whole(self.scratch / _JOURNAL, json.dumps({"version": _VERSION, "job": self._job, **entries}))

    def publish(self) -> None:
        """Moves the folder, whole by now, to the output's place."""
        check_output(self.output, self._overwrite)
        shutil.rmtree(self.scratch)
        if self.output.exists():
            shutil.rmtree(self._replaced, ignore_errors=True)
            self.output.rename(self._replaced)
            self.path.rename(self.output)
            shutil.rmtree(self._replaced)
        else:
            self.path.rename(self.output)

    def close(self, error: BaseException | None) -> None:
        """Removes the folder if it is still there, unless there is enough in it to go on from, which `error` notes."""
        if self._lock is None:
            return
        if error is not None and self._is_worth_keeping():
            size = sum(path.lstat().st_size for path in self.path.rglob("*") if path.is_file())
            error.add_note(f"what was done is kept in {self.path} ({shown(size)}): the same command resumes from it")
        else:
            shutil.rmtree(self.path, ignore_errors=True)
        self._release_lock()

    def _is_worth_keeping(self) -> bool:
        """Whether a checkpoint or a finished step is there, of what took long."""
        if self._job is None or time.monotonic() - self._start < KEPT_AFTER_SECONDS or not self.path.exists():
            return False
        journal = self.find_journal() or {}
        return "state" in journal or any(path.name != _JOURNAL for path in self.scratch.iterdir())

    def find_journal(self) -> dict[str, Any] | None:
        """Returns what `write_journal` last wrote for this job, None without that."""
        if self._job is None:
            return None
        try:
            journal = schema.read(self.scratch / _JOURNAL, MapOf(Anything()))
        except (OSError, UserError):
            return None
        return journal if (journal.get("version"), journal.get("job")) == (_VERSION, self._job) else None

    def _take_lock(self) -> None:
        while self._lock is None:
            lock = os.open(self._lock_path, os.O_CREAT | os.O_RDWR, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                raise UserError(f"{self.output}: another process is writing it") from None
            except OSError as error:  # A file system without locks.
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                    raise
            # The process that held it may have removed the file between our two steps.
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(lock).st_ino == self._lock_path.stat().st_ino:
                    self._lock = lock
                    return
            os.close(lock)

    def _release_lock(self) -> None:
        assert self._lock is not None
        self._lock_path.unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = None


def check_output(output: Path, overwrite: bool) -> None:
    """Raises UserError if a store must not be written at `output`: something is there, or it is not a store."""
    if not output.exists():
        return
    if not overwrite:
        raise UserError(f"{output}: exists already: choose another --output or give --overwrite")
    if not (output / manifests.FILE_NAME).is_file():
        raise UserError(f"{output}: is not a token store, so --overwrite does not remove it")


@contextlib.contextmanager
def explained(output: Path) -> Iterator[None]:
    """Turns a full disk or a forbidden folder into one line."""
    try:
        yield
    except OSError as error:
        problem = disk.full(output) if disk.is_full(error) else f"cannot be written: {error.strerror or error}"
        raise UserError(f"{output}: {problem}") from error
    except RuntimeError as error:  # What ArrayRecord's C++ raises.
        is_full = disk.is_full(error) or "RESOURCE_EXHAUSTED" in str(error)
        raise UserError(f"{output}: {disk.full(output) if is_full else f'cannot be written: {error}'}") from error


@contextlib.contextmanager
def full_disk_explained(output: Path) -> Iterator[None]:
    """Turns a full disk into one line, whatever else was being written for `output`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or not disk.is_full(error):
            raise
        raise UserError(f"{output}: {disk.full(getattr(error, 'filename', None) or output)}") from error
