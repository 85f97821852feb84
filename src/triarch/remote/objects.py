"""The objects below a URL: each is written whole or not at all, and can be made only if it is absent."""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import functools
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from triarch.errors import UserError
from triarch.temporary import temporary_path

T = TypeVar("T")
_WAS_URL = re.compile(r"[a-z][a-z0-9+.-]+:/")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://")
# Between tries at what may pass: a server that is busy, a connection that is cut.
_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
# Until a first answer; without credentials some clients look for them for minutes.
_FIRST_SECONDS = 30.0
_THREADS = 8
_PACKAGES = {"gs": "pip install 'triarch[gcs]'", "gcs": "pip install 'triarch[gcs]'", "s3": "pip install s3fs"}
_HOPELESS = (PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError, TypeError)


def is_remote(path: str | Path) -> bool:
    """Returns whether `path` is a URL, such as gs://bucket/folder."""
    return _URL.match(str(path)) is not None


def was_remote(path: Path) -> bool:
    """Returns whether a path is a URL that lost a slash, as gs:/bucket/folder."""
    return _WAS_URL.match(str(path)) is not None and not path.exists()


class Objects:
    """The objects below a URL, by their names from there on. Its methods may be called from any thread."""

    def __init__(self, url: str):
        """Reaches for nothing yet.

        Raises:
          UserError: nothing here speaks the URL's scheme.
        """
        import fsspec

        self.url = url.rstrip("/")
        scheme = self.url.partition("://")[0]
        # What gcsfs tries out with buckets of other kinds asks for credentials of other services.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        try:
            self._store, self._root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            advice = f": {_PACKAGES[scheme]}" if scheme in _PACKAGES else ""
            raise UserError(f"{url}: {_reason(error)}{advice}") from None
        self._root = self._root.rstrip("/")

    def sizes(self, below: str = "") -> dict[str, int]:
        """Returns the bytes of every object below `below`, by name."""
        place = f"{self._root}/{below}".rstrip("/")

        def find() -> dict[str, int]:
            try:
                found = self._store.find(place, detail=True)
            except FileNotFoundError:
                return {}
            prefix = f"{self._root}/"
            return {path.removeprefix(prefix): int(info["size"]) for path, info in found.items() if path != self._root}

        return self._tried("read", find)

    def read(self, name: str) -> bytes | None:
        """Returns what an object holds, None if there is none."""
        try:
            return self._tried("read", lambda: self._store.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """Returns bytes `start` up to `end` of an object."""
        return self._tried("read", lambda: self._store.cat_file(self._path(name), start=start, end=end))

    def modified(self, name: str) -> datetime.datetime:
        """Returns when an object was written, by the server's clock."""
        return self._tried("read", lambda: self._store.modified(self._path(name)))

    def write(self, name: str, content: bytes) -> None:
        """Makes or replaces an object."""
        self._tried("written", lambda: self._store.pipe_file(self._path(name), content))

    def create(self, name: str, content: bytes) -> bool:
        """Makes an object unless there is one; returns whether this call made it."""

        def make() -> bool:
            try:
                self._store.pipe_file(self._path(name), content, mode="create")
            except FileExistsError:
                # Or by a try of ours whose answer was lost.
                return self.read(name) == content
            return True

        return self._tried("written", make)

    def upload(self, path: Path, name: str) -> None:
        """Makes an object of a file, or replaces it."""
        self._tried("written", lambda: self._store.put_file(str(path), self._path(name)))

    def download(self, name: str, path: Path, size: int) -> None:
        """Makes a file of an object that has `size` bytes: whole, or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(path)

        def get() -> None:
            self._store.get_file(self._path(name), str(temporary))
            if (found := temporary.stat().st_size) != size:
                raise OSError(f"{found:,} of {size:,} bytes came")

        try:
            self._tried("read", get, name)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def remove(self, names: Iterable[str]) -> None:
        """Removes objects, as far as they are there."""

        def drop(name: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                self._store.rm_file(self._path(name))

        self._in_parallel(functools.partial(self._tried, "written", functools.partial(drop, name)) for name in names)

    def upload_all(self, files: Mapping[str, Path]) -> None:
        """Makes objects of files, by their names."""
        self._in_parallel(functools.partial(self.upload, path, name) for name, path in files.items())

    def download_all(self, sizes: Mapping[str, int], folder: Path) -> None:
        """Makes files below `folder` of objects of known sizes.

        Raises:
          UserError: an object's name would lead out of the folder, or one cannot be read.
        """
        for name in sizes:
            if any(part in ("", ".", "..") for part in name.split("/")) or "\\" in name or "\0" in name:
                raise UserError(f"{self.url}: holds an object named {name!a}, which names no file in a folder")
        self._in_parallel(functools.partial(self.download, name, folder / name, size) for name, size in sizes.items())

    def check_reachable(self) -> None:
        """Raises UserError, in the first seconds, where the bucket cannot be reached, read, or is not there."""
        self._promptly(lambda: self.sizes(".triarch/nothing"))

    def check_writable(self) -> datetime.datetime:
        """Writes a small object and removes it; returns when that was, by the server's clock.

        Raises:
          UserError: it cannot be written; in the first seconds, whatever the bucket does.
        """
        name = temporary_path(Path("probe")).name
        probe = f".triarch/{name}"

        def write() -> datetime.datetime:
            self.write(probe, b"triarch\n")
            try:
                return self.modified(probe)
            finally:
                self.remove([probe])

        return self._promptly(write)

    def _promptly(self, call: Callable[[], T]) -> T:
        pool = concurrent.futures.ThreadPoolExecutor(1)
        future = pool.submit(call)
        try:
            return future.result(_FIRST_SECONDS)
        except concurrent.futures.TimeoutError:
            raise UserError(
                f"{self.url}: no answer within {_FIRST_SECONDS:.0f} s: are network and credentials right?"
            ) from None
        finally:
            pool.shutdown(wait=False)

    @staticmethod
    def _in_parallel(calls: Iterable[Callable[[], Any]]) -> None:
        """Makes calls, several at a time; raises what the first that fails does, once all have ended."""
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            for future in [pool.submit(call) for call in calls]:
                future.result()

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _tried(self, done: str, call: Callable[[], T], name: str = "") -> T:
        """Calls, again while it fails in ways that may pass.

        Raises:
          FileNotFoundError: there is no such object, of what was to be read.
          UserError: it may not be done, or fails as often as it was tried.
        """
        place = f"{self.url}/{name}" if name else self.url
        for pause in (*_PAUSES, None):
            try:
                return call()
            except UserError:
                raise
            except FileNotFoundError as error:
                if done == "read":
                    raise
                raise UserError(f"{place}: cannot be written: no such bucket ({_reason(error)})") from None
            except Exception as error:  # Every store has errors of its own.
                if pause is None or isinstance(error, _HOPELESS) or _is_refusal(error):
                    raise UserError(f"{place}: cannot be {done}: {_reason(error)}") from None
            time.sleep(pause)
        raise AssertionError


def _is_refusal(error: Exception) -> bool:
    """Whether a server said that asking again is of no use."""
    code = str(getattr(error, "code", "") or getattr(error, "status", ""))
    return code in ("400", "401", "403", "404") or "credentials" in str(error).lower()


def _reason(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(reason).strip().splitlines()[0][:300]
