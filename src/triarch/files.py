"""Reads untrusted files, and writes files whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from triarch.errors import UserError
from triarch.temporary import temporary_path

_SPECIAL = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# A folder of Hugging Face's cache, below it `snapshots/REVISION`, whose files are links to `blobs/HASH`.
_CACHED = re.compile("(models|datasets|spaces)--.+")


def check_regular(path: Path, home: Path | None = None) -> int:
    """Returns the size of a regular file; never blocks, as opening a FIFO would.

    Args:
      path: the file, or a link to it.
      home: the folder that it must not leave by way of a link; None: it may. In a folder of Hugging Face's cache,
        links to the cache's own blobs are fine.

    Raises:
      UserError: it is a device, FIFO, socket or folder, or a link that leaves `home`.
      OSError: it cannot be looked at.
    """
    status = path.stat()
    _check_kind(path, status)
    if home is not None:
        _check_inside(path, home)
    return status.st_size


def read_regular(path: Path, most_bytes: int, home: Path | None = None) -> bytes:
    """Returns the content of a regular file of limited size.

    Args:
      path: the file, or a link to it.
      most_bytes: it may have.
      home: see `check_regular`.

    Raises:
      UserError: it is a device, FIFO, socket or folder, a link that leaves `home`, or larger.
      OSError: it cannot be read.
    """
    if home is not None:
        _check_inside(path, home)
    # Between a look at the file and its opening it may become another one, and a FIFO blocks who opens it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        _check_kind(path, status)
        if status.st_size > most_bytes:
            raise UserError(f"{path}: has {status.st_size:,} bytes, expected at most {most_bytes:,}")
    except BaseException:
        os.close(descriptor)
        raise
    with open(descriptor, "rb") as file:
        return file.read(most_bytes)


def read_given(path: Path, most_bytes: int) -> bytes:
    """Returns what a file holds that the user named: a regular one, or an open one as /dev/stdin or a shell's <(...).

    Raises:
      UserError: it is another device or FIFO, a socket or a folder, or is larger than the limit.
      OSError: it cannot be read.
    """
    if not _is_open_file(path):
        return read_regular(path, most_bytes)
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise UserError(f"{path}: holds more than {most_bytes:,} bytes, expected at most that")
    return content


def regular_files(folder: Path, home: Path) -> list[Path]:
    """Returns all files below `folder`, sorted.

    Raises:
      UserError: one is a device, FIFO or socket, or a link that leaves `home` or leads nowhere, or `folder` is such a
        link itself.
    """
    _check_inside(folder, home)
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            _check_inside(path, home)
            if path.is_symlink():
                raise UserError(f"{path}: is a link to a folder, expected a file or a folder")
            found += regular_files(path, home)
        else:
            try:
                check_regular(path, home)
            except OSError as error:
                raise UserError(f"{path}: cannot be read: {error.strerror}") from None
            found.append(path)
    return found


def copy_regular(folder: Path, target: Path) -> None:
    """Copies what the files below `folder` hold to a new folder `target`; what `folder` lies in is their home.

    Raises:
      UserError: see `regular_files`.
    """
    target.mkdir()
    for path in regular_files(folder, folder.parent):
        copy = target / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def write_synced(path: Path, content: str | bytes) -> None:
    """Writes a file whose content is on the disk, not only on its way, when this returns; text as UTF-8."""
    with path.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives a path to write to, which takes the place of the file `path`, or of what it links to, once all went well.

    Devices, FIFOs and open files (/dev/stdout) keep their place: all is written through them in the end. The name ends
    as that of `path`, by which some libraries choose a format. Nothing is left behind otherwise.
    """
    if _stays(path):
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder, path.name)
            yield temporary
            with temporary.open("rb") as source, path.open("ab") as sink:
                shutil.copyfileobj(source, sink)
        return
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    temporary = temporary_path(target)
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        if error.errno and error.filename in (None, str(temporary)):  # An error of writing names no file.
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file that is either as it was or complete, whenever the process ends.

    Raises:
      OSError: it cannot be written; nothing is left behind.
    """
    with whole(path) as temporary:
        write_synced(temporary, content)


def sha256(path: Path) -> str:
    """Returns the sha256 (hex) of what a file holds."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_kind(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for is_kind, name in _SPECIAL if is_kind(status.st_mode)), "of an unknown kind")
        raise UserError(f"{path}: is {kind}, expected a regular file")


def _check_inside(path: Path, home: Path) -> None:
    # Not `resolve`, which raises RuntimeError on a loop of links.
    target, root = Path(os.path.realpath(path)), Path(os.path.realpath(home))
    homes = [root]
    for folder in (root, *root.parents):
        if folder.parent.name == "snapshots" and _CACHED.fullmatch(folder.parent.parent.name):
            homes.append(folder.parent.parent / "blobs")
    if not any(target.is_relative_to(one) for one in homes):
        raise UserError(f"{path}: a link out of {home} (to {target}) is not followed: put the file itself there")


def _stays(path: Path) -> bool:
    """Whether a file must not be replaced: a device, a FIFO, or an open file by its number."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    return _is_open_file(path) or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _is_open_file(path: Path) -> bool:
    """Whether a path that leads somewhere is an open file by its number: /dev/stdin, /dev/fd/3."""
    while path.exists() and path.is_symlink():
        path = path.parent.resolve() / path.name
        if path.is_relative_to("/proc"):
            return True
        path = path.parent / path.readlink()
    return False
