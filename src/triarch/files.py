"""Writing files so that what is there is whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from triarch.temporary import temporary_path


def write_synced(path: Path, content: str | bytes) -> None:
    """Writes a file whose content is on the disk, not only on its way, when this returns; text as UTF-8."""
    with path.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to, which takes its place once all went well.

    The name ends as that of `path`, by which some libraries choose a format. Nothing is left behind otherwise.
    """
    temporary = temporary_path(path)
    try:
        yield temporary
        temporary.replace(path)
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
